"""``init=``: a run that starts from the weights of an earlier model."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from semiseg.commands.evaluate import main as evaluate
from semiseg.config import compose_config, compose_run
from semiseg.config.check import check_overrides
from semiseg.config.settings import read_settings
from semiseg.errors import InputError
from semiseg.methods.base import SemiMethod
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.training.assemble import assemble
from support import breaking
from support.own_photos import write_classes, write_mask, write_photos
from support.tiny import tiny


def own(root: Path, *more: str) -> list[str]:
    keys = ("data=folder", f"data.root={root}", "data.size=", "data.n_train=", "data.n_val=", "protocol=folder/all")
    return tiny(*keys, "diagnostics.panels=0", *more)


def run(folder: Path, *overrides: str) -> dict:
    return breaking.run(folder, overrides)


def method(*overrides: str) -> SemiMethod:
    return assemble(read_settings(compose_config(list(overrides)))).method


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoints/best.ckpt")["state_dict"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


@pytest.fixture
def earlier(photos: Path, tmp_path: Path) -> Path:
    run(tmp_path / "earlier", *own(photos, "method=mean_teacher"))
    return tmp_path / "earlier"


def test_classes_are_matched_by_name_and_new_ones_are_new(photos: Path, earlier: Path, caplog) -> None:
    theirs = state(earlier)
    write_classes(photos, ("sky", "cloud", "ground"))
    fresh = method(*own(photos)).student.state_dict()
    ours = method(*own(photos, f"init={earlier}")).student.state_dict()
    for name, tensor in ours.items():
        if not name.startswith("classifier."):
            assert torch.equal(tensor, theirs[f"teacher.{name}"]), name
            continue
        reported = theirs[f"teacher.{name}"]  # the network that the earlier method reports; ground, thing, sky
        assert torch.equal(tensor[0], reported[2]) and torch.equal(tensor[2], reported[0])
        assert torch.equal(tensor[1], fresh[name][1])
    caplog.set_level("INFO")
    run(earlier.parent / "new", *own(photos, f"init={earlier}", "max_steps=1"))
    assert (
        f"init      {earlier}, step 2: 2 of 3 classes by name (sky, ground); new: cloud; left out: thing" in caplog.text
    )


@pytest.mark.parametrize("name", ["mean_teacher", "stpp", "corrmatch", "u2pl", "allspark"])
def test_every_network_of_a_method_starts_from_it(name: str, photos: Path, earlier: Path) -> None:
    theirs = state(earlier)
    crop = "crop_size=[64,64]"
    new = method(*own(photos, f"method={name}", f"init={earlier}", crop))
    for network in new.evaluated().values():
        for key in ("encoder.", "decoder.", "classifier."):
            found = {n: t for n, t in network.state_dict().items() if n.startswith(key)}
            assert found and all(torch.equal(t, theirs[f"teacher.{n}"]) for n, t in found.items())


def test_two_students_that_teach_each_other_begin_apart(photos: Path, earlier: Path, tmp_path: Path) -> None:
    new = method(*own(photos, "method=mkd", f"init={earlier}"))
    a, b = new.student.state_dict(), new.student_b.state_dict()
    assert torch.equal(a["classifier.weight"], state(earlier)["teacher.classifier.weight"])
    assert not torch.equal(a["classifier.weight"], b["classifier.weight"])
    assert all(torch.equal(t, new.teacher_b.state_dict()[n]) for n, t in b.items())
    run(tmp_path / "two", *own(photos, "method=cps"))
    both = method(*own(photos, "method=cps", f"init={tmp_path / 'two'}")).state_dict()
    assert all(torch.equal(t, both[n]) for n, t in state(tmp_path / "two").items() if n.startswith("student"))


def test_killed_and_resumed_equals_unbroken(photos: Path, earlier: Path, tmp_path: Path) -> None:
    overrides = own(photos, f"init={earlier}", "max_steps=4", "trainer.save_every=1")
    breaking.run(tmp_path / "unbroken", overrides)
    breaking.broken_run(tmp_path / "broken", overrides, at=3)
    breaking.assert_equal_weights(tmp_path / "unbroken", tmp_path / "broken")


def test_the_hash_of_the_weights_is_part_of_the_identity(photos: Path, earlier: Path, tmp_path: Path, caplog) -> None:
    folder = tmp_path / "new"
    run(folder, *own(photos, f"init={earlier}"))
    digest = load_checkpoint(folder / "checkpoints/last.ckpt")["semiseg"]["config"]["init_sha256"]
    assert len(digest) == 64
    place = compose_run(own(photos, f"init={earlier}"))[1]
    assert place != compose_run(own(photos))[1]
    moved = earlier.rename(tmp_path / "elsewhere")
    assert compose_run(own(photos, f"init={moved}"))[1] == place
    caplog.set_level("INFO")
    run(folder, *own(photos, f"init={moved}"))
    assert "already complete" in caplog.text
    shutil.copy(moved / "checkpoints/last.ckpt", tmp_path / "other.ckpt")
    other = load_checkpoint(tmp_path / "other.ckpt")
    torch.save(other | {"global_step": 7}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=f"another configuration: init_sha256 is {digest} there"):
        run(folder, *own(photos, f"init={tmp_path / 'other.ckpt'}"))
    assert compose_run(own(photos, f"init={tmp_path / 'other.ckpt'}"))[1] != place
    shutil.rmtree(moved)  # who uses the new model does not need the old one
    assert evaluate([f"run={folder}"]) == 0


def test_another_architecture_is_refused_in_one_line(photos: Path, earlier: Path) -> None:
    with pytest.raises(InputError, match=r"init=\S+ has another architecture: model.width is 4 there and 8 here"):
        method(*own(photos, f"init={earlier}", "model.width=8"))
    lite = own(photos, f"init={earlier}", "model=deeplabv3plus_lite0", "model.width=", "model.weights=package")
    with pytest.raises(InputError, match="another architecture: model is tiny there and deeplabv3plus here"):
        method(*lite)


def test_what_is_no_model_is_refused_before_anything_starts(photos: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Evil()))
    torch.save({"semiseg": Evil()}, tmp_path / "archive.ckpt")
    for name in ("evil", "archive"):
        with pytest.raises(InputError, match="cannot be read"):
            run(tmp_path / "run", *own(photos, f"init={tmp_path}/{name}.ckpt"))
    assert not (tmp_path / "touched").exists() and not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="init=nowhere does not exist"):
        check_overrides(own(photos, "init=nowhere"))
    with pytest.raises(InputError, match=r"contains no checkpoints/best\.ckpt"):
        check_overrides(own(photos, f"init={photos}"))
    with pytest.raises(InputError, match="init_sha256 cannot be set"):
        check_overrides(own(photos, "init_sha256=abc"))


def test_added_labels_say_what_changed_and_propose_it(photos: Path, earlier: Path) -> None:
    for i in (6, 7):
        write_mask(photos, "train", i)
    with pytest.raises(InputError, match=f"2 labeled images more.*; with study=NAME, init={earlier} starts from its"):
        run(earlier, *own(photos, "method=mean_teacher"))
    result = run(earlier.parent / "new", *own(photos, "method=mean_teacher", f"init={earlier}"))
    assert result["n_labeled"] == 8 and json.loads((earlier / "result.json").read_text())["n_labeled"] == 6


def test_images_are_normalized_as_the_earlier_model_saw_them(photos: Path, earlier: Path) -> None:
    path = earlier / "checkpoints/best.ckpt"
    checkpoint = load_checkpoint(path)
    checkpoint["semiseg"] |= {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "value_range": [3.0, 9.0]}
    torch.save(checkpoint, path)
    dataset = assemble(read_settings(compose_config(own(photos, f"init={earlier}")))).data.dataset
    assert (dataset.mean, dataset.std) == ((0.5,) * 3, (0.25,) * 3)
    assert dataset.value_range == (3.0, 9.0)


def test_other_validation_images_of_the_same_folder_are_warned_of(photos: Path, earlier: Path, tmp_path: Path) -> None:
    def warnings(root: Path) -> list[str]:
        settings = read_settings(compose_config(own(root, f"init={earlier}")))
        return [line for line in assemble(settings, check_files=True).warnings if "init=" in line]

    write_mask(photos, "train", 6)
    assert not warnings(photos)  # more labels, the same validation images
    for kind in ("images", "masks"):
        shutil.copy(photos / kind / "train/train0.png", photos / kind / "val/val2.png")
    (told,) = warnings(photos)
    assert "was validated on other images of this folder (2 there, 3 here)" in told and "val.txt" in told
    assert not warnings(write_photos(tmp_path / "elsewhere"))
