"""How much of an encoder is trained: full, frozen, lora."""

from __future__ import annotations

import copy
import importlib.util

import pytest
import torch
from torch import nn

from semiseg.errors import InputError
from semiseg.models import Segmentor, deeplabv3plus, dpt, segformer
from semiseg.models.adapt import Adapt, attention_layers

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
LEVELS = (8, 8, 8, 8)


def vit(name: str = "vit_tiny_patch16_224", adapt: Adapt = "full", **kwargs: int) -> Segmentor:
    torch.manual_seed(0)
    return dpt(name, 5, width=8, level_channels=LEVELS, adapt=adapt, **kwargs)


def trained(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


def test_frozen_is_what_freeze_encoder_was():
    for model in (
        vit(adapt="frozen"),
        dpt("vit_tiny_patch16_224", 5, width=8, level_channels=LEVELS, freeze_encoder=True),
    ):
        assert model.encoder.frozen and not trained(model.encoder)
        assert trained(model.decoder)


@needs_peft
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "dinov2_s", "dinov3_s", "eva02_tiny_patch14_224"])
def test_lora_trains_updates_of_low_rank_and_nothing_else_of_the_encoder(name: str):
    model = vit(name, "lora", lora_rank=2).train()
    names = trained(model.encoder)
    assert names and all(".lora_A." in n or ".lora_B." in n for n in names)
    updates = {n: p for n, p in model.encoder.named_parameters() if n in names}
    assert all(min(p.shape) == 2 for p in updates.values())
    before = copy.deepcopy(model.encoder.state_dict())
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(2):  # the first step moves B only, which starts at zero
        optimizer.zero_grad()
        model(torch.randn(2, 3, 32, 32)).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    changed = {n for n, v in model.encoder.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == names


@needs_peft
@torch.no_grad()
def test_lora_starts_as_the_network_it_adapts():
    x = torch.randn(1, 3, 32, 48)
    full, lora = vit().eval(), vit(adapt="lora").eval()
    torch.testing.assert_close(lora.encoder(x), full.encoder(x), rtol=0, atol=0)


@needs_peft
def test_lora_works_on_mit_and_swin_and_in_a_copy():
    for name in ("mit_b0", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"):
        model = copy.deepcopy(segformer(name, 5, width=8, adapt="lora", lora_rank=1))
        model(torch.randn(2, 3, 32, 32)).mean().backward()
        assert trained(model.encoder) and all("lora_" in n for n in trained(model.encoder))
        assert all(p.grad is not None for p in model.encoder.parameters() if p.requires_grad)


def test_every_attention_layer_is_adapted():
    encoder = vit().encoder
    assert len(attention_layers(encoder)) == 2 * 12  # qkv and proj of every block
    assert not any("mlp" in layer for layer in attention_layers(encoder))


def test_lora_needs_attention():
    with pytest.raises(InputError, match=r"model\.adapt=lora: encoder 'resnet18' has no attention"):
        deeplabv3plus("resnet18", 5, adapt="lora")


def test_lora_without_peft_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install 'semiseg\[lora\]'"):
        vit(adapt="lora")
