"""The memory of a step, estimated by what autograd saves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semiseg.config import compose_config
from semiseg.config.settings import read_settings
from semiseg.data.batch import SemiBatch
from semiseg.methods.base import SemiMethod
from semiseg.training.assemble import assemble
from semiseg.training.peak_memory import peak_memory
from semiseg.training.saved_tensors import count_saved, step_memory


def test_each_storage_is_counted_once_and_parameters_not_at_all() -> None:
    layer, x = nn.Linear(8, 8), torch.randn(4, 8, requires_grad=True)

    def forward() -> torch.Tensor:
        y = layer(x)  # keeps x
        return (y * y.view(8, 4).view(4, 8)).sum()  # keeps y, and a view of it

    saved = count_saved(forward, without=layer)
    assert saved.total == x.nbytes + 4 * 8 * 4 and saved.largest == x.nbytes


def test_a_meta_device_counts_the_same() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    x = torch.randn(2, 3, 16, 16)
    on_cpu = count_saved(lambda: network(x).sum(), without=network)
    meta = network.to("meta")
    assert count_saved(lambda: meta(x.to("meta")).sum(), without=meta) == on_cpu


def made(method: str, crop: int, n: int) -> tuple[SemiMethod, SemiBatch]:
    assembly = assemble(read_settings(compose_config([
        f"method={method}", "model=deeplabv3plus_r18", f"crop_size={crop}", f"data.size=[{crop},{crop}]",
        "data.n_train=32", "protocol=shapes/1_8", f"batch.labeled={n}", f"batch.unlabeled={n}",
        "loader.num_workers=0", "trainer=cpu", "max_steps=100",
    ])))  # fmt: skip
    batch = assembly.datamodule.on_after_batch_transfer(next(iter(assembly.datamodule.train_dataloader())), 0)
    assembly.method.steps_done = 50
    return assembly.method.train(), batch


@pytest.mark.parametrize("method", ["supervised", "fixmatch", "unimatch"])
def test_the_estimate_is_within_ten_percent_of_the_measured_peak(method: str) -> None:
    module, batch = made(method, 192, 2)
    saved = count_saved(lambda: module.step(batch).loss, without=module)

    def step() -> None:
        module.step(batch).loss.backward()

    step()  # the gradients are there from now on
    assert saved.peak == pytest.approx(peak_memory(step), rel=0.10)


def test_activations_grow_with_the_batch_and_nothing_else_does() -> None:
    small, large = (step_memory(*made("mean_teacher", 96, n)) for n in (1, 2))
    assert (small.networks, small.gradients, small.optimizer) == (large.networks, large.gradients, large.optimizer)
    assert small.at(2).total == pytest.approx(large.total, rel=0.10)
    assert small.gradients == small.optimizer and small.networks > 2 * small.gradients  # SGD with momentum; a teacher
