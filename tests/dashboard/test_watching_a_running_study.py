import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from semiseg.dashboard.read import metrics, progress, run
from semiseg.dashboard.read.cache import RunReader
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.report import main
from semiseg.dashboard.watch import waiting, watch
from semiseg.errors import InputError
from support.fake_runs import write_run, write_study

SOURCE = Path(__file__).parents[2] / "src"


def sign(folder, *, pid=None, host=None, age=0.0, **more):
    said = {"step": 40, "max_steps": 2000, "doing": "train", "seconds_left": 95.0, "time": time.time() - age}
    said |= {"host": host or socket.gethostname(), "pid": pid or os.getpid(), "device": "cpu", **more}
    (folder / "progress.json").write_text(json.dumps(said))


@pytest.fixture
def dead_pid():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def status(root):
    (run,) = find_runs([root])
    return run.status


def test_running_is_told_from_dead(tmp_path, dead_pid):
    folder = write_run(tmp_path, unfinished=True, n_logged=2)
    assert status(tmp_path) == "unfinished"
    sign(folder)
    assert status(tmp_path) == "running"
    sign(folder, pid=dead_pid)
    assert status(tmp_path) == "interrupted"
    sign(folder, pid=dead_pid, host="elsewhere")
    assert status(tmp_path) == "running"
    sign(folder, host="elsewhere", age=progress.STALE_ELSEWHERE_SECONDS + 1)
    assert status(tmp_path) == "interrupted"
    (folder / "progress.json").write_text('{"step": 4')
    assert status(tmp_path) == "unfinished"


def test_a_result_is_the_last_word_until_the_run_goes_on(tmp_path, dead_pid):
    folder = write_run(tmp_path, n_logged=2, result={"status": "interrupted", "error": "asked to stop"})
    sign(folder)
    os.utime(folder / "result.json", (2e9, 2e9))
    assert status(tmp_path) == "interrupted"
    os.utime(folder / "result.json", (1e9, 1e9))
    assert status(tmp_path) == "running"


def test_only_what_changed_is_read_again(tmp_path, monkeypatch):
    write_study(tmp_path, images=False)
    reader, read = RunReader(), []
    original = metrics.read_metrics

    def read_metrics(path, problems):
        read.append(path)
        return original(path, problems)

    monkeypatch.setattr(run, "read_metrics", read_metrics)
    first = find_runs([tmp_path], reader)
    assert len(read) == 8
    with (first[3].folder / "metrics.csv").open("a") as file:
        file.write("1\n")
    assert [run.folder for run in find_runs([tmp_path], reader)] == [run.folder for run in first]
    assert read[8:] == [first[3].folder / "metrics.csv"]


def test_jobs_that_have_not_begun_wait(tmp_path):
    folder = write_run(tmp_path, n_logged=2)
    study = tmp_path / "demo"
    jobs = [{"folder": folder.relative_to(study).as_posix(), "overrides": ["seed=0"]}]
    jobs.append({"folder": "shapes/1_16/supervised/tiny/seed_1", "overrides": ["seed=1", "model=tiny"]})
    (study / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    for root in (tmp_path, study, folder):
        assert waiting([root], find_runs([root])) == ("seed=1 model=tiny",)
    (study / "sweep.json").write_text('{"jobs": [')
    assert waiting([tmp_path], find_runs([tmp_path])) == ()


def test_the_page_follows_and_ends_when_all_is_quiet(tmp_path, capsys, dead_pid):
    write_study(tmp_path, images=False)
    folder = write_run(tmp_path, seed=7, unfinished=True, n_logged=2, last_step=30)
    sign(folder)
    page = tmp_path / "report.html"
    seen = []

    def look():
        while not page.exists():
            time.sleep(0.02)
        seen.append(page.read_text(encoding="utf-8"))
        (folder / "result.json").write_text('{"status": ')  # half written
        time.sleep(0.3)
        sign(folder, pid=dead_pid)
        (folder / "result.json").unlink()

    other = threading.Thread(target=look)
    other.start()
    assert watch([tmp_path], page, every=0.1, quiet=0.6) == 0
    other.join()
    assert '<span class="status running">running</span>' in seen[0]
    assert 'http-equiv="refresh" content="1"' in seen[0] and "1 min 35 s" in seen[0]
    assert "RuntimeError: loss is nan &lt;b&gt;" in seen[0]
    last = page.read_text(encoding="utf-8")
    assert "refresh" not in last.split("<style>")[0] and "no longer updated" in last
    assert "no heartbeat" in last
    assert "No run is active, and nothing has changed" in capsys.readouterr().out


def test_a_folder_without_runs_is_wrong_input_after_a_while(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        main([tmp_path / "typo"], None, watching=True, every=0.05, quiet=0.2)


@pytest.mark.cli
def test_a_real_run_is_watched_and_ctrl_c_ends_it(tmp_path):
    tiny = [
        "data=shapes", "data.size=[48,48]", "data.n_train=16", "data.n_val=2", "protocol=shapes/1_8",
        "crop_size=[32,32]", "batch.labeled=2", "batch.unlabeled=2", "max_steps=4", "val_every=2", "trainer=debug",
        "loader.num_workers=0", "model.width=8", "method=fixmatch", f"paths.runs={tmp_path / 'runs'}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "semiseg"]
    env = os.environ | {"PYTHONPATH": str(SOURCE)}
    watching = subprocess.Popen(
        [*command, "report", "--watch", str(tmp_path / "runs"), "every=0.2"], env=env, stdout=subprocess.PIPE, text=True
    )
    subprocess.run([*command, "train", *tiny], env=env, check=True, capture_output=True)
    page = tmp_path / "runs" / "report.html"
    until = time.monotonic() + 20
    while time.monotonic() < until and not (page.exists() and "status completed" in page.read_text()):
        time.sleep(0.1)
    watching.send_signal(signal.SIGINT)
    out, _ = watching.communicate(timeout=20)
    assert watching.returncode == 0
    assert "Watching: open" in out and out.rstrip().endswith(f"Report: {page}")
    assert "status completed" in page.read_text()
    (progress,) = (tmp_path / "runs").rglob("progress.json")
    said = json.loads(progress.read_text())
    assert (said["step"], said["max_steps"], said["device"], said["seconds_left"]) == (4, 4, "cpu", 0.0)
    assert {"memory/peak_mb", "time/step"} <= set(
        (progress.parent / "metrics.csv").read_text().split("\n")[0].split(",")
    )
