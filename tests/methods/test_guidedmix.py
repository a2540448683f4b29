"""Numeric properties of both variants, and what a step must survive."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.config import compose_config
from semiseg.data.batch import SemiBatch
from semiseg.errors import InputError
from semiseg.methods.base import Parts
from semiseg.methods.guidedmix import GuidedMix
from semiseg.methods.guidedmix_released import GuidedMixReleased
from semiseg.models import tiny
from semiseg.models.decoders import DeepLabV3Decoder
from semiseg.models.segmentor import Segmentor
from semiseg.models.tiny import TinyEncoder
from semiseg.ops.focal import sigmoid_focal
from support.helpers import CLASSES, SIZE, make_batch, make_parts

N = len(CLASSES)
METHODS = {"release": GuidedMixReleased, "paper": partial(GuidedMix, ramp=0.0)}
both = pytest.mark.parametrize("method_of", METHODS.values(), ids=METHODS)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def deeplab(dropout: float = 0.0, n_classes: int = N) -> Segmentor:
    """The network of the release in small."""
    encoder = TinyEncoder(width=4)
    return Segmentor(
        encoder, DeepLabV3Decoder(encoder.channels, aspp_rates=(1, 2), width=6, dropout=dropout), n_classes
    )


def make(method_of: Callable = GuidedMixReleased, network: Callable[[], Segmentor] = deeplab, **kwargs: Any) -> Any:
    return method_of(Parts(network=network, classes=CLASSES, crop_size=SIZE), **kwargs)


def paper(**kwargs: Any) -> GuidedMix:
    return make(METHODS["paper"], **kwargs)


def fixed(method: Any, lam: float | Tensor = 0.3, guide: list[int] | None = None) -> Any:
    """The same method with its random numbers given."""
    value = lam if isinstance(lam, Tensor) else torch.tensor(lam)
    method.draw_lam = lambda: value  # type: ignore[method-assign]
    if guide is not None:
        method.guides = lambda *_: torch.tensor(guide)  # type: ignore[method-assign]
    return method


def watch(method: Any) -> SimpleNamespace:
    """What passes through the heads in the steps that follow."""
    seen = SimpleNamespace(main=[], z_mix=[])
    method.student.classifier.register_forward_hook(lambda _, x, z: seen.main.append((x[0], z)))
    method.second_head.register_forward_hook(lambda _, x, z: seen.z_mix.append(z))
    return seen


def parameters(method: Any) -> dict[str, nn.Parameter]:
    return {f"{i}.{k}": p for i, network in enumerate(method.trained()) for k, p in network.named_parameters()}


def with_leaf_features(method: Any, n: int = 2) -> tuple[Tensor, Tensor]:
    """Heads alone: the encoder's map becomes two leaves, of the labeled and the unlabeled stream."""
    channels = method.student.encoder.channels[-1]
    leaves = [torch.randn(n, channels, 5, 6, requires_grad=True) for _ in range(2)]
    method.student.features = lambda x: [torch.cat(leaves)]  # type: ignore[method-assign]
    return leaves[0], leaves[1]


# -- slow oracle ----------------------------------------------------------------------------------------------


def loop_ce(logits: Tensor, labels: Tensor, *, all_pixels: bool) -> Tensor:
    total, valid = logits.sum() * 0, 0
    for b, y, x in itertools.product(*map(range, labels.shape)):
        if labels[b, y, x] != 255:
            total = total - logits[b, :, y, x].log_softmax(0)[labels[b, y, x]]
            valid += 1
    return total / (labels.numel() if all_pixels else max(valid, 1))


def loop_focal(z: Tensor, target: Tensor) -> Tensor:
    total = z.sum() * 0
    for b, c, y, x in itertools.product(*map(range, z.shape)):
        p = 1 / (1 + torch.exp(-z[b, c, y, x]))
        if c == int(target[b, :, y, x].argmax()):
            total = total - 0.5 * (1 - p) ** 0.5 * torch.log(p)
        else:
            total = total - 0.5 * p**0.5 * torch.log(1 - p)
    return total / z.numel()


