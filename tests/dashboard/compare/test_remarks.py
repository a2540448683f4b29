"""What a report says of a group beside its numbers: classes not learned, early stops, a lagging teacher."""

from __future__ import annotations

from pathlib import Path

from semiseg.dashboard.compare.tables import Section, make_sections
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.text.markdown import markdown
from support.fake_runs import write_run

WEAK = {"iou_per_class": {"disc": 0.8, "ring": 0.02, "bar": None}}


def section(root: Path) -> Section:
    (found,) = make_sections(find_runs([root]))
    return found


def test_classes_that_were_not_learned_are_named_with_what_is_untried(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, "unimatch", seed, overrides=["loss=ce_dice"], result=WEAK)
    told = "unimatch: IoU below 5 %: ring 2.0 %; try loss.class_weights=balanced, data.balance=classes, or label more"
    (remark,) = section(tmp_path).remarks
    assert remark.startswith(told)
    assert f"- {told}" in markdown([section(tmp_path)])


def test_a_mean_over_seeds_counts(tmp_path: Path) -> None:
    write_run(tmp_path, "unimatch", 0, result=WEAK)
    write_run(tmp_path, "unimatch", 1, result={"iou_per_class": {"disc": 0.8, "ring": 0.3}})
    assert section(tmp_path).remarks == ()


def test_seeds_that_stopped_early_at_other_steps_stay_one_group(tmp_path: Path) -> None:
    write_run(tmp_path, "unimatch", 0)
    early = {"stopped_early": "early stop at step 900 of 2000", "steps": 900}
    write_run(tmp_path, "unimatch", 1, result=early)
    found = section(tmp_path)
    assert [len(group.runs) for group in found.groups] == [2]
    assert found.remarks == ("unimatch: seed 1: early stop at step 900 of 2000",)


def test_a_lagging_teacher_is_named_by_the_mean_over_seeds(tmp_path: Path) -> None:
    for seed, teacher in ((0, 0.38), (1, 0.36)):
        miou = {"best": 0.42, "best_step": 2000, "last": teacher, "last_student": 0.42, "last_teacher": teacher}
        write_run(tmp_path, "mean_teacher", seed, result={"miou": miou})
    (remark,) = section(tmp_path).remarks
    assert remark == "mean_teacher: teacher 5.0 points behind its student: lower its max_decay, or train longer"
