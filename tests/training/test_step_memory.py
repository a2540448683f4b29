"""The memory of a step, computed without numbers, against what a CPU measures."""

from __future__ import annotations

import pytest
import torch

from semiseg.config import compose_config
from semiseg.config.settings import read_settings
from semiseg.data.batch import SemiBatch
from semiseg.methods.base import SemiMethod
from semiseg.training.assemble import assemble
from semiseg.training.peak_memory import peak_memory
from semiseg.training.step_memory import step_memory, without_numbers
from semiseg.training.trainer import prepare_networks


def test_tensors_on_meta_are_counted_while_they_are_alive() -> None:
    kept: list[torch.Tensor] = []
    outside = torch.zeros(1000, device="meta")

    def work() -> None:
        for _ in range(3):
            torch.zeros(1000, device="meta")  # freed each time
        outside.add_(1)  # not made here
        kept.append(outside.view(10, 100).t()[:50].relu())  # views cost nothing; the result has 2000 bytes
        torch.zeros(1000, device="meta").mul_(2)

    assert peak_memory(work, "meta") == 2000 + 4000


def made(method: str, crop: int, n: int, *more: str, model: str = "deeplabv3plus_r18") -> tuple[SemiMethod, SemiBatch]:
    settings = read_settings(compose_config([
        f"method={method}", f"model={model}", f"crop_size={crop}", f"data.size=[{crop},{crop}]",
        "data.n_train=32", "protocol=shapes/1_8", f"batch.labeled={n}", f"batch.unlabeled={n}",
        "loader.num_workers=0", "trainer=cpu", "max_steps=100", *more,
    ]))  # fmt: skip
    assembly = assemble(settings)
    batch = assembly.datamodule.on_after_batch_transfer(next(iter(assembly.datamodule.train_dataloader())), 0)
    assembly.method.steps_done = 50
    prepare_networks(assembly.method, settings.trainer)
    return assembly.method.train(), batch


@pytest.mark.parametrize(
    "method,model,crop,more",
    [
        ("supervised", "deeplabv3plus_r18", 192, []), ("unimatch", "deeplabv3plus_r18", 128, []),
        ("guidedmix", "deeplabv3plus_r18", 192, []), ("corrmatch", "deeplabv3plus_r18", 128, []),
        ("s4mim", "deeplabv3plus_r18", 128, []), ("mkd", "deeplabv3plus_r18", 96, []),
        ("u2pl", "deeplabv3plus_r18", 128, ["method.contrast.keys_per_class=512"]),  # as many as there are
        ("unimatch_v2", "dpt_dinov2_s", 112, []), ("allspark", "segformer_b0", 128, []),
        ("allspark", "segformer_b0", 128, ["method.dropout=0"]),  # fused attention, as on a GPU
    ],
)  # fmt: skip
def test_a_step_without_numbers_has_the_measured_peak_within_ten_percent(
    method: str, model: str, crop: int, more: list[str]
) -> None:
    module, batch = made(method, crop, 2, *more, model=model)
    measured = step_memory(module, batch)
    computed = step_memory(module.to("meta"), batch.to("meta"), "cpu")
    assert computed.activations == pytest.approx(measured.activations, rel=0.10)
    assert computed.networks == measured.networks and computed.gradients == measured.gradients


def test_deterministic_mode_changes_nothing() -> None:
    def resized() -> int:
        x = torch.zeros(1, 8, 16, 16, device="meta", requires_grad=True)
        with without_numbers("cpu"):
            return peak_memory(
                lambda: torch.nn.functional.interpolate(x, (64, 64), mode="bilinear").sum().backward(), "meta"
            )

    plain, mode = resized(), torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    try:
        assert resized() == plain and torch.get_deterministic_debug_mode() == 1
    finally:
        torch.set_deterministic_debug_mode(mode)


def test_attention_with_dropout_keeps_its_weights_on_a_cpu_only() -> None:
    q, kept = torch.zeros(1, 1, 64, 8, device="meta", requires_grad=True), {}
    for target in ("cpu", "cuda"):

        def attend() -> None:
            torch.nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=0.1).sum().backward()

        with without_numbers(target):
            kept[target] = peak_memory(attend, "meta")
    assert kept["cpu"] > 3 * 64 * 64 * 4 > kept["cuda"]  # weights, mask and product


def test_activations_grow_with_the_batch_and_nothing_else_does() -> None:
    small, large = (
        step_memory(module.to("meta"), batch.to("meta"))
        for module, batch in (made("mean_teacher", 96, n) for n in (1, 2))
    )
    assert (small.networks, small.gradients, small.optimizer) == (large.networks, large.gradients, large.optimizer)
    assert small.at(2).total == pytest.approx(large.total, rel=0.10)
    assert small.gradients == small.optimizer and small.networks > 2 * small.gradients  # SGD with momentum; a teacher


def test_checkpointing_keeps_less() -> None:
    plain, checkpointed = (
        step_memory(module.to("meta"), batch.to("meta"))
        for module, batch in (
            made("supervised", 96, 2, *more) for more in ([], ["trainer.checkpoint_activations=true"])
        )
    )
    assert checkpointed.activations < 0.9 * plain.activations and checkpointed.networks == plain.networks
