"""One bad folder is one row that says what is wrong; the others are reported as if it were not there."""

import json
import os
import time

import pytest

from semiseg.dashboard.read import progress
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.report import write_report
from support.fake_runs import write_run

DEEP = "[" * 100_000


def sign(**changes):
    said = {"step": 40, "max_steps": 2000, "time": time.time(), "host": "elsewhere", "pid": 4}
    return json.dumps(said | changes)


YAML_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)

DAMAGES = {
    "step_infinite": ("progress.json", '{"step": 1e999, "time": 1, "host": "a", "pid": 1}', "'step'"),
    "step_huge": ("progress.json", '{"step": 1e300, "time": 1, "host": "a", "pid": 1}', "'step' is out of range"),
    "pid_out_of_range": ("progress.json", sign(pid=2**40), "'pid' is not a process id"),
    "pid_negative": ("progress.json", sign(pid=-1), "'pid' is not a process id"),
    "time_out_of_range": ("progress.json", sign(time=1e15), "'time' is not in seconds"),
    "progress_deep": ("progress.json", DEEP, "nested too deeply"),
    "progress_list": ("progress.json", "[1]", "a JSON list, expected an object"),
    "result_list": ("result.json", "[]", "a JSON list, expected an object"),
    "result_deep": ("result.json", DEEP, "nested too deeply"),
    "result_huge_number": ("result.json", '{"status": "completed", "steps": 1e999999}', ""),
    "result_long_digits": ("result.json", '{"status": "completed", "steps": ' + "9" * 5000 + "}", "not JSON"),
    "miou_of_percent": ("result.json", '{"status": "completed", "miou": {"best": 76.5}}', "a number from 0 to 1"),
    "metrics_without_step": ("metrics.csv", "a,b\n1,2\n", "names no 'step' column"),
    "metrics_bad_byte": ("metrics.csv", b"step,val/miou\n1,0.5\n2,0.\xff6\n3,0.7\n", "1 damaged line(s) skipped"),
    "metrics_nul": ("metrics.csv", b"step,val/miou\n1,0.5\n\x00\n3,0.7\n", "damaged line(s)"),
    "metrics_infinite_step": ("metrics.csv", "step,val/miou\n1e999,0.5\n", "damaged line(s)"),
    "overrides_bomb": ("overrides.yaml", YAML_BOMB, "YAML aliases"),
    "overrides_deep": ("overrides.yaml", DEEP, "overrides.yaml: skipped"),
    "classes_deep": ("images/classes.json", DEEP, "nested too deeply"),
    "classes_infinite": ("images/classes.json", '{"classes": ["a"], "palette": [[1e999, 0, 0]]}', "json: skipped"),
    "diagnostics_list": ("diagnostics.json", "[]", "diagnostics.json: skipped"),
    "diagnostics_empty": ("diagnostics.json", "{}", "not in semiseg's format"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_costs_one_row_and_no_other_run(tmp_path, name):
    file, content, said = DAMAGES[name]
    write_run(tmp_path, seed=0, n_logged=2)
    folder = write_run(tmp_path, seed=1, n_logged=2)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    report = write_report([tmp_path], tmp_path / "report.html")
    good, bad = report.runs
    assert (good.status, good.problems) == ("completed", ())
    if said:
        (problem,) = bad.problems
        assert said in problem and str(folder / file) in problem
        assert said.replace("'", "&#39;") in report.html.read_text()


@pytest.mark.parametrize(
    "config", [YAML_BOMB, DEEP, "\xff", "max_steps: .inf\n", "- 1\n", "a: !!python/object:os.x {}\n"]
)
def test_a_damaged_configuration_still_marks_a_run(tmp_path, config):
    folder = write_run(tmp_path, n_logged=2)
    (folder / "config.yaml").write_bytes(config.encode("latin-1"))
    (run,) = write_report([tmp_path], tmp_path / "report.html").runs
    assert (run.status, run.method, run.max_steps) == ("completed", "supervised", None)


@pytest.mark.parametrize("name", ["result.json", "metrics.csv", "overrides.yaml", "config.yaml", "progress.json"])
def test_pipes_are_not_opened(tmp_path, name):
    folder = write_run(tmp_path, n_logged=2)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    (run,) = write_report([tmp_path], tmp_path / "report.html").runs
    assert name == "config.yaml" or "not a regular file" in run.problems[0]


def test_files_of_absurd_size_are_not_read(tmp_path):
    folder = write_run(tmp_path, n_logged=2)
    with (folder / "result.json").open("wb") as file:
        file.truncate(10**9)
    (run,) = find_runs([tmp_path])
    assert run.status == "unreadable" and "1,000,000,000 bytes" in run.problems[0]


def test_an_error_nobody_thought_of_is_a_row_too(tmp_path, monkeypatch):
    write_run(tmp_path, n_logged=2)
    monkeypatch.setattr("semiseg.dashboard.read.run._status", lambda *_: 1 / 0)
    (run,) = write_report([tmp_path], tmp_path / "report.html").runs
    assert (run.status, run.method) == ("unreadable", "supervised")
    assert "ZeroDivisionError" in run.problems[0]


def test_names_that_are_not_utf8_do_not_stop_the_report(tmp_path, capsys):
    write_run(tmp_path, n_logged=2, result={"method": "caf\udce9"})
    folder = os.fsencode(tmp_path) + b"/caf\xe9/seed_0"
    os.makedirs(folder)
    with open(folder + b"/config.yaml", "w"):
        pass
    report = write_report([tmp_path], tmp_path / "report.html")
    assert len(report.runs) == 2
    assert "caf\\udce9" in report.html.read_text() and "caf\\udce9" in report.text
    print(report.text)


def test_a_process_that_took_the_id_of_a_dead_run_does_not_make_it_run(tmp_path, monkeypatch):
    folder = write_run(tmp_path, unfinished=True, n_logged=2)
    monkeypatch.setattr(progress.socket, "gethostname", lambda: "here")
    minute_ago = time.time() - 60
    (folder / "progress.json").write_text(sign(host="here", pid=os.getpid(), time=minute_ago))
    monkeypatch.setattr(progress, "_start_time", lambda pid: minute_ago - 100)
    assert find_runs([tmp_path])[0].status == "running"
    monkeypatch.setattr(progress, "_start_time", lambda pid: minute_ago + 30)  # younger than the last sign
    assert find_runs([tmp_path])[0].status == "interrupted"


def test_the_start_time_of_a_process_is_that_of_the_system():
    begun = progress._start_time(os.getpid())
    assert begun is None or 0 <= time.time() - begun < 24 * 3600
    assert progress._start_time(2**31 - 1) is None


def test_a_dead_run_of_another_host_does_not_stay_running(tmp_path):
    folder = write_run(tmp_path, unfinished=True, n_logged=2)
    (folder / "progress.json").write_text(sign(time=time.time() - 10))
    assert find_runs([tmp_path])[0].status == "running"
    (folder / "progress.json").write_text(sign(time=time.time() - progress.STALE_ELSEWHERE_SECONDS - 1))
    assert find_runs([tmp_path])[0].status == "interrupted"


def test_panels_of_older_runs_in_their_spelling_are_found(tmp_path):
    folder = write_run(tmp_path, "unimatch", images=True, n_logged=2) / "images"
    for path in folder.glob("unlabeled_*"):
        path.rename(folder / path.name.replace("unlabeled", "unlabelled"))
    (run,) = find_runs([tmp_path])
    assert run.images["unlabeled_0_pseudo"].name == "unlabelled_0_pseudo.png"
