from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from semiseg.errors import InputError
from semiseg.models import Segmentor, tiny
from semiseg.models.representation import RepresentationSegmentor


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@pytest.mark.parametrize("size", [(33, 47), (65, 65), (100, 75)])
@torch.no_grad()
def test_any_size_gives_logits_of_that_size(network: Segmentor, size: tuple[int, int]):
    x = torch.randn(1, 3, *size)
    assert network(x).shape == (1, 5, *size)
    multiple = network.encoder.size_multiple
    padded = [ceil_div(s, multiple) * multiple for s in size]
    expected = [
        (1, c, *(ceil_div(p, r) for p in padded)) for c, r in zip(network.encoder.channels, network.encoder.reductions)
    ]
    features = network.features(x)
    assert [tuple(f.shape) for f in features] == expected
    assert network.decode(features).shape[:2] == (1, network.classifier.in_channels)


@torch.no_grad()
def test_forward_is_the_steps_one_by_one(network: Segmentor):
    x = torch.randn(2, 3, 45, 61)
    decoded = network.decode(network.features(x))
    logits = network.classify(decoded, (45, 61))
    torch.testing.assert_close(network(x), logits, rtol=0, atol=0)
    # The padding is cut off, not squeezed in: the same as padding by hand and cropping the logits of that.
    m = network.encoder.size_multiple
    by_hand = network(F.pad(x, (0, -61 % m, 0, -45 % m)))[..., :45, :61]
    torch.testing.assert_close(network(x), by_hand, rtol=0, atol=0)


@torch.no_grad()
def test_classify_is_resize_of_the_classifier(network: Segmentor):
    decoded = network.decode(network.features(torch.randn(1, 3, 56, 56)))
    padded = {1: 56, 14: 56, 16: 64}[network.encoder.size_multiple]
    oracle = F.interpolate(
        network.classifier(decoded),
        (padded, padded),
        mode="bilinear",
        align_corners=network.decoder.align_corners,
    )[..., :56, :56]
    torch.testing.assert_close(network.classify(decoded, (56, 56)), oracle)


@torch.no_grad()
def test_dropped_features_flow_through(network: Segmentor):
    x = torch.randn(2, 3, 50, 40)
    features = network.features(x)
    dropped = [F.dropout2d(f, 0.5) for f in features]
    logits = network.classify(network.decode(dropped), (50, 40))
    assert logits.shape == (2, 5, 50, 40)
    assert logits.isfinite().all()
    assert not torch.equal(logits, network(x))


def test_every_parameter_is_trained(network: Segmentor):
    # A parameter without gradient would need DDP's slow search for unused ones.
    trained = copy.deepcopy(network).train()
    trained(torch.randn(2, 3, 65, 65)).square().mean().backward()
    assert [name for name, p in trained.named_parameters() if p.grad is None] == []


@torch.no_grad()
def test_channels_last_gives_the_same(network: Segmentor):
    x = torch.randn(1, 3, 65, 50)
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    torch.testing.assert_close(other(x.to(memory_format=torch.channels_last)), network(x), rtol=1e-3, atol=1e-4)


def test_representation_head_sits_beside_the_classifier():
    model = tiny(5)
    x = torch.randn(2, 3, 33, 47)
    plain, keys = model, set(model.state_dict())
    model = RepresentationSegmentor(plain, 7)
    assert model.classifier is plain.classifier and model.encoder is plain.encoder
    head = model.representation
    assert head[0][0].weight.shape == model.decoder.refine[0].weight.shape
    assert not torch.equal(head[0][0].weight, model.decoder.refine[0].weight)
    assert all(key.startswith("representation.") for key in set(model.state_dict()) - keys)
    model.eval()
    logits, embedding = model.logits_and_representation(x)
    decoded = model.decode(model.features(x))
    assert embedding.shape == (2, 7, *decoded.shape[-2:])
    assert torch.equal(model.upsample(logits, (33, 47)), model(x))
    embedding.sum().backward()
    assert model.classifier.weight.grad is None
    assert model.encoder.stages[0][0].weight.grad is not None


def test_classifier_is_a_plain_convolution(network: Segmentor):
    assert type(network.classifier) is nn.Conv2d
    assert network.classifier.weight.shape == (5, network.decoder.out_channels, 1, 1)
    assert network.num_classes == 5


def test_one_class_is_refused():
    with pytest.raises(InputError, match=r"num_classes=1: allowed are whole numbers from 2"):
        tiny(1)
