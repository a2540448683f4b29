"""Converts configurations stored by earlier versions to current names, so that old runs can still be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semiseg.errors import InputError
from semiseg.runs.renamed import RENAMED

MOVED = {
    "semiseg.data.transforms.MKDViews": "semiseg.data.views.mkd.MKDViews",
    "semiseg.data.transforms.": "semiseg.data.views.transforms.",
    "semiseg.optim.": "semiseg.training.optim.",
}
"""Old and new locations of constructors; the first match applies."""

KEYS = {"strong_colours": "strong_colors", "on_labelled": "on_labeled", "token": "fill"}
"""Renamed arguments."""

VALUES = {
    ("strong_on", "labelled"): "labeled", ("strong_on", "unlabelled"): "unlabeled",
    ("token", "***"): "zero",  # the option was mistaken for a secret; the weights tell if it was "learned"
}  # fmt: skip
"""Renamed values."""

GUIDEDMIX = "semiseg.methods.guidedmix.GuidedMix"
RELEASED = {
    "mix_level": "feature", "pairing": "random", "decouple": "soft", "target_direction": "mixed", "loss": "focal",
    "ramp": 0.0, "use_mitrans": False, "detach_reference": False, "average_ignored": True,
}  # fmt: skip
"""Switches of the former class GuidedMix that correspond to GuidedMixReleased."""
PAPER = {
    "mix_level": "image", "pairing": "similar", "decouple": "soft", "target_direction": "plain", "loss": "mse",
    "average_ignored": False,
}  # fmt: skip
"""Switches of the former class GuidedMix that correspond to the current GuidedMix."""


def migrate(config: Any) -> Any:
    """Convert a stored configuration (plain containers) to current names; the input is not modified.

    Raises:
        InputError: the stored method can no longer be built.
    """
    new = _renamed(config)
    if isinstance(new, dict) and isinstance(method := new.get("method"), dict) and "mix_level" in method:
        new["method"] = _guidedmix(method)
    choices = new.get("choices") if isinstance(new, dict) else None
    if isinstance(choices, dict) and isinstance(name := choices.get("method"), str):
        choices["method"] = current_method(name, config)
    return new


def current_method(name: str, config: Mapping[str, Any]) -> str:
    """Current name of the method that a run with this stored configuration calls ``name``."""
    method = config.get("method")
    if name == "guidedmix" and isinstance(method, Mapping) and "mix_level" in method:
        return "guidedmix_released"
    return RENAMED["method"].get(name, name)


def _renamed(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {KEYS.get(key, key): _value(key, value) for key, value in node.items()}
    return [_renamed(item) for item in node] if isinstance(node, (list, tuple)) else node


def _value(key: str, value: Any) -> Any:
    if key == "_target_" and isinstance(value, str):
        return next((new + value.removeprefix(old) for old, new in MOVED.items() if value.startswith(old)), value)
    return VALUES.get((key, value), value) if isinstance(value, str) else _renamed(value)


def _guidedmix(method: dict[str, Any]) -> dict[str, Any]:
    """One of the two current classes, in place of the former class with twelve switches."""
    for target, switches in (
        ("semiseg.methods.guidedmix_released.GuidedMixReleased", RELEASED),
        (GUIDEDMIX, PAPER),
    ):
        if all(method.get(key, value) == value for key, value in switches.items()):
            dropped = {*switches, "detach_reference"}
            return {key: value for key, value in method.items() if key not in dropped} | {"_target_": target}
    raise InputError(
        f"method.mix_level={method['mix_level']} with method.target_direction={method.get('target_direction')}: these "
        "switches of GuidedMix-Net were removed; only the variants guidedmix and guidedmix_released can be built"
    )
