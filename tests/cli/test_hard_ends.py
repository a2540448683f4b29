"""Real commands that meet a killed worker, a second signal, a deleted folder, an odd folder name, a metrics.csv of a
million lines. Slow: each is a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from semiseg.config.quoting import quoted
from semiseg.dashboard.read.find import find_runs
from semiseg.runs.result import read_result
from support.fake_runs import write_run
from support.own_photos import write_photos
from support.processes import family, send
from support.tiny import tiny

pytestmark = [pytest.mark.slow, pytest.mark.cli]

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LONG = tiny(
    "method=mean_teacher", "max_steps=1000000", "val_every=1000000", "trainer.save_every=5", "loader.num_workers=2",
    "diagnostics.panels=0",
)  # fmt: skip
MEGABYTE = 2**20


def start(folder: Path, *words: str, program: str = "") -> subprocess.Popen:
    how = ["-c", program] if program else ["-m", "semiseg"]
    return subprocess.Popen(
        [sys.executable, *how, *words],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def begun(folder: Path) -> bool:
    return any(folder.rglob("last.ckpt"))


def gone(pid: int) -> bool:
    """Whether a process has ended, collected or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def workers_of(pid: int) -> list[int]:
    """The data workers: children with the command line of their parent."""
    lines = {p: Path(f"/proc/{p}/cmdline").read_bytes() for p in family(pid)}
    return [p for p, line in lines.items() if p != pid and line == lines[pid]]


def test_of_eight_killed_data_workers_each_is_told_in_one_line(tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = start(folder, "train", *LONG)
        wait_for(lambda folder=folder: begun(folder), run)
        time.sleep(0.1 * number)  # wherever the main process is then
        send([workers_of(run.pid)[number % 2]], signal.SIGKILL)
        _, err = run.communicate(timeout=120)
        last = err.rstrip().splitlines()[-1]
        assert run.returncode == 1 and "Traceback" not in err, err
        assert last.startswith("error: a data worker died while reading shapes image"), last
        (result,) = map(read_result, (p.parent for p in folder.rglob("result.json")))
        assert result["status"] == "failed" and f"error: {result['error']}" == last


STUCK = """
import sys, time
from pathlib import Path
from semiseg.methods.mean_teacher import MeanTeacher

real = MeanTeacher.step
def step(self, batch):
    if self.steps_done == 8:
        Path("stuck").touch()
        while True:
            time.sleep(0.01)
    return real(self, batch)
MeanTeacher.step = step
sys.argv[0] = "semiseg"
from semiseg.cli import main
main()
"""


@pytest.mark.parametrize(
    "again,told,limit", [(True, "interrupted by the user", 25), (False, "no step has ended within 30 s", 60)]
)
def test_a_step_that_never_ends_is_ended_with_its_workers(again: bool, told: str, limit: int, tmp_path: Path) -> None:
    run = start(tmp_path, "train", *LONG, program=STUCK)
    wait_for((tmp_path / "stuck").exists, run)
    members = family(run.pid)
    assert len(members) >= 3
    asked = time.monotonic()
    run.send_signal(signal.SIGTERM)
    if again:
        time.sleep(1.5)
        assert run.poll() is None
        run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 130 and told in err and time.monotonic() - asked < limit
    deadline = time.monotonic() + 20
    while not all(map(gone, members)):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.05)


def test_a_folder_that_is_deleted_while_its_run_goes_on(tmp_path: Path) -> None:
    run = start(tmp_path, "train", *LONG)
    wait_for(lambda: begun(tmp_path), run)
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    _, err = run.communicate(timeout=120)
    last = err.rstrip().splitlines()[-1]
    assert run.returncode == 1 and "Traceback" not in err, err
    assert last.startswith("error: ") and "was deleted or moved during its run" in last


@pytest.mark.parametrize("words", [["trainer.devices=2"], ["-m", "sweep=lr", "hydra.sweeper.n_trials=1"]])
@pytest.mark.parametrize("name", ["run (1)", "it's a=b, ~ données"])
def test_runs_work_inside_folders_with_odd_names(words: list[str], name: str, tmp_path: Path) -> None:
    if "-m" in words:
        pytest.importorskip("optuna")
    folder = tmp_path / name
    write_photos(folder / "my data", size=40)
    drawn = ("data.size=", "data.n_train=", "data.n_val=", "diagnostics.panels=0")
    root = f"data.root={folder / 'my data'}"
    if "-m" in words:  # in a sweep a comma separates values, unless they are quoted
        root = quoted("data.root", folder / "my data")
    own = ("data=folder", root, "protocol=folder/all")
    run = start(folder, "train", *words, *tiny(*drawn, *own))
    _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    (result,) = map(read_result, (p.parent for p in folder.rglob("result.json")))
    assert result["status"] == "completed" and not [p for p in tmp_path.iterdir() if p.name != name]


MEASURED = """
from semiseg.cli import main
try:
    main()
finally:
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(line.split()[1], file=sys.stderr)
"""


def test_a_million_lines_cost_the_report_little_memory(tmp_path: Path, capsys) -> None:
    folder = write_run(tmp_path / "runs")
    with (folder / "metrics.csv").open("w") as file:
        file.write("step,train/loss,train/loss_sup,train/loss_unsup,train/kept_ratio,lr/head,time/step,val/miou\n")
        for i in range(1, 1_000_001):
            file.write(f"{i},{1 / i:.6f},0.51234,0.41234,0.91234,0.001234,0.0123,{0.5 if i % 1000 == 0 else ''}\n")
    before = time.monotonic()
    # Asked of the process itself: the ru_maxrss of a child begins with the memory of the process that forked it.
    report = f"import sys; sys.argv[1:] = ['report', 'runs']\n{MEASURED}"
    process = subprocess.Popen(
        [sys.executable, "-c", report],
        cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    told = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = int(told.split()[-1]) * 1024 / MEGABYTE
    with capsys.disabled():
        print(
            f"\n1,000,000 lines: {peak:.0f} MB, {used.ru_utime + used.ru_stime:.1f} s of CPU, "
            f"{time.monotonic() - before:.1f} s"
        )
    assert process.returncode == 0 and peak < 300
    (run,) = find_runs([tmp_path / "runs"])
    assert run.last_step == 1_000_000 and run.problems == ()
