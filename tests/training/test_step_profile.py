"""Where the time of a step goes: sections, their sum, and the command that prints them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from semiseg.commands import bench
from semiseg.errors import InputError
from semiseg.methods import mean_teacher
from semiseg.ops.mixing import cutmix
from semiseg.training.step_profile import Stopwatch, convolution_backward_flops

TINY = [
    "data.size=[48,48]", "data.n_train=16", "data.n_val=2", "protocol=shapes/1_8", "crop_size=[32,32]",
    "batch.labeled=2", "batch.unlabeled=2", "trainer=debug", "loader.num_workers=0", "model.width=8",
]  # fmt: skip


def test_an_outer_section_does_not_count_what_an_inner_one_takes(monkeypatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 7.0])  # outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    watch = Stopwatch(torch.device("cpu"))
    watch.running = True
    with watch.section("outer"), watch.section("inner"):
        pass
    assert watch.seconds == {"outer": 1.0 + 4.0, "inner": 2.0}


def test_a_wrapped_method_of_a_network_is_counted_and_gives_what_it_gave() -> None:
    layer, watch = nn.Linear(3, 2), Stopwatch(torch.device("cpu"))
    x = torch.randn(4, 3)
    before = layer(x)
    watch.wrap(layer, "forward", "forward")
    watch.running = True
    assert torch.equal(layer(x), before) and set(watch.seconds) == {"forward"}


def test_the_command_prints_every_part_of_a_step(tmp_path: Path, capsys) -> None:
    output = tmp_path / "step.json"
    assert bench.main(["step", *TINY, "method=mean_teacher", "steps=2", f"output={output}"]) == 0
    printed = capsys.readouterr().out
    record = json.loads(output.read_text())
    parts = {
        "data wait", "transfer and normalize", "forward student", "forward teacher", "loss terms", "backward",
        "optimizer", "EMA", "logging", "rest",
    }  # fmt: skip
    terms = ("sup_loss", "probabilities", "pseudo_label", "class_mask", "cutmix", "unsupervised_cross_entropy")
    parts |= {f"loss terms: {name}" for name in terms}
    assert mean_teacher.cutmix is cutmix, "the module has its functions back"
    assert set(record["seconds"]) == parts and all(f"{part} " in printed for part in parts)
    assert sum(record["seconds"].values()) == pytest.approx(record["total"])
    assert record["flops"] > 0 and record["peak_memory"] > 0 and record["utilization"] > 0
    assert not list(tmp_path.glob("*/")), "nothing of the run stays"


@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_both_gradients_of_a_convolution_take_the_operations_of_its_forward_pass(layer, groups: int) -> None:
    network = layer(12, 12, 3, padding=1, groups=groups, bias=False)
    x = torch.randn(2, 12, 8, 8, requires_grad=True)
    mapping = {torch.ops.aten.convolution_backward: convolution_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        network(x).sum().backward()
    forward = 2 * 2 * 8 * 8 * 12 * (12 // groups) * 9
    assert counter.get_total_flops() == 3 * forward


def test_a_contrast_is_split_into_its_functions(tmp_path: Path) -> None:
    output = tmp_path / "step.json"
    assert bench.main(["step", *TINY, "method=u2pl", "method.warmup=0", "steps=1", f"output={output}"]) == 0
    seconds = json.loads(output.read_text())["seconds"]
    assert {"forward contrast", "loss terms: info_nce", "loss terms: prototypes", "loss terms: entropy"} <= set(seconds)


@pytest.mark.parametrize(
    "argv,message",
    [
        (["speed"], "unknown action 'bench speed'"),
        (["step", "steps=0"], "steps=0: allowed are"),
        (["step", "method=none"], "unknown method 'none'"),
    ],
)
def test_mistakes_are_told_in_a_line(argv: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bench.main(argv)
