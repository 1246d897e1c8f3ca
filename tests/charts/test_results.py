"""Results side by side: what is drawn, by plotly and as a picture, and its words; and the interval of a fraction."""

import pytest

from lepton_lab.charts import results
from lepton_lab.errors import SpecError
from lepton_lab.stats import Interval, interval, proportion


def test_a_proportion_has_wilson_s_interval():
    """Of the textbook's formula: (p + z²/2n ± z sqrt(p q / n + z²/4n²)) / (1 + z²/n)."""
    right, n, z = 715, 872, 1.959964
    p = right / n
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    found = proportion(right, n)
    assert (found.mean, found.n) == (p, n)
    assert found.low == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-6)
    assert found.high == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-6)
    assert proportion(5, 5).high == pytest.approx(1) and proportion(5, 5).low < 0.6


def test_results_have_a_row_each_and_a_line_for_what_they_are_held_to():
    rows = {"<b>": proportion(9, 10).scaled(100), "three seeds": interval([1.0, 2.0, 3.0]), "known": 4.0}
    chart = results("How good", rows, "accuracy (%)", {"chance": 50})
    drawn = chart.plotly()
    first, _, known = drawn["data"]
    assert first["x"] == [90] and first["y"] == [0] and "&lt;b&gt;" in first["name"]
    assert first["error_x"]["arrayminus"] == [rows["<b>"].mean - rows["<b>"].low] != first["error_x"]["array"]
    assert known["error_x"]["array"] == [0]
    assert drawn["layout"]["shapes"][0]["x0"] == 50
    assert "<b> 90 (95 % interval 59.58 to 98.21); three seeds 2 (95 %" in chart.text
    assert "; known 4. chance has 50." in chart.text
    assert chart.png()[:4] == b"\x89PNG"


def test_results_of_nothing_are_refused():
    with pytest.raises(SpecError, match="values={}: must be one result or more"):
        results("Nothing", {}, "x")


def test_an_interval_without_width_is_told_as_a_number():
    assert "same 0.5." in results("One", {"same": Interval(0.5, 0, 0.5, 0.5, 3)}, "x").text


def test_an_interval_of_none_or_all_holds_the_fraction_itself():
    for count in range(1, 100):
        for right in (0, count):
            found = proportion(right, count)
            assert found.low <= found.mean <= found.high
