import json
import random
import re

import numpy as np
import pytest

from semiseg.dashboard.compare.stats import Stat
from semiseg.dashboard.html.charts.axes import nice_ticks
from semiseg.dashboard.html.charts.bars import Bars, bar_chart
from semiseg.dashboard.html.charts.dots import Dots, dot_chart
from semiseg.dashboard.html.charts.lines import Line, line_chart, mean_curve, thin
from semiseg.dashboard.html.charts.svg import add, frame, markup
from semiseg.dashboard.read.metrics import Curve


def curve(points):
    return Curve(np.array(list(points), dtype=np.int64), np.array(list(points.values()), dtype=np.float64))


def chart(*lines, percent=True):
    return line_chart(lines, name="mIoU", percent=percent, width=600, height=300)


def test_svg_escapes_texts_and_attributes():
    chart = frame(10, 20, '"<&')
    add(chart, "text", "<b>&", class_="a\"b'", data_x=0.12345, stroke_width=2, style=None)
    svg = markup(chart)
    assert 'aria-label="&quot;&lt;&amp;"' in svg
    assert '<text class="a&quot;b\'" data-x="0.12" stroke-width="2">&lt;b&gt;&amp;</text>' in svg


def test_mean_curve_against_a_loop():
    rng = random.Random(3)
    curves = [curve({step: rng.random() for step in sorted(rng.sample(range(50), 30))}) for _ in range(3)]
    mean = mean_curve(curves)
    expected = {}
    for step in range(50):
        found = [dict(zip(c.steps.tolist(), c.values.tolist())).get(step) for c in curves]
        if None not in found:
            expected[step] = sum(found) / 3
    assert dict(zip(mean.steps.tolist(), mean.values.tolist())) == pytest.approx(expected)


def test_mean_of_curves_without_a_common_step_is_empty():
    assert len(mean_curve([curve({1: 0.5}), curve({2: 0.5})]).steps) == 0


def test_thin_keeps_short_curves_and_averages_long_ones():
    short = curve({1: 0.1, 2: 0.2})
    assert thin(short, 2) is short
    long = curve({i: float(i) for i in range(1000)})
    thinned = thin(long, 100)
    assert len(thinned.steps) == 100
    assert np.all(np.diff(thinned.steps) > 0)
    assert thinned.values.mean() == pytest.approx(long.values.mean())


@pytest.mark.parametrize("seed", range(20))
def test_ticks_are_round_and_enclose_the_range(seed):
    rng = random.Random(seed)
    low = rng.uniform(-10, 10) ** 3
    high = low + 10 ** rng.uniform(-4, 5)
    ticks = nice_ticks(low, high)
    steps = np.diff(ticks)
    assert ticks[0] <= low + 1e-6 * (high - low) and ticks[-1] >= high - 1e-6 * (high - low)
    assert 3 <= len(ticks) <= 8
    assert np.allclose(steps, steps[0])
    assert f"{steps[0]:.0e}"[0] in "125"


def test_ticks_of_one_value_enclose_it():
    for value in (0.0, 0.4, -3.0):
        ticks = nice_ticks(value, value)
        assert ticks[0] < value < ticks[-1]


def test_averages_of_a_constant_are_drawn():
    """They differ by rounding only."""
    assert nice_ticks(0.91234, 0.91234 + 2e-16) == nice_ticks(0.91234, 0.91234)
    constant = curve({1: 0.91234, 2: 0.91234 + 2e-16})
    assert line_chart([Line("one", "red", constant, ())], name="share", percent=True, width=380, height=260) is not None


def test_line_chart_draws_seeds_and_means_and_carries_the_means_for_the_readout():
    a, b = curve({1: 0.1, 2: 0.3}), curve({1: 0.3, 2: 0.5})
    svg = chart(Line("one", "red", mean_curve([a, b]), (a, b)), Line("two <", "blue", a, dash="2 4"))
    assert svg.count('class="seed"') == 2
    assert svg.count('class="mean"') == 2
    assert 'stroke-dasharray="2 4"' in svg
    data = json.loads(re.search('data-lines="(.*?)"', svg)[1].replace("&quot;", '"').replace("&lt;", "<"))
    assert data[0] == ["one", "red", [1, 2], [0.2, 0.4]]
    assert data[1][0] == "two <"


def test_gaps_break_a_line_and_lone_points_become_dots():
    svg = chart(Line("x", "red", curve({1: 0.1, 2: 0.2, 3: np.nan, 4: 0.3})))
    path = re.search(' d="(.*?)"', svg)[1]
    assert (path.count("M"), path.count("L"), path.count("h0")) == (2, 1, 1)
    assert "null" in svg
    assert "nan" not in svg.lower()


@pytest.mark.parametrize("points", [{}, {3: np.nan}])
def test_nothing_to_draw_gives_no_chart(points):
    assert chart(Line("x", "red", curve(points))) is None
    assert chart() is None


@pytest.mark.parametrize("points", [{5: 0.0}, {0: 1.0, 9: 1.0}, {0: 0.5}, {0: 0.0, 1: 1.0}, {0: 1.2, 1: 1.3}])
@pytest.mark.parametrize("percent", [True, False])
def test_every_point_lies_within_the_picture(points, percent):
    svg = chart(Line("x", "red", curve(points)), percent=percent)
    path = re.search(' d="(.*?)"', svg)[1]
    for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path):
        assert 50 <= float(x) <= 600
        assert 0 <= float(y) <= 300


def test_bars_leave_out_what_is_missing_and_show_the_spread_of_several_seeds():
    values = {"a": Stat(0.5, None, 1), "b": None}
    svg = bar_chart(["a", "b"], [Bars("x", "red", values), Bars("y", "blue", {"a": Stat(0.4, 0.1, 2)})], name="IoU")
    assert svg.count("<rect") == 2
    assert svg.count('class="whisker"') == 1
    assert "<title>a, y: 40.00 ± 10.00</title>" in svg
    assert bar_chart(["b"], [Bars("x", "red", values | {"a": None})], name="IoU") is None
    assert bar_chart([], [], name="IoU") is None


def test_bars_of_many_classes_make_the_chart_wider_not_thinner():
    entries = [Bars(str(i), "red", {str(c): Stat(0.5, None, 1) for c in range(150)}) for i in range(4)]
    svg = bar_chart([str(c) for c in range(150)], entries, name="IoU")
    assert float(re.search(r'viewBox="0 0 (\d+)', svg)[1]) > 3000
    assert min(float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)) >= 4


def test_dots_show_every_seed_and_the_reference():
    rows = [
        Dots("a", "red", (0.1, 0.2, 0.3), Stat(0.2, 0.1, 3)),
        Dots("b", "blue", (0.4,), Stat(0.4, None, 1)),
    ]
    svg = dot_chart(rows, name="mIoU", reference=0.2)
    assert svg.count("<circle") == 4
    assert svg.count('class="reference"') == 1
    assert "20.00 ± 10.00" in svg
    assert dot_chart([], name="mIoU") is None