def loop_mse(z: Tensor, target: Tensor) -> Tensor:
    total = z.sum() * 0
    for b, y, x in itertools.product(*map(range, (z.shape[0], *z.shape[2:]))):
        total = total + (z[b, :, y, x].softmax(0) - target[b, :, y, x].softmax(0)).square().sum()
    return total / z.numel()


def release_oracle(method: Any, batch: SemiBatch, lam: float, guide: list[int]) -> Tensor:
    net, n_l = method.student, len(batch.labeled)
    features = net.encoder(torch.cat([batch.labeled, batch.unlabeled.weak]))[-1]
    a_l, a_u = net.decoder.context([features[:n_l]]), net.decoder.context([features[n_l:]])
    z_l, z_u = net.classifier(net.decoder.refine(a_l)), net.classifier(net.decoder.refine(a_u)).detach()
    a_mix = torch.stack([lam * a_l[i] + (1 - lam) * a_u[j] for j, i in enumerate(guide)])
    z_mix = method.second_head(a_mix)
    z_dec = torch.stack([z_mix[j] - lam * z_l[i] for j, i in enumerate(guide)])
    upsampled = F.interpolate(z_l, SIZE, mode="bilinear", align_corners=False)
    return loop_ce(upsampled, batch.labels, all_pixels=True) + 10 * loop_focal(z_dec, z_u)


def paper_oracle(method: Any, batch: SemiBatch, lam: float, guide: list[int]) -> Tensor:
    net, weak, n_l = method.student, batch.unlabeled.weak, len(batch.labeled)
    features = net.encoder(torch.cat([batch.labeled, weak]))
    f_l, f_u = [f[:n_l] for f in features], [f[n_l:] for f in features]
    nearest = []
    for j in range(len(weak)):
        pooled = [f.detach().mean((1, 2)) for f in (*f_l[-1], f_u[-1][j])]
        distances = [float((x - pooled[-1]).norm()) for x in pooled[:n_l]]
        nearest.append(distances.index(min(distances)))
    z_l, z_u = net.classifier(net.decoder(f_l)), net.classifier(net.decoder(f_u))
    again = F.interpolate(method.second_head(f_l), SIZE, mode="bilinear", align_corners=False)
    x_mix = torch.stack([lam * batch.labeled[i] + (1 - lam) * weak[j] for j, i in enumerate(nearest)])
    z_mix = method.second_head(net.encoder(x_mix))
    z_dec = torch.stack([z_mix[j] - lam * z_l[i] for j, i in enumerate(nearest)]).detach()
    upsampled = F.interpolate(z_l, SIZE, mode="bilinear", align_corners=False)
    loss_sup = loop_ce(upsampled, batch.labels, all_pixels=False) + loop_ce(again, batch.labels, all_pixels=False)
    return loss_sup + loop_mse(z_u, z_dec)


