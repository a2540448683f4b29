"""The command line in process: exit codes, one-line errors, and that a bad start leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semiseg.runs.result import read_result
from support.own_photos import write_photos
from support.tiny import tiny

TINY = tiny("data.n_val=4", "model.width=8")


def only_run(folder: Path) -> Path:
    (found,) = folder.rglob("result.json")
    return found.parent


@pytest.mark.parametrize(
    "arguments,expected",
    [
        (["trian"], "unknown command 'trian': did you mean 'train'?"),
        (["train", "method=unimach"], "unknown method 'unimach': did you mean 'unimatch'?"),
        (["train", "-m", "method=supervised,unimach"], "unknown method 'unimach': did you mean 'unimatch'?"),
        (["train", "protocol=shapes/1_31"], "unknown protocol 'shapes/1_31': did you mean"),
        (["train", "model=deeplabv3plus_r5"], "did you mean 'deeplabv3plus_r50'?"),
        (["train", "metod=unimatch"], "unknown key 'metod': did you mean 'method'?"),
        (["train", "max_step=4"], "unknown key 'max_step': did you mean 'max_steps'?"),
        (["train", "lr=0.1"], "unknown key 'lr': did you mean 'optim.lr'?"),
        (["train", "optim.l=0.1"], "unknown key 'optim.l': did you mean 'optim.lr'?"),
        (["train", "method=unimatch", "method.conf_treshold=0.5"], "did you mean 'method.conf_threshold'?"),
        (["train", "max_steps=many"], "max_steps=many: allowed are whole numbers from 1"),
        (["train", "max_steps=0"], "max_steps=0: allowed are whole numbers from 1"),
        (["train", "epochs=2", "max_steps=3"], "max_steps=3 and epochs=2: give one of them"),
        (["train", "crop_size=[0,64]"], "crop_size=[0, 64]: allowed are whole numbers from 1"),
        (["train", "crop_size=8"], "crop_size=[8, 8]: the coarsest map"),
        (["train", "batch.labeled=0"], "batch.labeled=0: allowed are whole numbers from 1"),
        (["train", "trainer.precision=8"], "trainer.precision=8: allowed: 16-mixed, 32-true, bf16-mixed"),
        (["train", "protocol=camvid/1_8"], "add data=camvid"),
        (["train", "data=camvid"], "data.root is not set"),
        (["train", "data=camvid", "data.root=nowhere"], "nowhere"),
        (["train", "+optim.nesterov=true"], "unknown key 'optim.nesterov' for semiseg.training.optim.SGDPoly"),
        (["train", "optim.lr=-1"], "optim.lr=-1: allowed are numbers above 0"),
        (
            ["train", "method=mean_teacher", "method.mixing=cut"],
            "method.mixing=cut: did you mean 'cutmix'? allowed: classmix, cutmix, none",
        ),
        (["train", "method=mean_teacher", "method.ema.decay.max_decay=2"], "max_decay=2"),
        (["train", "protocol.fraction=null"], "protocol."),
        (["train", "protocol.fraction=null", "protocol.count=0"], "protocol.count=0"),
        (["train", "protocol.fraction=2"], "protocol.fraction"),
        (["train", "protocol.val_split=vall"], "vall"),
        (["train", "model=deeplabv3plus_r18", "model.weights=there.pth"], "there.pth"),
        (["train", "--bogus"], "cannot read the arguments"),
        (["evaluate"], "give either run=DIR or checkpoint=FILE"),
        (["evaluate", "checkpoint=none.ckpt"], "checkpoint none.ckpt does not exist"),
        (["evaluate", "run=nowhere"], "run=nowhere contains no checkpoints/best.ckpt"),
        (["predict", "checkpoint=a"], "source= is missing"),
        (["report", "nowhere"], "nowhere"),
        (["report"], "needs folders of runs"),
        (["data", "chek"], "unknown action 'data chek': did you mean 'check'?"),
        (["data", "list", "data=vok"], "unknown data 'vok'"),
        (["data", "list", "dat=camvid"], "unknown argument 'dat=camvid': did you mean 'data'?"),
        (["data", "fetch"], "allowed: ade20k, cityscapes, coco, pascal_context, voc"),
        (["data", "fetch", "camvid"], "'camvid' has no published lists"),
        (["data", "fetch", "voc"], "data.root=DIR is missing"),
        (["data", "fetch", "voc", "data.root=nowhere"], "data.root=nowhere: no such folder"),
        (["data", "fetch", "voc", "partition=voc/clasic_92"], "did you mean 'voc/classic_92'?"),
        (["data", "split", "count=4"], "output=DIR is missing"),
        (["data", "split", "count=x", "output=lists"], "count=x: allowed are"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_input_is_one_line_and_code_2(call, arguments: list[str], expected: str, tmp_path: Path) -> None:
    code, _, err = call(*arguments)
    lines = [line for line in err.splitlines() if line.strip()]
    assert code == 2, err
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    assert expected in lines[0]
    assert not list(tmp_path.iterdir()), "a refused command left something behind"


def test_help_and_lists_work_without_arguments(call) -> None:
    assert call()[0] == 0
    for command in ("train", "evaluate", "predict", "export", "push", "report", "data"):
        code, out, _ = call(command, "--help")
        assert code == 0 and f"semiseg {command}" in out
    assert {"supervised", "unimatch"} <= {line.split()[0] for line in call("methods")[1].splitlines()}
    assert "camvid/1_8" in call("data", "list")[1]
    assert call("--version")[1].strip()


def test_train_evaluate_predict_report(call, tmp_path: Path) -> None:
    code, _, err = call("train", *TINY, "method=mean_teacher")
    assert code == 0, err
    run = only_run(tmp_path)
    assert run.relative_to(tmp_path).as_posix().startswith("runs/default/shapes/1_8/mean_teacher/tiny/seed_0_")
    for name in ("config.yaml", "overrides.yaml", "metrics.csv", "log.txt", "checkpoints/best.ckpt", "images"):
        assert (run / name).exists(), name
    assert "2 labeled, 14 unlabeled, 4 validation images" in err and "sha256" in err and str(run.name) in err
    result = read_result(run)
    assert result["method"] == "mean_teacher" and result["model"] == "tiny" and result["protocol"] == "shapes/1_8"

    code, _, err = call("train", *TINY, "method=mean_teacher")
    assert code == 0 and "already complete" in err

    code, out, err = call("evaluate", f"run={run}", "which=last", "output=scores.json")
    assert code == 0, err
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["miou"]["teacher"] == pytest.approx(result["miou"]["last_teacher"])
    assert scores["miou"]["student"] == pytest.approx(result["miou"]["last_student"])
    assert "mIoU teacher" in out
    assert call("evaluate", f"run={run}", "eval=sliding", "eval.window=[24,24]")[0] == 0
    code, _, err = call("evaluate", f"run={run}", "eval=slidin")
    assert code == 2 and "did you mean 'sliding'?" in err
    code, _, err = call("evaluate", f"run={run}", "method=supervised")
    assert code == 2 and "was trained with method MeanTeacher" in err
    code, _, err = call("evaluate", f"run={run}", "model=segformer_b0")
    assert code == 2 and "has another model" in err

    (tmp_path / "photos").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)).save(tmp_path / "photos/a.png")
    checkpoint = f"checkpoint={run}/checkpoints/best.ckpt"
    code, out, err = call("predict", checkpoint, "source=photos", "output=out", "network=student")
    assert code == 0, err
    assert Image.open(tmp_path / "out/index/a.png").size == (30, 40)
    (tmp_path / "photos/b.png").write_bytes(b"no image")
    code, out, _ = call("predict", checkpoint, "source=photos", "output=out2", "probabilities=true")
    assert code == 1 and "skipped photos/b.png" in out
    code, _, err = call("predict", checkpoint, "source=photos", "output=out3", "network=techer")
    assert code == 2 and "did you mean 'teacher'?" in err

    code, out, _ = call("report", "runs")
    assert code == 0 and "mean_teacher" in out and (tmp_path / "runs/report.html").exists()


def test_a_sweep_runs_every_combination_and_reports_their_numbers(call, forked_jobs, tmp_path: Path) -> None:
    code, _, err = call("train", "-m", *TINY, "method=supervised,fixmatch", "seed=0,1", "max_steps=1", "val_every=1")
    assert code == 0, err
    found = {(r["method"], r["seed"]) for r in map(read_result, (p.parent for p in tmp_path.rglob("result.json")))}
    assert found == {(m, s) for m in ("supervised", "fixmatch") for s in (0, 1)}


def test_a_folder_of_another_configuration_is_left_alone(call, tmp_path: Path) -> None:
    assert call("train", *TINY, "study=a")[0] == 0
    run = only_run(tmp_path)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.01", "lr: 0.02"))
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    code, _, err = call("train", *TINY, "study=a")
    assert code == 2 and "belongs to another configuration: optim.lr is 0.02 there and 0.01 here" in err
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert call("train", *TINY, "study=a", "overwrite=true")[0] == 0
    assert "lr: 0.01" in config.read_text()


def test_a_checkpoint_of_another_model_is_not_resumed(call, tmp_path: Path) -> None:
    assert call("train", *TINY, "study=a")[0] == 0
    a = only_run(tmp_path)
    wide = tiny("data.n_val=4", "model.width=16", "study=b")
    assert call("train", *wide)[0] == 0
    (b,) = (p.parent for p in (tmp_path / "runs/b").rglob("result.json"))
    (b / "result.json").unlink()
    shutil.copy(a / "checkpoints/last.ckpt", b / "checkpoints/last.ckpt")
    code, _, err = call("train", *wide)
    assert code == 2 and "has another model: model.width is 8 there and 16 here" in err
    for name in ("last", "previous"):
        (b / f"checkpoints/{name}.ckpt").write_bytes(b"half a file")
    code, _, err = call("train", *wide)
    assert code == 2 and "cannot be read" in err and "overwrite=true" in err


def test_a_checkpoint_with_another_number_of_classes_is_refused(call, tmp_path: Path) -> None:
    assert call("train", *TINY)[0] == 0
    run = only_run(tmp_path)
    own = tmp_path / "own"
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (own / kind / split).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(own / f"images/{split}/{split}{i}.png")
            Image.fromarray(np.full((32, 32), i, np.uint8)).save(own / f"masks/{split}/{split}{i}.png")
    (own / "classes.yaml").write_text("- {name: ground, color: [0, 0, 0]}\n- {name: thing, color: [255, 0, 0]}\n")
    code, _, err = call("evaluate", f"run={run}", "data=folder", f"data.root={own}", "protocol=folder/all")
    assert code == 2 and "has 7 classes, the data set has 2" in err


def test_a_disk_that_cannot_be_written_to(call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, err = call("train", *TINY, "paths.runs=file/runs")
    assert code == 2 and "file/runs" in err and "Traceback" not in err


def test_a_batch_larger_than_the_labeled_list_repeats_it(call) -> None:
    code, _, err = call("train", *tiny("batch.labeled=5"))
    assert code == 0, err


def test_a_run_that_fails_says_one_line(call) -> None:
    """Hydra would put a line of its own ahead: "Error executing job with overrides"."""
    code, _, err = call("train", *TINY, "optim.lr=1e30", "max_steps=30")
    lines = err.splitlines()
    assert code == 1 and lines[-1].startswith("error: "), err
    assert "Error executing job" not in err and "Traceback" not in err
    assert sum("error" in line.lower() for line in lines) == 1


def pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["classes.yaml", "train.txt", "val.txt"])
def test_a_pipe_in_place_of_a_file_of_a_data_folder_is_refused(name: str, call, tmp_path: Path) -> None:
    write_photos(tmp_path / "d")
    (tmp_path / "d/images/train").rename(tmp_path / "d/images/a")  # lists count where no folder is a split
    (tmp_path / "d/masks/train").rename(tmp_path / "d/masks/a")
    (tmp_path / "d/val.txt").write_text("val/val0\nval/val1\n")
    pipe(tmp_path / "d" / name)
    drawn = ("data.size=", "data.n_train=", "data.n_val=")
    overrides = tiny(*drawn, "data=folder", "data.root=d", "protocol=folder/all")
    code, _, err = call("train", *overrides)
    assert code == 2 and err.count("\n") == 1 and f"{name}: a pipe, a socket or a device, expected a file" in err


@pytest.mark.parametrize(
    "name,arguments",
    [
        ("list.txt", ["train", *TINY, "protocol.labeled=list.txt", "protocol.fraction=null"]),
        ("x.ckpt", ["evaluate", "checkpoint=x.ckpt"]),
        ("r/checkpoints/best.ckpt", ["evaluate", "run=r"]),
        ("r/checkpoints/best.ckpt", ["predict", "run=r", "source=.", "output=o"]),
        ("s/sweep.json", ["worker", "s"]),
        ("w.pth", ["train", *tiny("model.width="), "crop_size=64", "model=segformer_b0", "model.weights=w.pth"]),
    ],
)
def test_a_pipe_in_place_of_a_file_that_is_named_is_refused(name, arguments, call, tmp_path: Path) -> None:
    pipe(tmp_path / name)
    code, _, err = call(*arguments)
    assert code == 2 and err.count("\n") == 1, err
    assert "a pipe, a socket or a device" in err or "no such file" in err


@pytest.mark.parametrize("name", ["config.yaml", "result.json", "data.json", "progress.json", "checkpoints/last.ckpt"])
def test_a_pipe_in_a_run_folder_is_refused(name: str, call, tmp_path: Path) -> None:
    assert call("train", *TINY)[0] == 0
    folder = only_run(tmp_path)
    if name == "checkpoints/last.ckpt":
        (folder / "result.json").unlink()
        (folder / "checkpoints/previous.ckpt").unlink(missing_ok=True)
    pipe(folder / name)
    code, _, err = call("train", *TINY)
    assert code == 2 and f"{name}" in err and len(err.splitlines()) <= 2, err
