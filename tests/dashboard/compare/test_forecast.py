"""Learning curves: a power law is found again, its interval holds what it says, runs that differ are refused."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from semiseg.commands import forecast
from semiseg.dashboard.compare.forecast import CONFIDENCE, FARTHEST, LearningCurve, comparable, fit
from semiseg.dashboard.read.find import find_runs
from semiseg.errors import InputError
from support.fake_runs import write_run

COUNTS = (8, 8, 16, 16, 32, 32, 64)


def law(n: float, scale: float = 0.9, exponent: float = 0.25) -> float:
    return 1 - scale * n**-exponent


def noisy(seed: int, spread: float = 0.1, counts: tuple[int, ...] = COUNTS) -> list[tuple[int, float]]:
    noise = np.random.default_rng(seed).normal(0, spread, len(counts))
    return [(n, 1 - (1 - law(n)) * math.exp(e)) for n, e in zip(counts, noise)]


@pytest.mark.parametrize("scale,exponent", [(0.9, 0.25), (0.5, 0.05), (1.0, 0.7), (0.6, -0.1)])
@pytest.mark.parametrize("counts", [(10, 20), (10, 20, 40), (3, 3, 100, 1000)])
def test_a_power_law_is_found_again(scale: float, exponent: float, counts: tuple[int, ...]) -> None:
    curve = fit((n, law(n, scale, exponent)) for n in counts)
    assert (curve.scale, curve.exponent) == (pytest.approx(scale), pytest.approx(exponent, abs=1e-9))
    assert curve.miou(57) == pytest.approx(law(57, scale, exponent))
    assert curve.spread is None if len(counts) == 2 else curve.spread == pytest.approx(0, abs=1e-9)


def test_the_order_of_the_runs_does_not_matter() -> None:
    points = noisy(0)
    assert fit(points) == fit(points[::-1])


@pytest.mark.parametrize("at", [16, 64, 256])
def test_the_interval_holds_another_run_as_often_as_it_says(at: int) -> None:
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(1000):
        low, high = fit(noisy(seed)).interval(at)
        held += low <= 1 - (1 - law(at)) * math.exp(rng.normal(0, 0.1)) <= high
    assert held / 1000 == pytest.approx(CONFIDENCE, abs=0.03)


def test_the_interval_grows_with_the_scatter_and_with_the_distance() -> None:
    def width(curve: LearningCurve, n: int) -> float:
        low, high = curve.interval(n)
        assert low < curve.miou(n) < high
        return math.log((1 - low) / (1 - high))

    calm, wild = fit(noisy(3, 0.02)), fit(noisy(3, 0.2))
    assert width(calm, 32) < width(wild, 32)
    assert width(wild, 32) < width(wild, 64) < width(wild, 256)
    assert fit([(10, 0.4), (20, 0.5)]).interval(40) is None


def test_the_labels_for_a_score_are_where_the_curves_reach_it() -> None:
    curve = fit(noisy(5, 0.02))
    target = curve.miou(2 * curve.most)
    fewest, middle, most = curve.labels_for(target)
    assert middle == pytest.approx(2 * curve.most, rel=1e-6)
    assert fewest < middle < most <= FARTHEST * curve.most
    assert curve.interval(fewest)[1] == pytest.approx(target) and curve.interval(most)[0] == pytest.approx(target)
    assert curve.labels_for(0.99) == (None, None, None)
    assert curve.labels_for(0.0)[1] == curve.most


def test_a_perfect_score_and_one_number_of_labels() -> None:
    assert math.isfinite(fit([(10, 0.9), (20, 1.0)]).exponent)
    with pytest.raises(ValueError, match="two or more numbers of labels"):
        fit([(10, 0.5), (10, 0.6)])


def put(runs: Path, labels: int, miou: float, seed: int = 0, method: str = "unimatch", **result) -> None:
    facts = {"n_labeled": labels, "validation_fingerprint": "v", "miou": {"last": miou, "best": 0.99}, **result}
    write_run(runs, method, seed, suffix=f"{labels}", result=facts)


def test_the_command_tells_and_draws_the_curve(tmp_path: Path, capsys) -> None:
    for k, (n, miou) in enumerate(noisy(2, 0.03)):
        put(tmp_path, n, miou, seed=k)
    write_run(tmp_path, "unimatch", 99, unfinished=True)
    picture = tmp_path / "curve.svg"
    assert forecast.main([str(tmp_path), f"output={picture}"]) == 0
    told = capsys.readouterr().out
    assert "7 runs, 1 incomplete left out" in told and "90 % prediction interval" in told
    assert "     128      64 " in told and "     256     192 " in told and "+1 point: about " in told
    chart = ElementTree.parse(picture).getroot()
    assert len([e for e in chart.iter() if e.tag.endswith("circle")]) == 7
    assert chart.tag == "{http://www.w3.org/2000/svg}svg"
    with pytest.raises(InputError, match="not overwritten"):
        forecast.main([str(tmp_path), f"output={picture}"])
    assert forecast.main([str(tmp_path), f"output={picture}", "overwrite=true"]) == 0


def test_two_runs_have_a_curve_without_an_interval(tmp_path: Path, capsys) -> None:
    put(tmp_path, 10, 0.4)
    put(tmp_path, 20, 0.5)
    assert forecast.main([str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "no interval" in told and " to " not in told


def test_no_forecast_where_labels_did_not_help(tmp_path: Path, capsys) -> None:
    put(tmp_path, 10, 0.5)
    put(tmp_path, 20, 0.45, steps=100)
    assert forecast.main([str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "no forecast" in told and "different numbers of steps, 100, 2000" in told


@pytest.mark.parametrize(
    "second,message",
    [
        ({"labels": 10}, "all 2 runs have 10 labeled images"),
        ({"method": "supervised"}, "different methods: .*unimatch"),
        ({"validation_fingerprint": "w"}, "different validation images; .*val.txt"),
    ],
)
def test_runs_that_do_not_compare_are_refused_in_a_line(second: dict, message: str, tmp_path: Path) -> None:
    put(tmp_path, 10, 0.4)
    put(tmp_path, **{"labels": 20, "miou": 0.5, "seed": 1, **second})
    with pytest.raises(InputError, match=message) as error:
        forecast.main([str(tmp_path)])
    assert "\n" not in str(error.value)


def test_incomplete_runs_alone_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, "unimatch", 0, unfinished=True)
    with pytest.raises(InputError, match="none of the 1 runs is complete"):
        comparable(find_runs([tmp_path]))


@pytest.mark.parametrize("words,message", [([], "needs folders of runs"), (["x", "output=a.png"], "ends in .svg")])
def test_mistakes_are_told_in_a_line(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        forecast.main(words)
