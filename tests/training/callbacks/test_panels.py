from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from semiseg.ops.pseudo import PseudoLabels
from semiseg.training.callbacks.panels import Panels

PALETTE = [(10, 20, 30), (200, 100, 50)]


def test_panels_are_spread_over_the_list_and_hold_the_right_colors(tmp_path: Path) -> None:
    mean, std = (0.5, 0.25, 0.75), (0.5, 0.5, 0.25)
    panels = Panels(tmp_path, ["ground", "thing"], PALETTE, mean, std, 6, count=2)
    trainer = SimpleNamespace(
        is_global_zero=True, world_size=1, sanity_checking=False, global_step=1, loggers=[]
    )  # fmt: skip
    pixels = torch.arange(6).view(6, 1, 1, 1).expand(6, 3, 4, 5) * 10 / 255
    images = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    labels = torch.tensor([[0, 1, 255, 0, 1]] * 4).expand(6, 4, 5)
    padded = torch.zeros(1, 4, 5, dtype=torch.bool)
    padded[0, 0] = True
    pseudo = PseudoLabels(torch.ones(1, 4, 5, dtype=torch.long), torch.full((1, 4, 5), 0.5), padded)
    views = SimpleNamespace(weak=images[:1], padded=padded, truth=None)
    panels.on_train_batch_end(trainer, None, {"pseudo": pseudo}, SimpleNamespace(unlabeled=views), 0)
    panels.on_validation_start(trainer, None)
    for k in (0, 3):
        group = SimpleNamespace(images=images[k : k + 3], labels=labels[k : k + 3])
        panels.on_validation_batch_end(trainer, None, [labels[k : k + 3].clamp(max=1)], [group], k)
    panels.on_validation_end(trainer, None)

    def read(name: str) -> np.ndarray:
        return np.array(Image.open(tmp_path / f"{name}.png"))

    assert not (tmp_path / "val_2_image.png").exists()
    for number, index in ((0, 0), (1, 3)):
        assert (read(f"val_{number}_image") == 10 * index).all()
        assert read(f"val_{number}_truth")[0].tolist() == [
            [10, 20, 30],
            [200, 100, 50],
            [255] * 3,
            [10, 20, 30],
            [200, 100, 50],
        ]
        assert read(f"val_{number}_prediction")[0, 2].tolist() == [200, 100, 50]
    assert read("unlabeled_0_pseudo")[0, 0].tolist() == [255] * 3  # padding
    assert read("unlabeled_0_pseudo")[1, 0].tolist() == [200, 100, 50]
    assert (read("unlabeled_0_confidence") == 127).all()
    assert json.loads((tmp_path / "classes.json").read_text())["palette"] == [list(c) for c in PALETTE]
