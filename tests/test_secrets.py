"""Passwords and keys stand in no record."""

from __future__ import annotations

from pathlib import Path

import yaml

from semiseg.arguments import mask_config, mask_overrides
from semiseg.config import compose_config, conf_dir
from semiseg.training.fit import train
from support.tiny import tiny


def test_what_looks_like_a_secret() -> None:
    typed = [
        "+logger.wandb.api_key=abc", "hub_token=x", "db.password=y", "method.contrast.keys_per_class=20", "seed=1",
        "hydra.sweeper.storage=postgresql://me:pw@host/db", "trainer.tokens=3",
    ]  # fmt: skip
    assert mask_overrides(typed) == [
        "+logger.wandb.api_key=***", "hub_token=***", "db.password=***", "method.contrast.keys_per_class=20", "seed=1",
        "hydra.sweeper.storage=postgresql://me:***@host/db", "trainer.tokens=3",
    ]  # fmt: skip
    nested = {"a": [{"token": "x", "n": 1}], "url": "mysql://u:p@h", "key": None}
    assert mask_config(nested) == {"a": [{"token": "***", "n": 1}], "url": "mysql://u:***@h", "key": None}


def test_no_option_is_mistaken_for_one() -> None:
    """Its value would be stored as ``***``, and the run could be neither evaluated nor exported."""
    for file in conf_dir().rglob("*.yaml"):
        options = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert mask_config(options) == options, file


def test_no_file_of_a_run_holds_one(tmp_path: Path) -> None:
    cfg = compose_config(tiny("diagnostics.panels=0"))
    cfg.trial.storage = "postgresql://me:hunter2@host/db"
    typed = [*tiny("diagnostics.panels=0"), "+logger.wandb.api_key=hunter2"]
    train(cfg, tmp_path, typed)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"hunter2" in p.read_bytes()]
    train(cfg, tmp_path, typed)  # complete: a masked record is no other configuration
