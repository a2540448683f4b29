"""Leases of run folders: one holder at a time, an expired one taken over, the earlier holder locked out."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from semiseg.runs import lease as leases
from semiseg.runs.lease import Lease, check_held, current, environment, staging, storage_time, take


def age(lease: Lease, seconds: float) -> None:
    now = storage_time(lease.folder.parent)
    os.utime(lease.folder / leases.HOLDER, (now - seconds, now - seconds))


def test_a_lease_has_one_holder(tmp_path: Path) -> None:
    place, run = tmp_path / "leases", tmp_path / "run"
    first = take(place, run, 60)
    assert first.held() and not first.taken_over and take(place, run, 60) is None
    first.release()
    second = take(place, run, 60)
    assert second.held() and not second.taken_over and not first.held()


def test_an_expired_lease_is_taken_over_and_its_holder_locked_out(tmp_path: Path, monkeypatch) -> None:
    place, run = tmp_path / "leases", tmp_path / "run"
    run.mkdir()
    first = take(place, run, 60)
    monkeypatch.setenv(leases.LEASE, environment(first)[leases.LEASE])
    assert current() == first
    written = staging(run) / "late.json"
    written.write_text("written before the freeze")
    age(first, 59)
    assert take(place, run, 5) is None, "its own time counts, not that of the one who wants it"
    age(first, 61)
    second = take(place, run, 60)
    assert second.taken_over and second.held()
    assert not first.held() and not first.touch()
    with pytest.raises(FileNotFoundError):
        os.replace(written, run / "result.json")
    with pytest.raises(FileNotFoundError):
        (staging(run) / "another").write_text("x")
    assert list(run.iterdir()) == [] and second.held()
    first.release()
    assert take(place, run, 60) is None, "a release that comes too late releases nothing"


def test_a_touched_lease_does_not_expire(tmp_path: Path) -> None:
    first = take(tmp_path / "leases", tmp_path / "run", 60)
    age(first, 61)
    assert first.touch()
    assert take(tmp_path / "leases", tmp_path / "run", 60) is None


def test_a_holder_that_ended_before_it_wrote_its_name(tmp_path: Path) -> None:
    place = tmp_path / "leases"
    (place / "1").mkdir(parents=True)
    assert take(place, tmp_path / "run", 60) is None
    os.utime(place / "1", (time.time() - 61, time.time() - 61))
    assert take(place, tmp_path / "run", 60).folder.name == "2"


def test_of_many_that_want_an_expired_lease_one_gets_it(tmp_path: Path) -> None:
    place, run = tmp_path / "leases", tmp_path / "run"
    for _ in range(20):
        age(take(place, run, 60), 61)
        found: list[Lease | None] = []
        barrier = threading.Barrier(8)

        def want(found: list = found, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            found.append(take(place, run, 60))

        threads = [threading.Thread(target=want) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [lease for lease in found if lease is not None]
        assert winner.held() and winner.taken_over
        winner.release()


def test_files_outside_the_run_folder_are_staged_beside_themselves(tmp_path: Path, monkeypatch) -> None:
    assert staging(tmp_path) == tmp_path
    lease = take(tmp_path / "leases", tmp_path / "run", 60)
    monkeypatch.setenv(leases.LEASE, environment(lease)[leases.LEASE])
    assert staging(tmp_path / "elsewhere") == tmp_path / "elsewhere"
    assert staging(tmp_path / "run" / "checkpoints") == lease.folder
    check_held()


def test_a_process_without_its_lease_ends_at_once(tmp_path: Path) -> None:
    first = take(tmp_path / "leases", tmp_path / "run", 60)
    age(first, 61)
    take(tmp_path / "leases", tmp_path / "run", 60)
    code = "from semiseg.runs.lease import check_held\ntry:\n  check_held()\nfinally:\n  print('goes on')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment(first)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == leases.LOST_CODE and done.stdout == ""
    assert done.stderr.startswith("error: this run was taken over by another worker")
