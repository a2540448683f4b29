"""What the place of a run folder says, counted once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from semiseg.config import compose_config, conf_dir
from semiseg.errors import InputError
from semiseg.runs.folder import FILES, LEVELS, RUN_FILES, RunFolder


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


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_pipe_or_a_folder_in_place_of_a_file_of_the_run(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(InputError, match=f"{name} is not a "):
        RunFolder(tmp_path).claim({}, {})
    path.unlink()
    path.mkdir()
    if name in FILES:
        with pytest.raises(InputError, match=f"{name} is not a file"):
            RunFolder(tmp_path).claim({}, {})
    else:
        assert RunFolder(tmp_path).claim({}, {}) is None
    assert RunFolder(tmp_path).claim({}, {}, overwrite=True) is None
