from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from semiseg.errors import InputError
from semiseg.models.encoders import build_encoder
from semiseg.models.weights import read_weights


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights of a whole ResNet-18, classifier included, as published files have them."""
    backbone = build_encoder("resnet18").model.state_dict()
    weights = {key: torch.randn_like(v) if v.is_floating_point() else v for key, v in backbone.items()}
    return weights | {"fc.weight": torch.randn(10, 512), "fc.bias": torch.zeros(10)}


WRAP: dict[str, Callable[[dict[str, Tensor]], dict]] = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s},
}


@pytest.mark.parametrize("wrap", WRAP)
def test_file_is_loaded(tmp_path: Path, state: dict[str, Tensor], wrap: str):
    file = tmp_path / "weights.pth"
    torch.save(WRAP[wrap](state), file)
    loaded = build_encoder("resnet18", weights=str(file)).model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)


def test_safetensors_file_is_loaded(tmp_path: Path, state: dict[str, Tensor]):
    file = tmp_path / "weights.safetensors"
    save_file({key: v for key, v in state.items() if "num_batches_tracked" not in key}, file)
    loaded = build_encoder("resnet18", weights=str(file)).model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded if "num_batches_tracked" not in key)


def refused(file: Path | str, encoder: str = "resnet18") -> str:
    with pytest.raises(InputError) as caught:
        build_encoder(encoder, weights=str(file))
    message = str(caught.value)
    assert "\n" not in message
    assert str(file) in message
    return message


def test_missing_unexpected_and_reshaped_entries_are_named(tmp_path: Path, state: dict[str, Tensor]):
    wrong = dict(state) | {"extra.weight": torch.zeros(1), "bn1.weight": torch.zeros(3)}
    del wrong["layer1.0.conv1.weight"]
    torch.save(wrong, tmp_path / "wrong.pth")
    message = refused(tmp_path / "wrong.pth")
    assert "1 missing (layer1.0.conv1.weight)" in message
    assert "1 unexpected (extra.weight)" in message
    assert "1 wrong shape (bn1.weight (3,) for (64,))" in message


def test_plain_stem_does_not_fit_a_deep_one(tmp_path: Path):
    with torch.device("meta"):
        plain = build_encoder("resnet50").model.state_dict()
    torch.save({key: torch.zeros(()).expand(v.shape) for key, v in plain.items()}, tmp_path / "r50.pth")
    message = refused(tmp_path / "r50.pth", "resnet50s")
    assert "conv1.0.weight" in message and "1 unexpected (conv1.weight)" in message
    assert "resnet50s" in message


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 broken"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_file_is_refused(tmp_path: Path, content: bytes, suffix: str):
    file = tmp_path / f"broken.{suffix}"
    file.write_bytes(content)
    assert "cannot be read" in refused(file)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {"a": "b"}}])
def test_file_without_state_dict_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "other.pth")
    assert "contains no state dict" in refused(tmp_path / "other.pth")


def test_pickled_objects_are_not_run(tmp_path: Path):
    torch.save({"state_dict": torch.nn.ReLU()}, tmp_path / "object.pth")
    assert "cannot be read" in refused(tmp_path / "object.pth")


def test_absent_file_says_what_is_allowed(tmp_path: Path):
    assert "none, package, hub, or the path" in refused(tmp_path / "absent.pth")
    assert "none, package, hub, or the path" in refused("hubb")


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pth")
    assert read_weights("~/w.pth")["a"] == 1


def test_dinov2_reads_published_names_and_refits_the_positions(tmp_path: Path):
    source = build_encoder("dinov2_s").model.state_dict()
    # The authors' files hold a mask token. Positions of a 4 x 4 grid, all alike, are all alike on 37 x 37.
    published = source | {"mask_token": torch.zeros(1, 384), "pos_embed": torch.ones(1, 1 + 16, 384)}
    torch.save(published, tmp_path / "dinov2.pth")
    loaded = build_encoder("dinov2_s", weights=str(tmp_path / "dinov2.pth")).model.state_dict()
    assert loaded["pos_embed"].shape == (1, 1 + 37 * 37, 384)
    torch.testing.assert_close(loaded.pop("pos_embed"), torch.ones(1, 1 + 37 * 37, 384))
    assert all(torch.equal(loaded[key], source[key]) for key in loaded)


def test_convnext_reads_a_whole_classifier(tmp_path: Path):
    import timm

    source = timm.create_model("convnext_atto", num_classes=7).state_dict()
    torch.save(source, tmp_path / "convnext.pth")
    loaded = build_encoder("convnext_atto", weights=str(tmp_path / "convnext.pth")).model.state_dict()
    assert all(torch.equal(loaded[key], source[key]) for key in loaded)
    assert not any(key.startswith("head") for key in loaded)


def test_foreign_weights_for_a_converted_encoder_are_refused(tmp_path: Path, state: dict[str, Tensor]):
    torch.save(state, tmp_path / "resnet.pth")
    assert "does not fit encoder 'convnext_atto'" in refused(tmp_path / "resnet.pth", "convnext_atto")
    assert "does not fit encoder 'dinov2_s'" in refused(tmp_path / "resnet.pth", "dinov2_s")


def test_mit_reads_a_whole_classifier(tmp_path: Path):
    source = build_encoder("mit_b0").model.state_dict()
    torch.save({"state_dict": dict(source) | {"head.weight": torch.zeros(3, 256)}}, tmp_path / "mit.pth")
    loaded = build_encoder("mit_b0", weights=str(tmp_path / "mit.pth")).model.state_dict()
    assert all(torch.equal(loaded[key], source[key]) for key in source)


@pytest.mark.parametrize("encoder", ["resnet50s", "mit_b0", "dinov2_s"])
def test_hub_out_of_reach_is_said_at_once(encoder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    build_encoder(encoder)  # so that imports are not timed
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        build_encoder(encoder, weights="hub")
    assert time.perf_counter() - start < 3
    message = str(caught.value)
    assert "\n" not in message
    for part in ("model.weights=hub", encoder, str(tmp_path), "HF_HUB_OFFLINE", "FILE.safetensors", "none"):
        assert part in message


def test_hub_weights_reach_the_encoder(tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch):
    whole = dict(state) | {"fc.weight": torch.randn(1000, 512), "fc.bias": torch.zeros(1000)}
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *a, **k: dict(whole))
    loaded = build_encoder("resnet18", weights="hub").model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)

    source = build_encoder("mit_b0").model.state_dict()
    file = tmp_path / "mit.safetensors"
    save_file(source, file)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", lambda *a, **k: str(file))
    loaded = build_encoder("mit_b0", weights="hub").model.state_dict()
    assert all(torch.equal(loaded[key], source[key]) for key in source)
