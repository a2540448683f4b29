from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from semiseg.ops.ema import Ema, EmaUpdater, TeacherPair
from semiseg.ops.schedules import ConstantDecay, CosineDecay, WarmupDecay, poly


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def moved(student: nn.Module) -> None:
    """One pretend training step."""
    student.train()(torch.randn(2, 3, 8, 8))
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))


@pytest.mark.parametrize("buffers", ["average", "copy", "keep"])
@pytest.mark.parametrize("decay", [ConstantDecay(0.9), WarmupDecay(0.8)])
def test_update_against_a_loop(buffers: str, decay) -> None:
    student = network()
    teacher = copy.deepcopy(student)
    updater = EmaUpdater(TeacherPair(teacher, student, Ema(decay, buffers)))
    expected = {k: v.clone() for k, v in teacher.state_dict().items()}
    parameters = dict(student.named_parameters())
    for i in range(6):
        moved(student)
        updater.update(i)
        for k, v in student.state_dict().items():
            if k in parameters or (buffers == "average" and v.is_floating_point()):
                expected[k] = decay(i) * expected[k] + (1 - decay(i)) * v
            elif buffers != "keep":
                expected[k] = v.clone()  # integers are copied: averaging would truncate them
    for k, v in teacher.state_dict().items():
        assert torch.allclose(v, expected[k], atol=1e-6), k


def test_decay_zero_copies_and_the_first_warmup_update_copies() -> None:
    for decay in (ConstantDecay(0.0), WarmupDecay(0.99)):
        student = network()
        teacher = copy.deepcopy(student)
        moved(student)
        EmaUpdater(TeacherPair(teacher, student, Ema(decay))).update(0)
        assert all(torch.equal(a, b) for a, b in zip(teacher.state_dict().values(), student.state_dict().values()))


def test_warmup_is_the_mean_of_all_snapshots_then_exponential() -> None:
    decay = WarmupDecay(0.996)
    value, snapshots = 0.0, []
    for i in range(250):
        snapshots.append(float(i * i))
        value = decay(i) * value + (1 - decay(i)) * snapshots[-1]
    assert value == pytest.approx(sum(snapshots) / 250)
    assert decay(249) == pytest.approx(0.996) and decay(10_000) == 0.996


def test_cosine_decay_runs_from_start_to_end() -> None:
    decay = CosineDecay(steps=10, start=0.9, end=1.0)
    assert decay(0) == pytest.approx(0.9) and decay(5) == pytest.approx(0.95)
    assert decay(10) == decay(99) == pytest.approx(1.0)


def test_poly_against_hand_values_and_the_unimatch_offset() -> None:
    assert [poly(s, 10) for s in (0, 5, 10)] == [1.0, pytest.approx(0.5**0.9), 0.0]
    # The UniMatch code sets the rate after the step with that step's index: steps 0 and 1 use the full rate.
    rate, rates = 1.0, []
    for i in range(10):
        rates.append(rate)
        rate = (1 - i / 10) ** 0.9
    assert [poly(i, 10, offset=1) for i in range(10)] == pytest.approx(rates)
    assert poly(1, 10, warmup_steps=4) == pytest.approx(0.5 * 0.9**0.9)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"max_decay=1\.5"):
        WarmupDecay(1.5)
    with pytest.raises(ValueError, match=r"buffers=blend: .*allowed"):
        Ema(buffers="blend")
    with pytest.raises(ValueError, match="differ in 6 tensors"):
        EmaUpdater(
            TeacherPair(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), nn.ModuleDict({"a": nn.Linear(1, 1)}), Ema())
        )
