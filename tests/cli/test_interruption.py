"""What an interrupted run leaves behind, and a process that cannot come to an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semiseg.config import compose_config
from semiseg.errors import InputError, RunFailed
from semiseg.training.callbacks.progress import Progress
from semiseg.training.fit import train
from support.tiny import tiny

LONG = tiny("max_steps=6", "val_every=6", "trainer.save_every=2", "diagnostics.panels=0", "study=it's")


def test_an_interrupted_run_says_how_to_go_on_and_logs_no_traceback(tmp_path: Path, monkeypatch) -> None:
    real = Progress.on_train_batch_end

    def notified(self, trainer, *args) -> None:
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        real(self, trainer, *args)

    monkeypatch.setattr(Progress, "on_train_batch_end", notified)
    with pytest.raises(KeyboardInterrupt):
        train(compose_config(LONG), tmp_path, LONG)
    text = (tmp_path / "log.txt").read_text()
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if "the same command resumes from the last checkpoint" in line]
    assert "stopped by SIGTERM at step 4" in line and line.endswith("'study=it'\"'\"'s'")


def test_a_folder_that_is_deleted_ends_its_run(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "run"
    real = Progress.on_train_batch_end

    def delete(self, trainer, *args) -> None:
        if trainer.global_step == 3:
            folder.rename(tmp_path / "elsewhere")
        real(self, trainer, *args)

    monkeypatch.setattr(Progress, "on_train_batch_end", delete)
    with pytest.raises(RunFailed, match="was deleted or moved during its run"):
        train(compose_config(LONG), folder, LONG)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"cannot write to the run folder .*Permission denied.*paths.runs=DIR"):
        train(compose_config(LONG), tmp_path, LONG)


STUCK = """
import multiprocessing, os, signal, sys, time
from semiseg.training.notice import Deadline

worker = multiprocessing.Process(target=time.sleep, args=(60,), daemon=True)
worker.start()
signal.signal(signal.SIGTERM, lambda *_: None)
with Deadline(patience=float(sys.argv[1])):
    print(worker.pid, flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.cli
@pytest.mark.parametrize(
    "patience,again,told", [("1", False, "no step has ended within 1 s"), ("60", True, "a second signal")]
)
def test_a_process_that_cannot_stop_is_ended_with_its_workers(patience: str, again: bool, told: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, patience], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    if again:
        time.sleep(1.3)
        process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and told in err and err.rstrip().endswith("interrupted")
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(worker, 0)
            if "Z" in Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[-1][:3]:
                raise ProcessLookupError  # ended, and not collected yet
            time.sleep(0.05)
