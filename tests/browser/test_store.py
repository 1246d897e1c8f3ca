"""The live view's store of points alone: what blocks in any order, lost or repeated, leave of a series."""

import base64
import json
import struct
from array import array

import pytest
from lepton_widgets.live import static

pytestmark = pytest.mark.browser

STORE = static("base.js", "chart.js", "store.js")
# A store without a model's kernel; `seen` is what it holds, and how often it asked for everything anew.
BEGIN = """
const packed = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const header = { runs: ["a"], round: 1 };
let resets = 0;
const store = new Store({ get: (name) => (name === "header" ? header : undefined), on() {}, send() { resets += 1; } });
const seen = () => [...store.entries].map(([id, { series, received }]) =>
  [id, Array.from(series.x.subarray(0, series.n)), Array.from(series.y.subarray(0, series.n)), received]);
"""


@pytest.fixture(scope="module")
def said(browser):
    """Function that runs a body with a store, and gives what it returns."""
    page = browser.new_page()
    yield lambda body, given=None: page.evaluate(
        "([code, given]) => new Function('given', code)(given)", [STORE + BEGIN + body, given]
    )
    page.close()


def merge(*blocks):
    """Calls of `merge` for one series, each of (version, start, steps)."""
    key = '{ run: "a", metric: "loss", split: "train", rank: 0 }'
    return "".join(
        f"store.merge({key}, {version}, {start}, new Float64Array({xs}), new Float64Array({xs}).map((x) => -x));\n"
        for version, start, xs in blocks
    )


@pytest.mark.parametrize(
    ("blocks", "steps", "resets"),
    [
        ([(0, 0, [1, 2]), (0, 2, [3])], [1, 2, 3], 0),
        ([(0, 0, [1, 2]), (0, 1, [2, 3])], [1, 2, 3], 0),  # repeats a point
        ([(0, 0, [1, 2]), (0, 0, [1])], [1, 2], 0),  # is behind
        ([(0, 0, [1]), (0, 2, [3])], [1], 1),  # one was lost
        ([(1, 0, [1, 2]), (0, 2, [3])], [1, 2], 0),  # of an older version
        ([(0, 0, [1, 2, 3]), (1, 0, [1, 5])], [1, 5], 0),  # what a resumed run did anew
        ([(0, 0, [1, 2]), (1, 1, [2])], [1, 2], 1),  # of a newer version, without its begin
        ([(0, 0, [1]), (0, 3, [4]), (0, 5, [6])], [1], 1),  # it asks once, not for each
    ],
)
def test_blocks_that_repeat_points_or_are_ahead_of_a_lost_one(said, blocks, steps, resets):
    entries, asked = said(merge(*blocks) + "return [seen(), resets];")
    ((name, xs, ys, received),) = entries
    assert name == "a|loss|train|0" and asked == resets and received == len(steps)
    assert xs == steps and ys == [-x for x in steps]


def test_a_block_is_read_whole_but_for_what_is_no_number(said):
    head = [[0, "loss", "train", -1, 2, 0, 2], [1, "accuracy", "val", 3, 0, 0, 3]]
    text = json.dumps(head).encode()
    text += b" " * (-(len(text) + 4) % 8)
    values = array("d", [1, 2, 0.5, 0.25, 7, 8, 9, 0.1, float("nan"), 0.3])
    block = base64.b64encode(struct.pack("<I", len(text)) + text + values.tobytes()).decode()
    assert said("store.take(packed(given)); return seen();", block) == [
        ["0|loss|train|-1", [1, 2], [0.5, 0.25], 2],
        ["1|accuracy|val|3", [7, 9], [0.1, 0.3], 3],
    ]


def test_a_message_of_another_round_is_passed_over_and_a_whole_one_begins_anew(said):
    before, asked, after = said(
        merge((0, 0, [1, 2]))
        + """store.receive({ type: "delta", round: 2 }, []);
        const before = seen().length, asked = resets;
        store.receive({ type: "whole", round: 2, runs: ["b"] }, []);
        return [before, asked, [seen().length, store.round, store.runs]];"""
    )
    assert (before, asked, after) == (1, 1, [0, 2, ["b"]])
