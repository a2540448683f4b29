"""Labeled crops that show a rare class more often: which images, in what order, and what the crops show."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from semiseg.data.batch import ViewSpec
from semiseg.data.loading.balance import ClassBalance
from semiseg.data.loading.samples import Images, TrainSamples
from semiseg.data.loading.sampling import Draw, SemiBatchSampler, Stream, draws
from semiseg.data.views.transforms import TrainViews

SHOWS = np.zeros((20, 3), bool)
SHOWS[:, 0] = True
SHOWS[:10, 1] = True
SHOWS[7, 2] = True  # one image of twenty


def sampler(rank: int = 0, world_size: int = 1, start_step: int = 0, batch: int = 4) -> SemiBatchSampler:
    balance = ClassBalance(SHOWS, seed=5)
    return SemiBatchSampler(
        20, 0, batch_labeled=batch, batch_unlabeled=1, seed=5, rank=rank, world_size=world_size, start_step=start_step,
        labeled_draws=balance.draws,
    )  # fmt: skip


def test_every_second_sample_is_chosen_by_a_class_drawn_evenly() -> None:
    balance = ClassBalance(SHOWS, seed=5)
    found = balance.draws(range(6000))
    assert [d.stream for d in found[:4]] == [Stream.LABELED, Stream.BALANCED] * 2
    chosen = found[1::2]
    counts = Counter(balance.wanted(d) for d in chosen)
    assert all(counts[c] == pytest.approx(1000, abs=100) for c in range(3))
    assert all(SHOWS[d.item, balance.wanted(d)] for d in chosen)
    share = sum(d.item == 7 for d in found) / len(found)
    assert share > 3 / 20  # 1 of 20 without it


def test_the_other_half_is_the_ordinary_stream() -> None:
    ordinary = ClassBalance(SHOWS, seed=5).draws(range(80))[::2]
    assert ordinary == draws(5, Stream.LABELED, 20, range(40))
    assert sorted(d.item for d in ordinary[:20]) == list(range(20))


def test_no_two_samples_share_their_random_numbers() -> None:
    found = ClassBalance(SHOWS, seed=5).draws(range(2000))
    assert len(set(found)) == 2000


def test_a_resumed_run_and_several_processes_see_the_same() -> None:
    whole = [sampler().batch(step) for step in range(12)]
    assert [next(iter(sampler(start_step=step))) for step in range(12)] == whole
    ranks = [sampler(rank=r, world_size=2, batch=2) for r in range(2)]
    assert [ranks[0].batch(step) + ranks[1].batch(step) for step in range(12)] == whole


class TwoCorners:
    """One image whose class 2 is a small spot."""

    classes, name, blank, balance = ("a", "b", "c"), "corners", "ignore", "classes"

    def load_image(self, image_id: str) -> np.ndarray:
        return np.zeros((64, 64, 3), np.uint8)

    def load_mask(self, image_id: str) -> np.ndarray:
        mask = np.zeros((64, 64), np.uint8)
        mask[8:14, 8:14] = 2
        return mask

    def locate(self, image_id: str) -> str:
        return image_id


def test_the_crop_is_drawn_again_until_it_shows_the_class() -> None:
    balance = ClassBalance(np.array([[True, False, True]]), seed=0)
    views = TrainViews(24, scale=(1.0, 1.0))
    samples = TrainSamples(Images(TwoCorners()), ["x"], [], views, ViewSpec(), 0, False, balance)
    chosen = [d for d in balance.draws(range(400)) if d.stream is Stream.BALANCED and balance.wanted(d) == 2]
    hits = [(samples[d].labeled[1] == 2).any() for d in chosen]
    plain = [(samples[Draw(Stream.LABELED, 0, k)].labeled[1] == 2).any() for k in range(len(chosen))]
    assert np.mean(hits) > 0.6 > 0.2 > np.mean(plain)
    again = samples[chosen[0]].labeled
    assert all(np.array_equal(a, b) for a, b in zip(again, samples[chosen[0]].labeled))
    assert samples[chosen[0]].stream is Stream.LABELED and samples.locate(tuple(map(int, chosen[0]))) == "x"


def test_nothing_is_labeled() -> None:
    found = ClassBalance(np.zeros((3, 2), bool), seed=0).draws(range(6))
    assert all(d.stream is Stream.LABELED for d in found)
