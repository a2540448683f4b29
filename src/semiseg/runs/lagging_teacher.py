"""A teacher that ends behind its student. Does not import torch: the report uses it too."""

from __future__ import annotations

BEHIND = 0.03
"""mIoU in [0, 1] by which a teacher may end below its student without a word."""


def lagging_teacher(student: float | None, teacher: float | None) -> str:
    """How far the teacher is behind and what to do; empty if it does not, or if there is no teacher.

    Args:
        student, teacher: mIoU at the last step, in [0, 1]; None if unknown.
    """
    if student is None or teacher is None or student - teacher < BEHIND:
        return ""
    points = 100 * (student - teacher)
    return f"{points:.1f} points behind its student: lower its max_decay, or train longer"
