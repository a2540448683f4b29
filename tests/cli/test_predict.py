"""``semiseg predict`` with a run of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import semiseg
from semiseg.commands.predict import main
from semiseg.errors import InputError
from support.tiny import OPTIONS


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)


def test_a_folder_that_grows_and_a_threshold(tmp_path: Path, capsys) -> None:
    run = semiseg.train("shapes", "mean_teacher", max_steps=2, runs=tmp_path / "runs", options=OPTIONS)["folder"]
    save(tmp_path / "photos/a.png", 0)
    arguments = [f"run={run}", f"source={tmp_path / 'photos'}", f"output={tmp_path / 'out'}"]
    assert main([*arguments, "threshold=1", "confidence=true"]) == 0
    assert "1 image segmented" in capsys.readouterr().out
    assert (np.array(Image.open(tmp_path / "out/index/a.png")) == 255).all()
    record = json.loads((tmp_path / "out/predict.json").read_text())
    assert record["threshold"] == 1 and len(record["checkpoint_sha256"]) == 64 and len(record["classes"]) == 7

    save(tmp_path / "photos/b.png", 1)
    assert main([*arguments, "threshold=1", "confidence=true"]) == 0
    assert "1 image segmented" in (told := capsys.readouterr().out) and "1 already existed" in told
    with pytest.raises(InputError, match="threshold differ"):
        main(arguments)
    with pytest.raises(InputError, match="network differ"):
        main([*arguments, "threshold=1", "network=student"])
    with pytest.raises(InputError, match=r"threshold=2\.0: allowed are numbers from 0 to 1"):
        main([*arguments, "threshold=2"])


def test_only_images_without_a_mask(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for k in range(8):
        save(data / f"images/{k}.png", k)
        if k < 5:
            (data / "masks").mkdir(exist_ok=True)
            Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(40, 30) % 2).save(data / f"masks/{k}.png")
    (data / "classes.yaml").write_text("- {name: a}\n- {name: b}\n")
    options = {k: v for k, v in OPTIONS.items() if k.partition(".")[0] not in ("data", "protocol")}
    run = semiseg.train(data, "supervised", max_steps=2, runs=tmp_path / "runs", options=options)["folder"]
    output = tmp_path / "out"
    assert main([f"run={run}", f"source={data / 'images'}", f"output={output}", "unlabeled_only=true"]) == 0
    assert {path.stem for path in (output / "index").iterdir()} == {"5", "6", "7"}


def test_images_above_the_limit_are_asked_for_by_the_command_line(tmp_path: Path, capsys) -> None:
    run = semiseg.train("shapes", "mean_teacher", max_steps=2, runs=tmp_path / "runs", options=OPTIONS)["folder"]
    save(tmp_path / "photos/a.png", 0)  # 1200 pixels
    arguments = [f"run={run}", f"source={tmp_path / 'photos'}", f"output={tmp_path / 'out'}"]
    assert main([*arguments, "max_pixels=1199"]) == 1
    told = capsys.readouterr()
    assert "max_pixels=1200" in told.out + told.err and not (tmp_path / "out/index/a.png").exists()
    assert main([*arguments, "max_pixels=1200"]) == 0
    assert (tmp_path / "out/index/a.png").exists()
    with pytest.raises(InputError, match="max_pixels=0: allowed are whole numbers from 1"):
        main([*arguments, "max_pixels=0"])
