"""Are the BatchNorm statistics of a student to blame? Score it as trained, and with statistics of clean training views.

Run: python experiments/camvid/clean_statistics.py RUN_FOLDER...
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import nn

from semiseg import build
from semiseg.checkpoint import load_checkpoint
from semiseg.inference import most_probable

BATCHES = 40


@torch.no_grad()
def main(run: Path) -> None:
    checkpoint = load_checkpoint(run / "checkpoints" / "last.ckpt")
    cfg = OmegaConf.create(checkpoint["semiseg"]["config"])
    cfg.loader.num_workers = 0
    dataset = build.build_dataset(cfg)
    method = build.build_method(cfg, dataset.classes)
    method.load_state_dict(checkpoint["state_dict"])
    data = build.build_datamodule(cfg, dataset, build.build_partition(cfg, dataset), method)
    student, metric = method.student, method.metrics["student"]

    def score() -> float:
        student.eval()
        metric.reset()
        for batch in data.val_dataloader():
            for group in data.on_after_batch_transfer(batch, 0):
                metric.update(most_probable(method.inference(student, group.images)), group.labels)
        return 100 * metric.compute().miou

    as_trained = score()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    student.train()
    for _, batch in zip(range(BATCHES), data.train_dataloader()):
        batch = data.on_after_batch_transfer(batch, 0)
        student(batch.labelled if batch.unlabelled is None else torch.cat([batch.labelled, batch.unlabelled.weak]))
    print(f"{run}: mIoU {as_trained:.2f} as trained, {score():.2f} with statistics of clean views")


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        main(Path(folder))
