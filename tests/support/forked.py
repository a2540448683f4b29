"""Jobs of a sweep as forks of the test's process: no import of torch for each, otherwise processes as in a real sweep.

That jobs start as commands of their own is tested where sweeps are killed (tests/sweep/test_killed_sweep.py).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest


class Fork:
    """What ``subprocess.Popen`` is for ``python -m semiseg ...``."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], stderr: Any, start_new_session: bool) -> None:
        assert command[:3] == [sys.executable, "-m", "semiseg"] and start_new_session
        self._code: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                code = _run(list(command[3:]), env, stderr.fileno())
            finally:
                os._exit(code)

    def poll(self) -> int | None:
        """The exit code; None while it runs, minus the signal that has killed it."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def send_signal(self, number: int) -> None:
        """Only while it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _run(words: list[str], env: Mapping[str, str], stderr: int) -> int:
    from hydra.core.global_hydra import GlobalHydra

    from semiseg import cli

    os.setsid()
    os.dup2(stderr, 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    GlobalHydra.instance().clear()
    sys.argv = ["semiseg", *words]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sweeps fork their jobs."""
    monkeypatch.setattr("semiseg.sweep.processes.subprocess", SimpleNamespace(Popen=Fork))