@pytest.mark.parametrize("name, oracle", [("release", release_oracle), ("paper", paper_oracle)])
@pytest.mark.parametrize("n_unlabeled", [2, 3])
def test_loss_and_gradients_against_a_loop(name: str, oracle: Callable, n_unlabeled: int) -> None:
    guide = [1, 0, 1][:n_unlabeled]
    # In float64, where the order of a sum cannot hide a mistake; the losses themselves count in float32.
    method = make(METHODS[name]).double()
    method = fixed(method, torch.tensor(0.3, dtype=torch.float64), guide if name == "release" else None)
    slow, batch = copy.deepcopy(method), make_batch(2, n_unlabeled)
    batch.labeled, batch.unlabeled.weak = batch.labeled.double(), batch.unlabeled.weak.double()
    loss, expected = method.step(batch).loss, oracle(slow, batch, 0.3, guide)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for (name, p), q in zip(parameters(method).items(), parameters(slow).values(), strict=True):
        assert (p.grad - q.grad).norm() <= 1e-5 * max(q.grad.norm(), 1e-3), name
    for (name, x), y in zip(method.named_buffers(), slow.buffers(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-8, msg=name)  # every pass in the same mode and order


# -- 1: lambda ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam_max", [0.5, 0.3])
def test_lambda_is_uniform_up_to_its_limit(lam_max: float) -> None:
    method = make(lam_max=lam_max)
    lam = torch.stack([method.draw_lam() for _ in range(20_000)])
    assert lam.mean().item() == pytest.approx(lam_max / 2, abs=0.005)
    assert lam.min() >= 0 and lam.max() < lam_max
    quartiles = torch.quantile(lam, torch.tensor([0.25, 0.5, 0.75])) / lam_max
    assert quartiles.tolist() == pytest.approx([0.25, 0.5, 0.75], abs=0.02)


def test_lambda_of_another_beta_is_folded() -> None:
    method = make(beta=4.0)
    lam = torch.stack([method.draw_lam() for _ in range(5_000)])
    x = torch.distributions.Beta(4.0, 4.0).sample((20_000,))
    assert lam.mean().item() == pytest.approx(torch.minimum(x, 1 - x).mean().item(), abs=0.01)


# -- 2: decoupling --------------------------------------------------------------------------------------------


def test_decoupling_of_one_affine_head_leaves_the_unlabeled_part() -> None:
    lam, guide = torch.rand((), dtype=torch.float64) / 2, [2, 0, 1]
    method = fixed(make().double(), lam, guide)
    method.student.decoder.refine = nn.Identity()
    method.student.classifier = nn.Conv2d(method.student.decoder.join_channels, N, 1).double()
    method.second_head = copy.deepcopy(method.student.classifier)
    nn.init.normal_(method.student.classifier.bias)
    method.second_head.load_state_dict(method.student.classifier.state_dict())
    seen, batch = watch(method), make_batch(3, 3)
    batch.labeled, batch.unlabeled.weak = batch.labeled.double(), batch.unlabeled.weak.double()
    out = method.step(batch)
    (_, z_l), (_, z_u) = seen.main
    torch.testing.assert_close(seen.z_mix[0] - lam * z_l[guide], (1 - lam) * z_u, rtol=0, atol=1e-12)
    assert out.terms["agreement"] == 1.0


# -- 3, 4: the loss and its target ----------------------------------------------------------------------------


def test_all_zero_logits_cost_2_4506() -> None:
    loss = sigmoid_focal(torch.zeros(2, N, 3, 4), torch.zeros(2, 3, 4, dtype=torch.long)).item()
    assert make().unsup_weight * loss == pytest.approx(2.4506, abs=1e-4)


@both
def test_the_variant_says_who_learns(method_of: Callable) -> None:
    """Release: the mixture learns the argmax of the unlabeled logits. Paper: the other way round, of probabilities."""
    method = fixed(make(method_of), 0.3, [1, 0])
    seen, batch = watch(method), make_batch()
    loss = method.step(batch).terms["loss_unsup"]
    z_u, z_mix = seen.main[1][1], seen.z_mix[-1]
    released = method_of is GuidedMixReleased
    assert (z_mix.requires_grad, z_u.requires_grad) == (released, not released)
    (grad,) = torch.autograd.grad(loss, z_mix if released else z_u)
    assert grad.any()


# -- 5: gradient routing --------------------------------------------------------------------------------------


def test_only_the_agreement_reaches_the_second_head() -> None:
    method = fixed(make())
    with_leaf_features(method)
    terms, second = method.step(make_batch()).terms, list(method.second_head.parameters())
    grads = torch.autograd.grad(terms["loss_sup"], second, allow_unused=True, retain_graph=True)
    assert all(g is None for g in grads)
    assert all(bool(g.any()) for g in torch.autograd.grad(terms["loss_unsup"], second))


def test_the_agreement_reaches_the_classifier_through_the_reference_only() -> None:
    lam, guide = 0.3, [1, 0, 0]
    method = fixed(make(), lam, guide)
    seen = watch(method)
    method.student.features = lambda x: [features]  # type: ignore[method-assign]
    features = torch.randn(5, method.student.encoder.channels[-1], 5, 6)
    loss = method.step(make_batch(2, 3)).terms["loss_unsup"]
    weight = method.student.classifier.weight
    d_mix, d_weight = torch.autograd.grad(loss, [seen.z_mix[0], weight])
    expected, (inputs, _) = torch.zeros_like(weight), seen.main[0]
    for j, i in enumerate(guide):
        for y, x in itertools.product(range(5), range(6)):
            expected[:, :, 0, 0] -= lam * torch.outer(d_mix[j, :, y, x], inputs[i, :, y, x])
    assert expected.any()
    torch.testing.assert_close(d_weight, expected, rtol=1e-5, atol=1e-8)


def test_without_a_labeled_part_the_agreement_trains_the_unlabeled_side_only() -> None:
    method = fixed(make(), 0.0)
    f_l, f_u = with_leaf_features(method)
    method.step(make_batch()).terms["loss_unsup"].backward()
    net = method.student
    for p in (*net.decoder.refine.parameters(), *net.classifier.parameters(), f_l):
        assert p.grad is None or not p.grad.any()
    for p in (*net.decoder.pooled.parameters(), *net.decoder.local.parameters(), f_u):
        assert p.grad.any()


# -- 6: permutation -------------------------------------------------------------------------------------------


def test_permuting_the_unlabeled_images_with_their_guides_changes_nothing() -> None:
    batch, guide, order = make_batch(3, 3), [2, 0, 1], [1, 2, 0]
    method = fixed(make().eval(), 0.3, guide)
    before = method.step(batch).terms["loss_unsup"]
    batch.unlabeled.weak = batch.unlabeled.weak[order]
    moved = fixed(method, 0.3, [guide[j] for j in order]).step(batch).terms["loss_unsup"]
    assert moved.item() == pytest.approx(before.item(), rel=1e-5)
    assert fixed(method, 0.3, guide).step(batch).terms["loss_unsup"].item() != pytest.approx(before.item(), rel=1e-5)


# -- 7: supervised normalization ------------------------------------------------------------------------------


@both
def test_ignored_pixels_count_in_the_denominator_of_the_release(method_of: Callable) -> None:
    method, batch = fixed(make(method_of).eval(), 0.3, [0, 1]), make_batch()
    batch.labels[:, : SIZE[0] // 2] = 255
    per_pixel = F.cross_entropy(method.student(batch.labeled), batch.labels, ignore_index=255, reduction="none")
    n = per_pixel.numel() if method_of is GuidedMixReleased else int((batch.labels != 255).sum())
    assert n > 0 and method.step(batch).terms["loss_sup"].item() == pytest.approx(per_pixel.sum().item() / n, rel=1e-5)


# -- 9: sizes (the main head: tests/models/test_deeplabv3.py; 3, 8: tests/ops/test_focal.py, tests/test_optim.py) ---


def test_the_second_head_holds_a_bottleneck_and_a_classifier_only() -> None:
    def network() -> Segmentor:
        encoder = TinyEncoder(width=256)  # 2048 channels at the end, as a ResNet
        return Segmentor(encoder, DeepLabV3Decoder(encoder.channels), 21)

    with torch.device("meta"):
        method = GuidedMixReleased(Parts(network=network, classes=[str(i) for i in range(21)]))
    assert sum(p.numel() for p in method.second_head.parameters()) == 11_808_277


def test_the_second_head_starts_with_weights_of_its_own() -> None:
    method = make()
    own, main = method.second_head[0][0][0].weight, method.student.decoder.refine[0][0].weight
    assert own.shape == main.shape and not torch.equal(own, main)
    assert own.std().item() == pytest.approx(main.std().item(), rel=0.15)  # drawn from the same law


def test_the_optimizer_moves_the_network_and_the_second_head() -> None:
    for method in (make(), paper()):
        assert {id(p) for p in parameters(method).values()} == {id(p) for p in method.parameters()}


# -- 10: inference --------------------------------------------------------------------------------------------


@both
def test_inference_knows_neither_second_head_nor_neighbors(method_of: Callable) -> None:
    method = make(method_of).eval()
    (network,) = method.evaluated().values()
    images = torch.randn(3, 3, *SIZE)
    with torch.no_grad():
        before = network(images)
        for p in method.second_head.parameters():
            p.add_(1.0)
        assert torch.equal(network(images), before)
        torch.testing.assert_close(network(images[1:2]), before[1:2], rtol=1e-5, atol=1e-6)


# -- 11: the paper's profile ----------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", [0, 1])
@pytest.mark.parametrize("lam", [0.0, 0.17, 0.49])
def test_the_twin_is_the_guide_and_mixing_with_it_changes_nothing(twin: int, lam: float) -> None:
    method, batch = fixed(paper(), lam), make_batch(2, 1)
    # A second unlabeled image: the network cannot normalize a single one.
    batch.unlabeled.weak = torch.cat([batch.labeled[twin, None], torch.randn(1, 3, *SIZE)])
    batch.unlabeled.padded = torch.zeros(2, *SIZE, dtype=torch.bool)
    found, mixtures, guides, features = [], [], method.guides, method.student.features
    method.guides = lambda *maps: found.append(guides(*maps)) or found[-1]  # type: ignore
    method.student.features = lambda x: mixtures.append(x) or features(x)  # type: ignore
    method.step(batch)
    assert found[0][0] == twin
    torch.testing.assert_close(mixtures[1][0], batch.labeled[twin])


def test_similar_guides_against_a_loop() -> None:
    method = paper()
    maps_l, maps_u = torch.randn(4, 6, 3, 5), torch.randn(7, 6, 3, 5)
    expected = []
    for u in maps_u:
        distances = [math.dist(u.mean((1, 2)).tolist(), x.mean((1, 2)).tolist()) for x in maps_l]
        expected.append(distances.index(min(distances)))
    assert method.guides(maps_l, maps_u).tolist() == expected and len(set(expected)) > 1


def test_the_second_stream_of_fixed_masks_learns_the_labeled_images_only() -> None:
    method = fixed(paper())
    seen = watch(method)
    terms, second = method.step(make_batch()).terms, list(method.second_head.parameters())
    grads = torch.autograd.grad(terms["loss_unsup"], second, allow_unused=True, retain_graph=True)
    assert all(g is None for g in grads)
    assert [z.requires_grad for z in seen.z_mix] == [True, False]  # labeled images; the mixture needs no graph
    grads = torch.autograd.grad(terms["loss_sup_mix"], second)
    assert sum(bool(g.any()) for g in grads) > len(grads) // 2  # theta and phi wait for the zero layer behind them


def test_the_ramp_is_linear_over_its_share_of_the_run() -> None:
    method = fixed(make(GuidedMix).eval())
    method.max_steps = 100
    batch, weights = make_batch(), []
    for method.steps_done in (0, 5, 10, 90):
        out = method.step(batch)
        rest = out.loss - out.terms["loss_sup"] - out.terms["loss_sup_mix"]
        weights.append((rest / out.terms["loss_unsup"]).item())
    assert weights == pytest.approx([0.0, 0.5, 1.0, 1.0], abs=1e-3)


# -- passes and their modes (section 5) -----------------------------------------------------------------------


def running(mean: Tensor, *batches: Tensor) -> Tensor:
    for x in batches:
        mean = 0.9 * mean + 0.1 * x.mean((0, 2, 3))
    return mean


def test_batch_norm_sees_both_streams_in_the_encoder_and_one_by_one_in_the_head() -> None:
    method = fixed(make(), 0.3, [0, 1, 0])
    seen: dict[str, list[Tensor]] = {"encoder": [], "local": [], "refine": [], "second": []}
    net = method.student
    norms = {
        "encoder": net.encoder.stages[0][1],
        "local": net.decoder.local[0][1],
        "refine": net.decoder.refine[0][1],
        "second": method.second_head[0][0][1],
    }
    for name, norm in norms.items():
        norm.register_forward_pre_hook(lambda _, x, name=name: seen[name].append(x[0].detach().clone()))
    method.step(make_batch(2, 3))
    assert {k: [len(x) for x in v] for k, v in seen.items()} == {
        "encoder": [5], "local": [2, 3], "refine": [2, 3], "second": [3],
    }  # fmt: skip
    for name, norm in norms.items():
        torch.testing.assert_close(norm.running_mean, running(torch.zeros_like(norm.running_mean), *seen[name]))
        assert norm.num_batches_tracked == len(seen[name])


def test_the_target_is_made_with_dropout_and_without_a_graph() -> None:
    method = make(network=lambda: deeplab(dropout=0.5))
    batch, seen = make_batch(), watch(method)
    batch.unlabeled.weak = batch.labeled.clone()
    method.step(batch)
    (x_l, z_l), (x_u, z_u) = seen.main
    dropped_l, dropped_u = ((x == 0).all(3).all(2) for x in (x_l, x_u))
    assert dropped_u.any() and not torch.equal(dropped_l, dropped_u)
    assert z_l.requires_grad and not z_u.requires_grad


# -- pairs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_l, n_u", [(4, 4), (2, 5), (5, 2), (1, 3), (3, 1), (1, 1)])
def test_random_guides_repeat_as_little_as_possible(n_l: int, n_u: int) -> None:
    method, seen = make(), set()
    for _ in range(60):
        guide = method.guides(n_l, n_u, torch.device("cpu"))
        counts = guide.bincount(minlength=n_l)
        assert len(guide) == n_u and len(counts) == n_l
        assert counts.max() - counts.min() <= 1
        seen.add(tuple(guide.tolist()))
    assert len(seen) > 1 or n_l == 1


# -- what the step must survive -------------------------------------------------------------------------------


@pytest.mark.parametrize("method_of", [GuidedMixReleased, GuidedMix, partial(GuidedMix, use_mitrans=False)])
def test_every_trained_parameter_gets_a_finite_gradient(method_of: Callable) -> None:
    method = method_of(make_parts())
    method.steps_done = 1
    method.step(make_batch()).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters(method).values())


@both
@pytest.mark.parametrize("n_l, n_u", [(1, 1), (1, 3), (3, 1)])
@pytest.mark.parametrize("ignored", [False, True])
def test_small_unequal_and_unlabeled_batches(method_of: Callable, n_l: int, n_u: int, ignored: bool) -> None:
    method, batch = method_of(make_parts()), make_batch(n_l, n_u)
    if ignored:
        batch.labels.fill_(255)
        batch.unlabeled.padded.fill_(True)
    out = method.step(batch)
    out.loss.backward()
    assert out.loss.isfinite() and (out.terms["loss_sup"] == 0) == ignored
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters(method).values())
    assert out.pseudo.labels.shape == out.keep.shape == (n_u, *SIZE)
    assert torch.equal(out.keep, ~batch.unlabeled.padded)


