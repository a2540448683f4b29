"""``semiseg data``: list, check and import data sets, choose labeled images, fetch published lists."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from semiseg.errors import InputError, suggest

ACTIONS = {
    "list": ("semiseg.commands.data_list", "known data sets and protocols, and what is available on this machine"),
    "fetch": ("semiseg.commands.data_fetch", "download the published list files"),
    "import": ("semiseg.commands.data_import", "convert labels of labelme, COCO, YOLO, Label Studio, CVAT"),
    "check": ("semiseg.commands.data_check", "open every image and mask a run would open, name every bad file"),
    "split": ("semiseg.commands.data_split", "choose the labeled images, write list files"),
}

USAGE = f"""semiseg data {" | ".join(ACTIONS)} [data=NAME key=value ...]

{"".join(f"  {name:7} {about}{chr(10)}" for name, (_, about) in ACTIONS.items())}
'semiseg data ACTION --help' says more.
"""


def main(argv: Sequence[str]) -> int:
    """Run one of the actions."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if argv[0] not in ACTIONS:
        raise InputError(f"unknown action 'data {argv[0]}': {suggest(argv[0], ACTIONS)}")
    code: int = importlib.import_module(ACTIONS[argv[0]][0]).main(argv[1:])
    return code
