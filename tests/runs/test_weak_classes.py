"""Classes that a run has hardly learned, on the terminal and in the report."""

from __future__ import annotations

from semiseg.runs.weak_classes import weak_classes


def test_they_are_named_with_what_to_try() -> None:
    iou = {"road": 0.9, "pole": 0.049, "sign": 0.0, "edge": 0.05, "cat": None}
    assert weak_classes(iou) == (
        "IoU below 5 %: sign 0.0 %, pole 4.9 %; try loss.class_weights=balanced, data.balance=classes, loss=ce_dice, "
        "or label more images that show them"
    )


def test_what_the_run_has_already_is_not_proposed() -> None:
    told = weak_classes({"pole": 0.01}, ["loss=focal", "+data.balance=classes", "seed=1"])
    assert told == "IoU below 5 %: pole 1.0 %; try loss.class_weights=balanced, or label more images that show them"
    everything = ["loss.class_weights=[1,2]", "data.balance=classes", "loss=ohem"]
    assert weak_classes({"pole": 0.01}, everything) == "IoU below 5 %: pole 1.0 %; label more images that show them"


def test_none_is_no_line() -> None:
    assert weak_classes({"road": 0.05, "cat": None}) == weak_classes({}) == ""


def test_many_are_cut_short() -> None:
    assert "c07 0.0 % and 4 more; try" in weak_classes({f"c{i:02}": 0.0 for i in range(12)})
