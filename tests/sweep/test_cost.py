"""What plan=true says: the state of each job, and the time from earlier runs or from a measurement. No training."""

from __future__ import annotations

from pathlib import Path

import pytest

from semiseg.errors import InputError
from semiseg.runs.files import write_json
from semiseg.sweep.cost import Speed, describe_plan, duration, makespan, measure_speed
from semiseg.sweep.jobs import Job, outcome
from semiseg.sweep.plan import Planned
from support.tiny import tiny

RESULT = {
    "data": "shapes", "protocol": "shapes/1_8", "partition": "1_8", "model": "tiny", "error": None,
    "miou": {"best": 0.5}, "seconds_training": 200.0, "seconds_validation": 8.0, "steps": 100,
}  # fmt: skip


def planned(runs: Path, method: str, seed: int, max_steps: int | None = 1000, val_every: int = 50) -> Planned:
    folder = runs / f"s/shapes/1_8/{method}/tiny/seed_{seed}"
    job = Job((f"method={method}", f"seed={seed}"), folder, f"method={method} seed={seed}")
    found = outcome(job)
    done = found if found.status in ("completed", "failed") else None
    return Planned(job, ("shapes", method, "tiny"), max_steps, val_every, done)


def put(folder: Path, **facts) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", {**RESULT, **facts})


def test_the_plan_lists_states_and_takes_the_speed_of_earlier_runs(tmp_path: Path) -> None:
    base = tmp_path / "s/shapes/1_8/supervised/tiny"
    put(base / "seed_0", status="completed", method="supervised", seed=0)
    put(base / "seed_1", status="failed", error="the loss is nan", method="supervised", seed=1, steps=0)
    put(base / "seed_2", status="interrupted", method="supervised", seed=2)
    write_json(base / "seed_2/progress.json", {"step": 400})
    asked: list[str] = []

    def measure(job: Planned) -> Speed:
        asked.append(job.job.label)
        return Speed(1.0, 10.0)

    jobs = [planned(tmp_path, "supervised", seed) for seed in range(4)]
    jobs += [planned(tmp_path, "mean_teacher", seed) for seed in range(2)]
    text = describe_plan(jobs, measure)
    lines = {line.split("seed=")[1][0] + line.split("method=")[1][0]: line for line in text.splitlines()[:6]}
    assert lines["0s"].split()[0] == "complete" and "mIoU 50.00" in lines["0s"]
    assert lines["1s"].split()[0] == "failed" and "the loss is nan" in lines["1s"]
    assert lines["2s"].split()[0] == "begun" and "step 400 of 1000" in lines["2s"]
    assert lines["3s"].split()[0] == "waiting"
    assert "6 jobs: 1 complete, 1 failed, 1 begun, 3 waiting" in text
    assert asked == ["method=mean_teacher seed=0"], "one measurement for each kind of run that the study does not know"
    # supervised: 2 s a step, 4 s a validation, 600 and 1000 steps left; mean_teacher: 1000 steps, 20 validations.
    seconds = [600 * 2 + 12 * 4, 1000 * 2 + 20 * 4, 1200, 1200]
    assert f"{duration(sum(seconds))} on 1, {duration(makespan(seconds, 2))} on 2" in text
    assert str(tmp_path / "s/sweep.json") in text


def test_jobs_whose_length_is_not_known_are_counted(tmp_path: Path) -> None:
    text = describe_plan([planned(tmp_path, "supervised", 0, max_steps=None)], lambda _: Speed(1.0, 1.0))
    assert "time unknown for 1 job(s)" in text and "on n workers" not in text
    assert "time unknown for 1 job(s)" in describe_plan([planned(tmp_path, "supervised", 0)], lambda _: None)


def test_five_real_steps_are_timed_elsewhere(forked_jobs, tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = (*tiny("model.width=8", "diagnostics.panels=0", "max_steps=1000"), "method=supervised")
    speed = measure_speed(Planned(Job(overrides, tmp_path / "run"), ("shapes", "supervised", "tiny"), 1000, 50))
    assert speed is not None and speed.step > 0 and speed.validation > 0
    assert not list(tmp_path.iterdir())
    wrong = Planned(Job((*overrides, "optim.lr=-1"), tmp_path / "run"), ("shapes", "supervised", "tiny"), 1000, 50)
    assert measure_speed(wrong) is None and "five steps could not be run (optim.lr=-1" in caplog.text


def test_workers_share_the_longest_jobs_first() -> None:
    assert makespan([3, 3, 2, 2, 2], 2) == 7 and makespan([5, 1], 4) == 5 and makespan([], 2) == 0
    assert [duration(s) for s in (40, 600, 9000, 200000)] == ["40 s", "10 min", "2.5 h", "2.3 d"]


def test_plan_is_for_sweeps(monkeypatch) -> None:
    from semiseg.commands import train

    assert train._with_plan(["-m", "plan=true", "seed=0,1"]) == ["-m", "hydra.sweeper.plan=true", "seed=0,1"]
    with pytest.raises(InputError, match="add -m"):
        train._with_plan(["plan=true"])
    with pytest.raises(InputError, match="expected plan=true or plan=false"):
        train._with_plan(["-m", "plan=yes"])
