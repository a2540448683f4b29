"""Properties of CorrMatch, on small random tensors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.methods import corrmatch
from semiseg.methods.corrmatch import CorrMatch
from semiseg.models import tiny
from semiseg.models.correlation import CorrelationSegmentor
from semiseg.ops.losses import unsupervised_kl
from semiseg.ops.pseudo import PseudoLabels
from support.helpers import CLASSES, SIZE, make_batch, make_parts, two_processes


def method(**kwargs) -> CorrMatch:
    torch.manual_seed(0)
    return CorrMatch(make_parts(), **kwargs).train()


def network(size: tuple[int, int] = (64, 80)) -> tuple[CorrelationSegmentor, list[Tensor]]:
    torch.manual_seed(0)
    made = CorrelationSegmentor(tiny(len(CLASSES), width=8)).eval()
    return made, made.features(torch.randn(2, 3, *size))


# -- the network ----------------------------------------------------------------------------------------------


def test_rows_of_the_correlation_sum_to_one() -> None:
    made, features = network()
    correlation = made.correlation(features)
    assert correlation.shape == (2, 20, 20)
    torch.testing.assert_close(correlation.sum(-1), torch.ones(2, 20))
    reduced = made.reduce(features[-1])
    query, key = made.query(reduced).flatten(2), made.key(reduced).flatten(2)
    i, j = 3, 11
    scores = torch.stack([(query[0, :, i] * key[0, :, k]).sum() for k in range(20)]) / 2.0  # sqrt of 4 classes
    assert correlation[0, i, j].item() == pytest.approx(scores.softmax(0)[j].item(), rel=1e-5)


def test_uniform_features_give_the_mean_of_the_logits_everywhere() -> None:
    made, features = network()
    features[-1] = torch.ones_like(features[-1])
    made.reduce = torch.nn.Conv2d(features[-1].shape[1], 256, 1)  # no border that a 3x3 kernel would see
    decoded = torch.randn(2, made.decoder.out_channels, 16, 20)
    out = made.correlated(features, decoded, (64, 80))
    torch.testing.assert_close(out.correlation, torch.full((2, 20, 20), 1 / 20))
    low = F.interpolate(made.classifier(decoded), (4, 5), mode="bilinear", align_corners=made.decoder.align_corners)
    torch.testing.assert_close(out.by_correlation, low.mean((2, 3), keepdim=True).expand(2, 4, 64, 80))


def test_the_output_by_correlation_mixes_logits_by_columns_and_does_not_train_them() -> None:
    made, features = network()
    decoded = made.decode(features)
    out = made.correlated(features, decoded, (64, 80))
    low = F.interpolate(made.classifier(decoded), (4, 5), mode="bilinear", align_corners=made.decoder.align_corners)
    j = 7
    expected = sum(low.flatten(2)[0, :, i] * out.correlation[0, i, j] for i in range(20))
    corner = made.upsample((low.flatten(2) @ out.correlation).view(2, 4, 4, 5), (64, 80))
    torch.testing.assert_close(out.by_correlation, corner)
    torch.testing.assert_close((low.flatten(2) @ out.correlation)[0, :, j], expected)
    out.by_correlation.sum().backward()
    assert made.classifier.weight.grad is None and made.query.weight.grad is not None


def test_the_head_does_not_change_what_is_evaluated() -> None:
    made, _ = network()
    images = torch.randn(1, 3, 33, 47)
    plain = tiny(len(CLASSES), width=8).eval()
    plain.load_state_dict({k: v for k, v in made.state_dict().items() if k in plain.state_dict()})
    assert torch.equal(made(images), plain(images))


# -- threshold ------------------------------------------------------------------------------------------------


def sure(confidence: float) -> PseudoLabels:
    zeros = torch.zeros(1, 2, 2, dtype=torch.long)
    return PseudoLabels(zeros, torch.full(zeros.shape, confidence), zeros > 0)


def test_the_threshold_moves_by_a_thousandth_of_the_way() -> None:
    m = method()
    assert m.moved_threshold(sure(1.0)).item() == pytest.approx(0.85 + 1.5e-4, abs=1e-7)
    m.moved_threshold(PseudoLabels(sure(0.1).labels, sure(0.1).confidence, sure(0.1).labels == 0))  # padding alone
    assert m.threshold.item() == pytest.approx(0.85 + 1.5e-4, abs=1e-7)
    assert "threshold" in m.state_dict()


def test_the_threshold_of_cityscapes_stays() -> None:
    m = method(conf_threshold=0.0, threshold_decay=1.0)
    m.step(make_batch(n_strong=1))
    assert m.threshold.item() == 0.0


def moved(rank: int) -> float:
    return method(threshold_decay=0.0).moved_threshold(sure(0.3 + 0.2 * rank)).item()


def test_all_processes_have_the_threshold_of_the_surest() -> None:
    assert two_processes(moved) == pytest.approx([0.5, 0.5])


# -- the step -------------------------------------------------------------------------------------------------


def test_weights_of_the_seven_losses() -> None:
    out = method(conf_threshold=0.0).step(make_batch(n_strong=1))
    t = out.terms
    expected = 0.25 * (t["loss_sup"] + t["loss_sup_corr"]) + 0.125 * (t["loss_s"] + t["loss_kl"] + t["loss_fp"])
    expected = expected + 0.0625 * (t["loss_corr_s"] + t["loss_corr_w"])
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert all(t[k] > 0 for k in t if k.startswith("loss"))


def test_above_any_confidence_only_the_labeled_images_teach() -> None:
    m = method(threshold_decay=1.0)
    m.threshold.fill_(1.1)
    out = m.step(make_batch(n_strong=1))
    t = out.terms
    assert all(t[k] == 0 for k in ("loss_s", "loss_kl", "loss_fp", "loss_corr_s", "loss_corr_w", "filled_ratio"))
    assert out.loss.item() == pytest.approx(((t["loss_sup"] + t["loss_sup_corr"]) / 4).item())
    out.loss.backward()
    assert all(p.grad is not None for p in m.student.parameters())


def test_regions_end_at_the_box_and_at_the_padding(monkeypatch) -> None:
    m, batch, seen = method(conf_threshold=0.3, threshold_decay=1.0), make_batch(n_strong=1), []
    monkeypatch.setattr(m, "region_masks", lambda c, size: torch.ones(2, 3, *size, dtype=torch.bool))
    real = corrmatch.propagate
    monkeypatch.setattr(corrmatch, "propagate", lambda *args: seen.append((args, real(*args))) or seen[-1][1])
    m.step(batch)
    (target, confident, regions, _, _), (labels, valid) = seen[0]
    outside = torch.zeros(2, *SIZE, dtype=torch.bool)
    outside[:, 4:20, 6:30] = True
    outside |= batch.unlabeled.padded
    assert torch.equal(~regions[:, 0], outside)
    assert torch.equal(labels[outside], target.labels[outside]) and torch.equal(valid[outside], confident[outside])


def test_only_the_main_output_of_the_strong_view_learns_the_regions(monkeypatch) -> None:
    batch = make_batch(n_strong=1)
    terms = []
    for filled in (False, True):
        m = method(conf_threshold=0.3, threshold_decay=1.0)
        answer = [lambda t, c, *_: (t.labels, c), lambda t, c, *_: (torch.zeros_like(t.labels), torch.ones_like(c))]
        monkeypatch.setattr(corrmatch, "propagate", answer[filled])
        torch.manual_seed(3)
        terms.append(m.step(batch).terms)
    different = {k for k in terms[0] if not torch.equal(terms[0][k], terms[1][k])}
    assert different == {"loss_s", "filled_ratio"}


def test_regions_are_rows_of_the_map_above_half_of_their_range() -> None:
    m = method(regions=4)
    correlation = torch.rand(2, 6, 6).softmax(-1)
    torch.manual_seed(1)
    masks = m.region_masks(correlation, SIZE)
    assert masks.shape == (2, 4, *SIZE)
    rows = m.student.upsample(correlation.view(2, 6, 2, 3), SIZE)
    stretched = (rows - rows.amin((2, 3), keepdim=True)) / (rows.amax((2, 3)) - rows.amin((2, 3)))[..., None, None]
    for b in range(2):
        found = [[torch.equal(mask, row > 0.5) for row in stretched[b]].index(True) for mask in masks[b]]
        assert len(set(found)) == 4  # no row twice


def test_kl_against_a_loop() -> None:
    logits, target = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2).softmax(1)
    keep = torch.tensor([[[True, False], [True, True]]])
    padded = torch.tensor([[[False, False], [False, True]]])
    q, total = logits.softmax(1), 0.0
    for y, x in ((0, 0), (1, 0)):
        total += sum((target[0, c, y, x] * (target[0, c, y, x] / q[0, c, y, x]).log()).item() for c in range(3))
    assert unsupervised_kl(logits, target, keep, padded).item() == pytest.approx(total / 3, rel=1e-5)
    assert unsupervised_kl(target.log(), target, keep, padded).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("partner", ["same_image", "other"])
def test_a_second_batch_to_paste_from(partner: str) -> None:
    m, batch = method(conf_threshold=0.0, cutmix_partner=partner), make_batch(n_strong=1)
    batch.partner = make_batch(n_strong=1).unlabeled
    assert m.view_spec.partner == partner and m.step(batch).loss.isfinite()
