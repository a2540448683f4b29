"""``protocol.folds=K``: K runs, mean and spread, and one score over all images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semiseg.commands.train import _with_folds
from semiseg.config import compose_run
from semiseg.config.check import check_overrides
from semiseg.dashboard.compare.folds import pooled_miou
from semiseg.dashboard.compare.tables import make_sections
from semiseg.dashboard.read.diagnostics import Diagnostics
from semiseg.dashboard.read.find import find_runs
from semiseg.errors import InputError
from semiseg.sweep.folds import fold_lines
from semiseg.training.fit import train
from support.own_photos import write_photos
from support.tiny import tiny


def test_folds_alone_are_a_sweep_over_all_of_them() -> None:
    assert _with_folds(["protocol.folds=3"]) == ["-m", "protocol.folds=3", "protocol.fold=0,1,2"]
    assert _with_folds(["-m", "protocol.folds=2", "seed=0,1"]) == [
        "-m",
        "protocol.folds=2",
        "seed=0,1",
        "protocol.fold=0,1",
    ]
    for argv in (["protocol.folds=3", "protocol.fold=1"], ["protocol.folds=no"], ["protocol.folds=1"], ["seed=3"]):
        assert _with_folds(argv) == argv


@pytest.mark.parametrize(
    "given,told",
    [
        (["protocol.folds=3"], "protocol.fold=null with protocol.folds=3: expected 0 to 2"),
        (["protocol.folds=3", "protocol.fold=3"], "protocol.fold=3 with protocol.folds=3: expected 0 to 2"),
        (["protocol.fold=1"], "protocol.fold=1 needs the number of folds"),
        (["protocol.folds=1", "protocol.fold=0"], "protocol.folds=1: allowed are"),
    ],
)
def test_half_of_it_is_refused(given: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        check_overrides(given)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], list[dict]]:
    """Two methods with two folds each over the 6 labeled and 2 validation images of a folder."""
    base = tmp_path_factory.mktemp("folds")
    photos = write_photos(base / "photos")
    own = ("data=folder", f"data.root={photos}", "data.size=", "data.n_train=", "data.n_val=", "protocol=folder/all")
    folders, results = [], []
    for method in ("supervised", "mean_teacher"):
        for fold in range(2):
            overrides = tiny(
                *own, "diagnostics.panels=0", f"paths.runs={base}/runs", f"method={method}", "protocol.folds=2",
                f"protocol.fold={fold}", "max_steps=1",
            )  # fmt: skip
            cfg, folder = compose_run(overrides)
            folder.mkdir(parents=True)
            results.append(dict(train(cfg, folder, overrides)))
            folders.append(folder)
    return base, folders, results


def test_each_run_learns_from_the_others(crossed) -> None:
    _, folders, results = crossed
    assert [(r["folds"], r["fold"], r["n_labeled"], r["n_val"], r["n_unlabeled"]) for r in results[:2]] == [
        (2, 0, 4, 4, 4), (2, 1, 4, 4, 4),
    ]  # fmt: skip
    assert len({r["pool_fingerprint"] for r in results}) == 1 and len({r["data_fingerprint"] for r in results}) == 2
    assert [f.name.rpartition("_")[2] for f in folders] == ["fold0", "fold1"] * 2


def test_the_sweep_says_mean_spread_and_the_score_over_all_images(crossed) -> None:
    _, folders, results = crossed
    lines = fold_lines(folders)
    mean = np.mean([r["miou"]["last"] for r in results[:2]])
    assert len(lines) == 2 and f"mIoU {100 * mean:.2f} ± " in lines[0] and lines[0].endswith("over all 8 images")
    assert fold_lines(folders[:1]) == []


def test_the_report_averages_folds_as_it_does_seeds(crossed) -> None:
    base, _, results = crossed
    runs = find_runs([base / "runs"])
    (section,) = make_sections(runs)
    assert [g.label for g in section.groups] == ["supervised · 2 folds", "mean_teacher · 2 folds"]
    group = section.groups[1]
    assert len(group.runs) == 2 and not group.repeated
    assert group.miou_last.mean == pytest.approx(np.mean([r["miou"]["last"] for r in results[2:]]))
    assert group.miou_last.std is not None and group.delta_last.n == 2
    assert any("mIoU over all 8 images at the last step" in remark for remark in section.remarks)


def test_one_score_over_all_images_by_hand() -> None:
    def found(confusion: list[list[int]], classes: tuple[str, ...] = ("a", "b", "c")) -> Diagnostics:
        nothing = np.zeros(1, np.int64)
        return Diagnostics(1, "student", 1, classes, np.array(confusion), nothing, nothing, nothing.astype(float), ())

    one, other = found([[3, 1, 0], [0, 0, 0], [0, 0, 0]]), found([[1, 0, 0], [2, 2, 0], [0, 0, 0]])
    assert pooled_miou([one, other]) == pytest.approx((4 / 7 + 2 / 5) / 2)
    assert pooled_miou([one, None]) is None and pooled_miou([]) is None
    assert pooled_miou([one, found([[1, 0], [0, 1]], ("a", "b"))]) is None
