from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from semiseg.ops.pseudo import PseudoLabels
from semiseg.training.callbacks.metrics_log import MetricsLog

CLASSES = ("a", "b", "c")


class FakeLogger:
    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.lines.append((step, values))


def drive(log: MetricsLog, outputs: list[dict], truths: list[torch.Tensor | None]) -> list[tuple[int, dict]]:
    logger = FakeLogger()
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.5, "name": "encoder"}, {"lr": 5.0, "name": "head"}])
    trainer = SimpleNamespace(
        global_step=0, max_steps=len(outputs), accumulate_grad_batches=1, loggers=[logger], is_global_zero=True,
        optimizers=[optimizer],
    )  # fmt: skip
    module = SimpleNamespace(num_classes=3, classes=CLASSES)
    log.on_train_start(trainer, module)
    for output, truth in zip(outputs, truths):
        trainer.global_step += 1
        batch = SimpleNamespace(unlabeled=SimpleNamespace(truth=truth))
        log.on_train_batch_end(trainer, module, output, batch, 0)
    return logger.lines


def output(loss: float, pseudo: PseudoLabels | None = None, keep: torch.Tensor | None = None) -> dict:
    return {"loss": torch.tensor(loss), "terms": {"loss_sup": torch.tensor(2 * loss)}, "pseudo": pseudo, "keep": keep}


def test_lines_hold_means_over_the_steps_since_the_last() -> None:
    lines = drive(MetricsLog(every=2), [output(x) for x in (1.0, 3.0, 5.0)], [None] * 3)
    assert [step for step, _ in lines] == [2, 3]
    assert [v["train/loss"] for _, v in lines] == [2.0, 5.0]
    assert [v["train/loss_sup"] for _, v in lines] == [4.0, 10.0]
    assert lines[0][1]["lr/encoder"] == 0.5 and lines[0][1]["lr/head"] == 5.0 and lines[0][1]["time/step"] > 0


def test_pseudo_label_statistics_against_a_loop() -> None:
    outputs, truths = [], []
    kept = inside = hits = known = 0
    share, predicted, labeled, right = ([0] * 3 for _ in range(4))
    for _ in range(2):
        pseudo = PseudoLabels(torch.randint(0, 3, (2, 4, 5)), torch.rand(2, 4, 5), torch.rand(2, 4, 5) > 0.8)
        keep = pseudo.keep(0.4)
        truth = torch.randint(0, 3, (2, 4, 5))
        truth[:, 0] = 255
        truth[pseudo.padded] = 255
        outputs.append(output(1.0, pseudo, keep))
        truths.append(truth)
        flat = zip(*(t.flatten().tolist() for t in (pseudo.labels, keep, pseudo.padded, truth)))
        for label, k, p, t in flat:
            kept += k
            inside += not p
            share[label] += k
            if t == 255:
                continue
            labeled[t] += 1
            if k:
                known += 1
                hits += label == t
                predicted[label] += 1
                right[label] += label == t
    ((_, values),) = drive(MetricsLog(every=2), outputs, truths)
    assert values["train/kept_ratio"] == pytest.approx(kept / inside, rel=0.05)  # mean of two steps' ratios
    for c, name in enumerate(CLASSES):
        assert values[f"train/pseudo_share/{name}"] == pytest.approx(share[c] / kept)
        assert values[f"pseudo/precision/{name}"] == pytest.approx(right[c] / predicted[c])
        assert values[f"pseudo/recall/{name}"] == pytest.approx(right[c] / labeled[c])
    assert values["pseudo/accuracy"] == pytest.approx(hits / known)
    assert values["pseudo/coverage"] == pytest.approx(known / sum(labeled))


def test_nothing_kept_for_long_warns_once(caplog) -> None:
    pseudo = PseudoLabels(torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 2), torch.zeros(1, 2, 2).bool())
    nothing = [output(1.0, pseudo, pseudo.keep(0.9)) for _ in range(12)]
    with caplog.at_level(logging.WARNING):
        lines = drive(MetricsLog(every=2, warn_after=4), nothing, [None] * 12)
    assert len(caplog.records) == 1 and "no pseudo-label has passed" in caplog.text
    assert lines[-1][1]["train/kept_ratio"] == 0.0
