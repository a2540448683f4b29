"""Distillation of a finished teacher into a small student: pseudo-labels, a supervised run, and a comparison."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
import yaml

from semiseg.api.runs import Run, train_overrides, written
from semiseg.config import compose_config, conf_dir
from semiseg.config.settings import Settings, stored_settings
from semiseg.config.stored import plain
from semiseg.errors import InputError
from semiseg.labeling.pseudo_labels import make_pseudo_labels
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.runs.files import file_sha256, write_json
from semiseg.runs.folder import LEVELS, RunFolder, differing_keys
from semiseg.training.assemble import list_data
from semiseg.training.evaluate import evaluate
from semiseg.training.predictor import Predictor, load_predictor

FILE = "distill.json"
"""File in the student's run folder with the comparison of both networks."""
SECTIONS = (
    "data", "protocol", "crop_size", "max_steps", "epochs", "val_every", "val_subset", "batch.labeled", "seed", "study",
    "loss", "eval", "trainer", "loader",
)  # fmt: skip
"""What the student inherits from the configuration of the teacher. Views and optimizer are its own."""
TIMED = 8  # timed images, after one warm-up image


class Side(TypedDict):
    """One of the two networks: mIoU in [0, 1], milliseconds per image (median)."""

    run: str
    checkpoint_sha256: str
    method: str
    model: str
    network: str
    miou: float | None
    parameters: int
    ms_per_image: float


class Distilled(TypedDict):
    """Teacher and student on the same validation images; where the times were measured."""

    teacher: Side
    student: Side
    pseudo_labels: dict[str, Any]
    n_val: int
    device: str
    threads: int
    image_size: list[int]
    folder: str


def distill(
    checkpoint: Path,
    model: str,
    overrides: Sequence[str] = (),
    *,
    run: Path | None = None,
    threshold: float = 0.9,
    progress: bool = False,
) -> Distilled:
    """Train a student on the labels of a run and on its network's pseudo-labels of the unlabeled images.

    Called again, it uses the pseudo-labels that are there and goes on with the student's run.

    Args:
        checkpoint: checkpoint of the teacher.
        model: network of the student.
        overrides: for the student's run, as for ``semiseg train``.
        run: folder of the teacher's run; None: that of the checkpoint.
        threshold: minimum probability for a pixel to get a pseudo-label.
        progress: show progress bars.

    Raises:
        InputError: before anything is trained. RunFailed, KeyboardInterrupt: as ``semiseg.train``.
    """
    loaded = load_checkpoint(checkpoint)
    config = loaded["semiseg"]["config"]
    own = [o for o in overrides if o.startswith(("data.root=", "trainer.accelerator="))]
    settings = stored_settings(config, own)
    if settings.pseudo_labels is not None:
        raise InputError(f"{checkpoint} was taught by pseudo-labels itself: give the run of its teacher")
    folder = run or checkpoint.absolute().parents[1]
    typed = dict(o.lstrip("+").partition("=")[::2] for o in overrides)
    runs, study = _place(folder, config, typed)
    student = [*taken_over(config), "method=supervised", f"model={model}", *written({"paths.runs": runs})]
    student = _replaced(student, [*overrides, f"study={study}"])
    compose_config(student)  # report errors in it before the teacher runs

    data = list_data(settings)
    data.dataset.adopt_range(loaded["semiseg"].get("value_range"))
    predictor = load_predictor(settings, loaded, checkpoint)
    sha256 = file_sha256(checkpoint)
    labels = make_pseudo_labels(
        predictor,
        data.dataset,
        data.partition.unlabeled,
        Path(runs) / study / "pseudo_labels" / f"{sha256[:8]}_{threshold:g}",
        threshold=threshold,
        teacher={"run": RunFolder(folder).name, "checkpoint_sha256": sha256, "step": int(loaded["global_step"])},
        progress=progress,
    )
    trained = train_overrides(_replaced(student, written({"pseudo_labels": labels.folder})))
    return _side_by_side(trained, checkpoint, folder, settings, loaded, predictor, labels.record, data.val_ids)