@both
def test_two_classes(method_of: Callable) -> None:
    method = method_of(Parts(network=lambda: tiny(2, width=8), classes=("no", "yes")))
    batch = make_batch()
    batch.labels = torch.where(batch.labels == 255, 255, 0)  # and one of them is absent
    method.step(batch).loss.backward()
    assert all(p.grad.isfinite().all() for p in parameters(method).values())


@both
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_bfloat16_stays_close(method_of: Callable, scale: float) -> None:
    method, batch = fixed(make(method_of), 0.3, [1, 0]), make_batch()
    with torch.no_grad():
        method.student.classifier.weight.mul_(scale)
    half = copy.deepcopy(method)
    full = method.step(batch)
    with torch.autocast("cpu", torch.bfloat16):
        out = half.step(batch)
    assert out.loss.dtype == torch.float32
    for name in ("loss_sup", "loss_unsup"):
        assert out.terms[name].item() == pytest.approx(full.terms[name].item(), rel=0.05, abs=5e-3)
    full.loss.backward()
    out.loss.backward()
    for p in (half.student.classifier.weight, half.second_head[-1].weight, half.student.encoder.stages[0][0].weight):
        assert p.grad.isfinite().all() and p.grad.any()
    a, b = half.student.classifier.weight.grad, method.student.classifier.weight.grad
    assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.98


# -- settings -------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("key, value", [("lam_max", 0.6), ("lam_max", 0.0), ("beta", 0.0), ("unsup_weight", -1.0)])
def test_a_wrong_number_is_named(method_of: Callable, key: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{key}={value}: allowed are numbers"):
        make(method_of, **{key: value})


def test_the_profiles() -> None:
    released, paper = (dict(compose_config([f"method={n}"]).method) for n in ("guidedmix_released", "guidedmix"))
    common = {"lam_max": 0.5, "beta": 1.0}
    assert released == common | {
        "_target_": "semiseg.methods.guidedmix_released.GuidedMixReleased", "unsup_weight": 10.0
    }  # fmt: skip
    assert paper == common | {
        "_target_": "semiseg.methods.guidedmix.GuidedMix", "unsup_weight": 1.0, "ramp": 0.1, "use_mitrans": True
    }  # fmt: skip
