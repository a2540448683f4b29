from __future__ import annotations

import itertools

import numpy as np
import pytest

from semiseg.data.loading.sampling import Draw, SemiBatchSampler, Stream, draws, sample_rng
from semiseg.errors import InputError


def sampler(**changes) -> SemiBatchSampler:
    options = {"n_labeled": 5, "n_unlabeled": 12, "batch_labeled": 2, "batch_unlabeled": 3, "seed": 7}
    options |= changes
    return SemiBatchSampler(options.pop("n_labeled"), options.pop("n_unlabeled"), **options)


def take(batches: SemiBatchSampler, n: int) -> list[list[Draw]]:
    return list(itertools.islice(batches, n))


def of(stream: Stream, batches: list[list[Draw]]) -> list[Draw]:
    return [draw for batch in batches for draw in batch if draw.stream is stream]


def test_every_pass_is_the_whole_list_in_a_new_order():
    stream = draws(0, Stream.UNLABELED, 10, range(40))
    passes = [[d.item for d in stream[start : start + 10]] for start in range(0, 40, 10)]
    assert all(sorted(order) == list(range(10)) for order in passes)
    assert len({tuple(order) for order in passes}) == 4
    assert [d.epoch for d in stream] == [position // 10 for position in range(40)]


def test_orders_differ_by_stream_and_seed():
    def order(seed: int, stream: Stream) -> list[int]:
        return [d.item for d in draws(seed, stream, 30, range(30))]

    assert order(0, Stream.LABELED) == order(0, Stream.LABELED)
    assert order(0, Stream.LABELED) != order(1, Stream.LABELED)
    assert order(0, Stream.LABELED) != order(0, Stream.UNLABELED)


def test_batches_hold_both_streams_in_order():
    batch = sampler().batch(3)
    assert [d.stream for d in batch] == [Stream.LABELED] * 2 + [Stream.UNLABELED] * 3
    assert all(d.stream is Stream.LABELED for d in sampler(n_unlabeled=0).batch(3))


def test_the_same_run_twice_and_resumed():
    unbroken = take(sampler(), 20)
    assert take(sampler(), 20) == unbroken
    assert take(sampler(start_step=13), 7) == unbroken[13:]


@pytest.mark.parametrize("partner", ["flip", "same_image", "other"])
def test_ranks_together_see_what_one_process_with_the_joined_batch_sees(partner):
    def shared(**changes) -> list[set[Draw]]:
        return [set(batch) for batch in take(sampler(partner=partner, **changes), 15)]

    one = shared(batch_labeled=4, batch_unlabeled=6)
    first, second = shared(rank=0, world_size=2), shared(rank=1, world_size=2)
    for joined, a, b in zip(one, first, second):
        assert a | b == joined
        assert not a & b


def test_no_image_twice_within_a_pass_over_all_ranks():
    ranks = [take(sampler(rank=rank, world_size=2), 2) for rank in range(2)]
    seen = [d.item for batches in ranks for d in of(Stream.UNLABELED, batches)]
    assert sorted(seen) == list(range(12))


def test_a_list_shorter_than_the_batch_repeats_as_different_draws():
    batch = sampler(n_labeled=2, batch_labeled=5).batch(0)
    labeled = of(Stream.LABELED, [batch])
    assert [d.epoch for d in labeled] == [0, 0, 1, 1, 2]
    assert len(set(labeled)) == 5


def test_partner_same_image_differs_in_the_stream_only():
    for batch in take(sampler(partner="same_image"), 5):
        unlabeled, partner = of(Stream.UNLABELED, [batch]), of(Stream.PARTNER, [batch])
        assert [d[1:] for d in partner] == [d[1:] for d in unlabeled]


def test_partner_other_is_a_stream_of_its_own():
    batches = take(sampler(partner="other"), 4)
    unlabeled, partner = of(Stream.UNLABELED, batches), of(Stream.PARTNER, batches)
    assert sorted(d.item for d in partner) == list(range(12))
    assert [d.item for d in partner] != [d.item for d in unlabeled]


def test_each_word_of_a_draw_changes_its_random_numbers():
    base = Draw(Stream.UNLABELED, 3, 1)
    others = [base._replace(stream=Stream.PARTNER), base._replace(item=4), base._replace(epoch=2)]
    numbers = [sample_rng(0, draw).integers(2**60) for draw in (base, *others)]
    numbers.append(sample_rng(1, base).integers(2**60))
    assert len(set(numbers)) == 5
    assert sample_rng(0, base).integers(2**60) == numbers[0]


def test_neighboring_samples_are_uncorrelated():
    noise = np.stack([sample_rng(0, Draw(Stream.LABELED, k, 0)).random(400) for k in range(40)])
    correlation = np.corrcoef(noise) - np.eye(40)
    assert np.abs(correlation).max() < 5 / np.sqrt(400)


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed is -1"):
        sampler(seed=-1)
