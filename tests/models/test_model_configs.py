from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
NAMES = {
    *(f"deeplabv3plus_{e}" for e in ("r18", "r50", "r101", "r101_os8", "convnext_t", "lite0", "lite1", "lite2")),
    *(f"deeplabv3_{e}" for e in ("r50", "r101")),
    *(f"segformer_b{i}" for i in range(6)),
    *(f"dpt_{family}_{s}" for family in ("dinov2", "dinov3") for s in "sbl"),
    "tiny",
}


def test_the_promised_models_are_there():
    assert {path.stem for path in CONFIGS} == NAMES


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_model_is_built_and_runs(path: Path, sketch: None):
    cfg = OmegaConf.merge({"num_classes": 6}, {"model": OmegaConf.load(path)})
    model = instantiate(cfg.model, _convert_="all").eval()
    assert model(torch.empty(1, 3, 75, 100)).shape == (1, 6, 75, 100)
    assert len(path.read_text().splitlines()) < 30
