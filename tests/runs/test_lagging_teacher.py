"""A teacher that ends behind its student, on the terminal and in the report."""

from __future__ import annotations

import pytest

from semiseg.runs.lagging_teacher import lagging_teacher


def test_a_lagging_teacher_is_named_with_what_to_do() -> None:
    told = "5.8 points behind its student: lower its max_decay, or train longer"
    assert lagging_teacher(0.471, 0.413) == told


@pytest.mark.parametrize(("student", "teacher"), [(0.40, 0.38), (0.40, 0.45), (0.40, None), (None, None)])
def test_a_teacher_that_keeps_up_is_no_line(student: float | None, teacher: float | None) -> None:
    assert lagging_teacher(student, teacher) == ""
