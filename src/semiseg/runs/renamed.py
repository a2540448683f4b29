"""Renamed options. The old name is rejected with a message that gives the new one."""

from __future__ import annotations

from collections.abc import Mapping

from semiseg.errors import InputError

RENAMED: Mapping[str, Mapping[str, str]] = {
    "method": {"guidedmix_paper": "guidedmix"},
}
"""Group -> old option -> new option."""


def check_renamed(group: str, option: str) -> None:
    """Reject the old name of an option.

    Raises:
        InputError: names the new option.
    """
    if new := RENAMED.get(group, {}).get(option):
        raise InputError(f"{group}={option} is now named {group}={new}; the released code's rules are {new}_released")