def taken_over(config: Mapping[str, Any]) -> list[str]:
    """The overrides that give a run the data, the length and the evaluation of another.

    Args:
        config: of the other, as plain containers, not resolved.
    """
    choices = config["choices"]
    chosen = [f"data={choices['data']}", f"protocol={config['protocol']['name']}"]
    chosen += [f"{group}={_option(group, config[group])}" for group in ("eval", "loss")]
    ours = plain(compose_config(chosen))
    given: dict[str, Any] = {}
    for section in SECTIONS:
        theirs, mine = _at(config, section), _at(ours, section)
        if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
            leaves = _leaves(theirs)
            given |= {f"{section}.{k}": v for k, v in leaves.items() if _leaves(mine).get(k, ours) != v}
        elif theirs != mine and not isinstance(mine, Mapping):  # a run of an earlier version may lack a section
            given[section] = theirs
    return [*chosen, *written({k: v for k, v in given.items() if "_target_" not in k})]


def _option(group: str, node: Mapping[str, Any]) -> str:
    """The option of a group that a stored node most likely comes from."""
    options = {
        p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in sorted((conf_dir() / group).glob("*.yaml"))
    }
    same = {name: found for name, found in options.items() if found.get("_target_") == node["_target_"]}
    if not same:
        raise InputError(f"{group}: no option has the target {node['_target_']}")
    return min(same, key=lambda name: len(differing_keys({**same[name], "defaults": None}, {**node, "defaults": None})))


def _at(config: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None  # type: ignore[assignment]
    return config


def _leaves(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys with values that are not mappings."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        below = f"{prefix}{key}"
        found |= _leaves(value, f"{below}.") if isinstance(value, Mapping) else {below: value}
    return found


def _replaced(overrides: Sequence[str], later: Sequence[str]) -> list[str]:
    """All overrides; for equal keys the later one counts."""
    keys = {o.lstrip("+").partition("=")[0] for o in later}
    return [*(o for o in overrides if o.lstrip("+").partition("=")[0] not in keys), *dict.fromkeys(later)]


def _place(folder: Path, config: Mapping[str, Any], typed: Mapping[str, str]) -> tuple[str, str]:
    """The folder of runs and the study: those of the teacher, unless overridden."""
    run = RunFolder(folder)
    at_home = run.place.get("study") == config["study"] and run.place.get("model") == config["choices"]["model"]
    runs = typed.get("paths.runs") or (str(run.above[len(LEVELS) - 1]) if at_home else "runs")
    return runs, typed.get("study") or str(config["study"])


def _side_by_side(
    trained: Run,
    checkpoint: Path,
    folder: Path,
    settings: Settings,
    loaded: Mapping[str, Any],
    teacher: Predictor,
    record: dict[str, Any],
    val_ids: Sequence[str],
) -> Distilled:
    path = RunFolder(Path(trained["folder"])).checkpoint("best")
    student_loaded = load_checkpoint(path)
    student_settings = stored_settings(student_loaded["semiseg"]["config"])
    student = load_predictor(student_settings, student_loaded, path, device=str(teacher.device))
    images = [list_data(settings).dataset.load_image(i) for i in val_ids[:TIMED]]
    sides: list[Side] = []
    for network, s, c, p, where in (
        (teacher, settings, loaded, checkpoint, folder),
        (student, student_settings, student_loaded, path, Path(trained["folder"])),
    ):
        scores = evaluate(s, c, p)
        name = list(scores["miou"])[-1]
        sides.append(
            Side(
                run=RunFolder(where).name,
                checkpoint_sha256=file_sha256(p),
                method=s.method,
                model=s.model,
                network=name,
                miou=scores["miou"][name],
                parameters=sum(w.numel() for w in network.network.parameters()),
                ms_per_image=1e3 * _seconds(network, images),
            )
        )
    found = Distilled(
        teacher=sides[0],
        student=sides[1],
        pseudo_labels=record,
        n_val=len(val_ids),
        device=str(teacher.device),
        threads=torch.get_num_threads(),
        image_size=list(images[0].shape[:2]),
        folder=trained["folder"],
    )
    write_json(Path(trained["folder"]) / FILE, found)
    return found


def _seconds(network: Predictor, images: Sequence[Any]) -> float:
    """Median time per image, from pixels to classes."""
    network.masks(images[0][None])
    times = []
    for image in images:
        start = time.perf_counter()
        network.masks(image[None])
        times.append(time.perf_counter() - start)
    return statistics.median(times)
