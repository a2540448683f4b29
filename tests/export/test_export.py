"""Networks in other programs, with their card."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import semiseg
from semiseg.commands import export as command
from semiseg.commands import push as push_command
from semiseg.errors import InputError
from semiseg.export.graph import Graph, trace
from semiseg.export.templating import TEMPLATES
from support.hostile import integer_tiff, pixels, twelve_bit
from support.tiny import OPTIONS

pytestmark = pytest.mark.filterwarnings("ignore")
PACKAGES = {"onnx": "onnxruntime", "torch": "torch", "openvino": "openvino"}


def available(name: str) -> None:
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    options = OPTIONS | {"data.n_val": 9}
    found = semiseg.train("shapes", "mean_teacher", max_steps=2, runs=folder / "runs", options=options)
    return Path(found["folder"])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def wide_colors(path: Path) -> Path:
    cv2.imwrite(str(path), pixels().astype(np.uint16) * 16)
    return path


def metadata(folder: Path, form: str) -> dict:
    if form == "onnx":
        import onnx

        found = {p.key: p.value for p in onnx.load(folder / "model.onnx").metadata_props}["semiseg"]
    elif form == "torch":
        extra = {"semiseg.json": ""}
        torch.export.load(folder / "model.pt2", extra_files=extra)
        found = extra["semiseg.json"]
    else:
        import openvino

        found = openvino.Core().read_model(folder / "model.xml").get_rt_info("semiseg").astype(str)
    return json.loads(found)


@pytest.mark.parametrize("form", list(PACKAGES))
@pytest.mark.parametrize("inside", [False, True], ids=["logits", "photo_to_classes"])
def test_an_exported_file_gives_what_the_network_gives(
    form: str, inside: bool, run: Path, photo: Path, tmp_path: Path, capsys
) -> None:
    available(form)
    output, flag = tmp_path / "out", str(inside).lower()
    arguments = [f"run={run}", f"format={form}", f"output={output}", f"normalize={flag}", f"argmax={flag}"]
    assert command.main(arguments) == 0
    told = capsys.readouterr().out
    assert "agrees with PyTorch on 100.0000 % of the pixels" in told and "8 images, images of shapes/1_8" in told
    assert ("largest logit difference" in told) != inside
    stored = json.loads((output / f"{form}.json").read_text())
    assert stored["parity"]["equal_pixels"] == 1 and stored["parity"]["images"] == 8
    assert inside or stored["parity"]["largest_logit_difference"] < 1e-4

    facts = metadata(output, form)
    assert facts == stored["facts"]
    assert facts["free_axes"] == ["batch", "height", "width"] and facts["size"] is None
    assert len(facts["classes"]) == len(facts["palette"]) == 7 and len(facts["checkpoint_sha256"]) == 64
    assert (facts.get("opset") == 18) == (form == "onnx")

    program = (output / f"run_{form}.py").read_text()
    assert "import semiseg" not in program and len([line for line in program.splitlines() if line]) <= 22
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, f"run_{form}.py", str(photo), str(tmp_path / "mask.png")],
        cwd=output, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    mask, expected = np.array(Image.open(tmp_path / "mask.png")), semiseg.load(run).predict(photo)
    assert mask.shape == expected.shape and (mask == expected).mean() > 0.999


@pytest.mark.parametrize("wide", [twelve_bit, integer_tiff, wide_colors], ids=["gray", "tiff", "color"])
def test_the_program_reads_no_photo_of_more_than_8_bits(wide, tmp_path: Path) -> None:
    lines = TEMPLATES.get_template("photo.py.jinja").render()
    photo = wide(tmp_path / f"photo{'.tif' if wide is integer_tiff else '.png'}")
    scope = {"sys": SimpleNamespace(argv=["", str(photo)], exit=sys.exit), "Image": Image, "ImageOps": ImageOps}
    with pytest.raises(SystemExit, match=r"more than 8 bits; first map the values \[0, 4095\] to 0\.\.255"):
        exec(lines, scope | {"np": np, "facts": {"value_range": [0, 4095], "size": None, "normalize": True}})


def test_an_earlier_export_is_replaced_on_request_only(run: Path, tmp_path: Path) -> None:
    arguments = [f"run={run}", "format=torch", f"output={tmp_path}"]
    assert command.main(arguments) == 0
    before = (tmp_path / "model.pt2").stat().st_mtime_ns
    with pytest.raises(InputError, match="already exists"):
        command.main(arguments)
    assert (tmp_path / "model.pt2").stat().st_mtime_ns == before
    assert command.main([*arguments, "overwrite=true"]) == 0
    assert (tmp_path / "model.pt2").stat().st_mtime_ns > before


def test_a_readme_of_somebody_else_is_not_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match="is not from an export"):
        command.main([f"run={run}", "format=torch", f"output={tmp_path}"])
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_missing_package_is_named(run: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("semiseg.export.formats.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"onnx and onnxscript not installed; .* 'semiseg\[export\]'"):
        command.main([f"run={run}", f"output={tmp_path}"])


class FixedSize(torch.nn.Module):
    """Needs the size of its weights, as networks with fixed position embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.position = torch.nn.Parameter(torch.randn(3, 16, 20))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.position


