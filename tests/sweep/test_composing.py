"""A sweep composes once for each choice of options; what its jobs get is what Hydra itself composes for each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.initialize import initialize_config_dir
from hydra.types import RunMode
from omegaconf import OmegaConf

from semiseg.config import conf_dir
from semiseg.sweep.composing import Composer

GROUPS = {
    "data": ["shapes"],
    "method": ["supervised", "mean_teacher", "unimatch"],
    "protocol": ["shapes/1_8", "shapes/1_16"],
    "model": ["tiny", "deeplabv3plus_r18"],
    "trainer": ["debug", "cpu"],
    "eval": ["whole", "sliding"],
}
VALUES = {
    "seed": [0, 1, 7], "study": ["a", "b"], "max_steps": [5, "null"], "epochs": [2, "null"],
    "crop_size": [32, "[32,64]"],
    "optim.lr": [0.1, "1e-3"], "batch.labeled": [2], "data.size": ["[48,48]"], "trainer.save_every": [5],
    "method.conf_threshold": [0.5],
}  # fmt: skip
ODD = ["+method.nothing=1", "~optim.lr", "++seed=4", "no.such.key=1", "seed=${max_steps}", "optim.lr=text"]


@pytest.fixture(scope="module")
def loader() -> Iterator[Any]:
    Plugins.instance()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="semiseg"):
        yield GlobalHydra.instance().config_loader()


def sweep_config(loader: Any, folder: Path, *overrides: str) -> Any:
    given = ["hydra.sweep.dir=" + str(folder), *overrides]
    return loader.load_configuration("config", given, RunMode.MULTIRUN)


def everything(make: Any) -> Any:
    """All that a job could look at; the type of the error when there is no configuration."""
    try:
        cfg = make()
        whole = OmegaConf.to_container(cfg, resolve=False)
        whole["hydra"]["job"].pop("override_dirname")
        return whole, cfg.hydra.sweep.subdir, OmegaConf.is_struct(cfg), OmegaConf.is_readonly(cfg.hydra)
    except Exception as e:
        return type(e), str(e)


def test_jobs_are_composed_as_by_hydra(loader: Any, tmp_path: Path) -> None:
    config = sweep_config(loader, tmp_path)
    compose, draw, refused = Composer(loader, config), random.Random(0), 0
    for _ in range(14):
        job = [f"{key}={draw.choice(some)}" for key, some in GROUPS.items() if key == "data" or draw.random() < 0.5]
        job += [f"{key}={draw.choice(some)}" for key, some in VALUES.items() if draw.random() < 0.4]
        job += [odd for odd in ODD if draw.random() < 0.1]
        draw.shuffle(job)
        given = everything(lambda job=job: compose(job))
        assert given == everything(lambda job=job: loader.load_sweep_config(config, job)), job
        refused += isinstance(given[0], type)
    assert 0 < refused < 10


def test_plain_values_share_one_composition(loader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, asked = sweep_config(loader, tmp_path), list[Any]()
    compose = Composer(loader, config)
    load = loader.load_sweep_config
    monkeypatch.setattr(loader, "load_sweep_config", lambda *given: asked.append(given[1]) or load(*given))
    jobs = [
        [f"method={m}", f"seed={s}", f"optim.lr={lr}"]
        for m in ("supervised", "unimatch")
        for s in range(3)
        for lr in (1, 2)
    ]
    found = [compose(job) for job in jobs]
    assert asked == [["method=supervised"], ["method=unimatch"]]
    assert [(c.seed, c.optim.lr) for c in found] == [(s, lr) for _ in range(2) for s in range(3) for lr in (1, 2)]
    assert len({c.hydra.sweep.subdir for c in found}) == len(jobs)


def test_a_folder_named_by_hydra_is_composed_by_hydra(loader: Any, tmp_path: Path) -> None:
    config = sweep_config(loader, tmp_path, "hydra.sweep.subdir=${hydra.job.override_dirname}")
    compose = Composer(loader, config)
    assert [compose([f"seed={s}", "study=x"]).hydra.sweep.subdir for s in (1, 2)] == [
        "seed=1,study=x",
        "seed=2,study=x",
    ]
