"""What the place of a run folder says, counted once."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir

from semiseg.config import compose_config, conf_dir
from semiseg.runs.folder import LEVELS, RunFolder


def test_the_levels_are_those_that_the_configuration_makes(tmp_path: Path) -> None:
    compose_config()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="x"):
        cfg = compose("config", overrides=["study=s", f"paths.runs={tmp_path}", "seed=3"], return_hydra_config=True)
        folder = RunFolder(Path(cfg.hydra.run.dir))
    assert folder.place == {
        "study": "s", "data": "shapes", "partition": "1_32", "method": "supervised", "model": "tiny", "seed": "seed_3",
    }  # fmt: skip
    assert folder.study == tmp_path / "s" and folder.above[-1] == tmp_path and len(folder.above) == len(LEVELS)
    assert folder.name == "shapes/1_32/supervised/tiny/seed_3"