def test_a_network_of_one_size_is_exported_with_a_free_batch() -> None:
    graph = Graph(FixedSize(), (0, 0, 0), (1, 1, 1), normalize=True, argmax=False)
    program, axes = next(trace(graph, (16, 20)))
    assert axes == ("batch",)
    x = torch.randint(0, 256, (3, 3, 16, 20), dtype=torch.uint8)
    assert program.module()(x).shape == (3, 3, 16, 20)


class Rounding(torch.nn.Module):
    """Takes a shortcut at sizes that divide by four."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.shape[-1] % 4 == 0 else x


def test_a_program_that_holds_for_some_sizes_only_is_not_free() -> None:
    graph = Graph(Rounding(), (0, 0, 0), (1, 1, 1), normalize=True, argmax=False)
    assert [axes for _, axes in trace(graph, (16, 20))] == [("batch",), ()]


# The card


def test_the_card_says_data_method_scores_calibration_limits(run: Path, tmp_path: Path) -> None:
    assert command.main([f"run={run}", "format=torch", f"output={tmp_path}"]) == 0
    card = (tmp_path / "README.md").read_text()
    result = json.loads((run / "result.json").read_text())
    assert card.startswith("---\nlibrary_name: semiseg\n") and "\n- mean_teacher\n---\n" in card
    for text in (
        result["labeled_ids_sha256"], f"best {100 * result['miou']['best']:.2f} %", "Expected calibration error",
        "Only 9 images", "`model.pt2`: torch", "python run_torch.py photo.jpg mask.png", "| striped disc |",
    ):  # fmt: skip
        assert text in card, text
    assert str(run) not in card and str(run.parents[5]) not in card, "a path of this machine"
    assert "hf://" not in card


def test_the_card_of_a_lone_checkpoint_says_what_is_unknown(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes((run / "checkpoints/best.ckpt").read_bytes())
    assert command.main([f"checkpoint={tmp_path / 'a.ckpt'}", "format=torch", f"output={tmp_path / 'out'}"]) == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "Unknown: no result was found" in card and "Not measured." in card
    with pytest.raises(InputError, match="output=DIR is missing"):
        command.main([f"checkpoint={tmp_path / 'a.ckpt'}"])


# The hub


class Hub:
    """A folder in place of the hub."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, []

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> str:
        self.calls.append((repo, private))
        (self.folder / repo).mkdir(parents=True, exist_ok=exist_ok)
        return f"https://hub.example/{repo}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        for file in folder_path.iterdir():
            (self.folder / repo_id / file.name).write_bytes(file.read_bytes())

    def download(self, repo_id: str, filename: str, revision: str | None = None) -> str:
        return str(self.folder / repo_id / filename)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub.download)
    return hub


def test_a_pushed_model_is_loaded_again(run: Path, hub: Hub, photo: Path, capsys) -> None:
    assert command.main([f"run={run}", "format=torch", "overwrite=true"]) == 0
    (run / "export/notes.txt").write_text("private")
    assert push_command.main([f"run={run}", "repo=me/discs"]) == 0
    assert "uploaded: https://hub.example/me/discs" in capsys.readouterr().out and hub.calls == [("me/discs", True)]
    files = {file.name for file in (hub.folder / "me/discs").iterdir()}
    assert files == {"model.ckpt", "README.md", "model.pt2", "torch.json", "run_torch.py"}
    assert 'semiseg.load("hf://me/discs")' in (hub.folder / "me/discs/README.md").read_text()

    model = semiseg.load("hf://me/discs")
    assert np.array_equal(model.predict(photo), semiseg.load(run).predict(photo))
    stored = torch.load(hub.folder / "me/discs/model.ckpt", weights_only=True)
    assert "optimizer_states" not in stored and "callbacks" not in stored
    assert not re.search(re.escape(str(run.parents[5])), repr(stored["semiseg"])), "a path of this machine"


def test_a_model_of_the_hub_is_checked_as_any_other(hub: Hub) -> None:
    (hub.folder / "me/bad").mkdir(parents=True)
    torch.save({"semiseg": {"config": {"model": {"_target_": "os.system"}}}}, hub.folder / "me/bad/model.ckpt")
    with pytest.raises(InputError):
        semiseg.load("hf://me/bad")


@pytest.mark.parametrize("words", [["repo=discs"], ["repo=a/b/c"], []])
def test_a_repository_has_an_owner_and_a_name(words: list[str], run: Path, hub: Hub) -> None:
    with pytest.raises(InputError, match="OWNER/NAME"):
        push_command.main([f"run={run}", *words])
    assert not hub.calls


def test_what_the_hub_refuses_is_one_line(run: Path, monkeypatch) -> None:
    class Refusing:
        def create_repo(self, *args, **kwargs):
            raise OSError("no network\nat all")

    monkeypatch.setattr("huggingface_hub.HfApi", Refusing)
    with pytest.raises(InputError, match=r"repo=me/x: failed \(OSError: no network at all\)"):
        push_command.main([f"run={run}", "repo=me/x"])
