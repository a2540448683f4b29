"""A file that is wrong at some sizes is not what is left."""

from __future__ import annotations

from pathlib import Path

import semiseg
from semiseg.commands import export as command
from semiseg.export import torch_program
from support.tiny import OPTIONS


def test_a_format_that_gets_free_sizes_wrong_leaves_a_file_of_one_size(tmp_path: Path, monkeypatch, capsys) -> None:
    run = semiseg.train("shapes", "supervised", max_steps=2, runs=tmp_path / "runs", options=OPTIONS)
    honest = torch_program.open_file

    def wrong_at_other_sizes(folder: Path):
        run = honest(folder)
        return lambda images: run(images) if images.shape[-2:] == (32, 32) else -run(images)

    monkeypatch.setattr(torch_program, "open_file", wrong_at_other_sizes)
    assert command.main([f"run={run['folder']}", "format=torch"]) == 0
    told = capsys.readouterr().out
    assert "dynamic batch, 32 x 32 pixels" in told and "100.0000 %" in told
