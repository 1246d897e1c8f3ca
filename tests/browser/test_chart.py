"""The chart and the live view's script alone, in a browser without Jupyter."""

import base64
import json
from itertools import pairwise

import pytest
from lepton_widgets import Live
from lepton_widgets.curves import pack
from lepton_widgets.live import static

import lepton_lab as lab
from lepton_lab.spec import Spec
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.story import Story

from .jupyter import keep, wait_for

pytestmark = pytest.mark.browser

CORE = static("base.js", "chart.js")
# A model as anywidget gives it, without a kernel: `sent` keeps what the view sends, `fire` plays the kernel's part.
MOUNT = """async ([esm, css, state]) => {
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
  state.snapshot = bytes(state.snapshot);
  const listeners = {};
  window.sent = [];
  const model = {
    get: (name) => state[name],
    set(name, value) { state[name] = value; },
    save_changes() {},
    send: (message) => window.sent.push(message),
    on: (name, listener) => (listeners[name] ??= []).push(listener),
    off: (name, listener) => (listeners[name] = listeners[name].filter((other) => other !== listener)),
  };
  window.state = state;
  window.fire = (message, block) =>
    listeners["msg:custom"].forEach((listener) => listener(message, block ? [bytes(block)] : []));
  const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
  const widget = module.default();
  await widget.initialize({ model });
  window.unmount = await widget.render({ model, el: document.body });
}"""
VIEW = {"width": 1000, "height": 800}
LIGHT = "--jp-layout-color1:#fff;--jp-ui-font-color1:#222;background:#fff"
DARK = "--jp-layout-color1:#111;--jp-ui-font-color1:#eee;background:#111"


@pytest.fixture(scope="module")
def tab(browser):
    """A page for all tests, and a list that takes its errors: another one for each would be another process."""
    context = browser.new_context(viewport=VIEW, device_scale_factor=2)
    tab, errors = context.new_page(), []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: message.type == "error" and errors.append(message.text))
    yield tab, errors
    context.close()


@pytest.fixture
def page(tab):
    page, errors = tab
    page.goto("about:blank")  # with another window, which has nothing of the test before
    errors.clear()
    page.set_viewport_size(VIEW)
    page.emulate_media(forced_colors="none")
    page.set_content(f"<!doctype html><body style='{LIGHT}'></body>")
    yield page
    assert errors == []


def core(page, body, argument=None):
    """What a function body says that sees the chart's classes and `given`."""
    return page.evaluate("([core, body, given]) => new Function('given', core + body)(given)", [CORE, body, argument])


def test_extent_is_that_of_the_points(page):
    wrong = core(
        page,
        """
        const random = (n) => Math.floor(Math.random() * n);
        const series = new Series(), all = [];
        let wrong = 0;
        for (let round = 0; round < 60; round++) {
          const xs = [], ys = [];
          for (let i = 0, n = random(2000); i < n; i++) {
            xs.push(all.length + xs.length);
            ys.push(Math.random() < 0.01 ? [NaN, Infinity, -Infinity][random(3)] : Math.random() - 0.5);
          }
          series.append(new Float64Array(xs), new Float64Array(ys));
          all.push(...ys.filter(Number.isFinite));
          for (let k = 0; k < 20; k++) {
            const i = random(all.length), j = i + random(all.length - i + 1);
            series.extent(i, j);
            wrong += series.lo !== Math.min(...all.slice(i, j)) || series.hi !== Math.max(...all.slice(i, j));
          }
        }
        return [wrong, series.n - all.length, series.levels.length > 1];
        """,
    )
    assert wrong == [0, 0, True]


def test_smoothing_is_the_corrected_exponential_mean(page):
    smooth, again = core(
        page,
        """
        const series = new Series(), smooth = new Smooth(series, 0.9);
        for (const y of [1, 2, 4]) { series.append([series.n], [y]); smooth.update(); }
        const first = [...smooth.y.subarray(0, smooth.n)];
        series.clear();
        series.append([0], [7]);
        smooth.update();
        return [first, [...smooth.y.subarray(0, smooth.n)]];
        """,
    )
    expected, mean = [], 0.0
    for n, value in enumerate([1, 2, 4], start=1):
        mean = 0.9 * mean + 0.1 * value
        expected.append(mean / (1 - 0.9**n))
    assert smooth == pytest.approx(expected)
    assert again == pytest.approx([7])


def test_ticks_and_numbers_read_well(page):
    assert core(page, "return ticksOf(0, 1000000, 5)") == [0, 200000, 400000, 600000, 800000, 1000000]
    assert core(page, "return ticksOf(0, 410, 5).map((x) => Object.is(x, -0))") == [False] * 5
    assert core(page, "return [grouped(1234567), plain(0.000012), plain(0.12345), plain(0.5, 0.25)]") == [
        "1,234,567", "1.2e-5", "0.1235", "0.5",
    ]  # fmt: skip
    assert core(page, "return [percent(0.97222), percent(0.95, 0.05), duration(59), duration(3725), bytes(182e6)]") == [
        "97.22 %", "95 %", "59 s", "1:02:05", "182 MB",
    ]  # fmt: skip
    assert core(page, "return logTicksOf(Math.log10(0.1), Math.log10(2)).map((e) => +(10 ** e).toFixed(3))") == [
        0.1, 0.2, 0.5, 1, 2,
    ]  # fmt: skip


def rows(steps, rank=0, start=1):
    return [
        {
            "kind": "train",
            "t": s,
            "rank": rank,
            "step": s,
            "loss": 2 / s,
            "accuracy": 1 - 1 / s,
            "samples": 32,
            "lr": 1e-3,
        }
        for s in range(start, start + steps)
    ]


@pytest.fixture
def mounted(page, home):
    """Function that shows a live view of ended runs, each given as events; returns its page."""

    def mount(*events, world=2, state="done", theme=LIGHT, **options):
        runs = []
        for index, listed in enumerate(events):
            folder = RunFolder.create(Spec(world=world, name=f"run {index}", seed=index))
            with (folder.path / "events" / "rank0.jsonl").open("w") as file:
                file.writelines(json.dumps(row) + "\n" for row in listed)
            folder.set_state("done" if state == "running" else state)
            runs.append(lab.Run(folder))
        live = Live(*runs, **options)
        names = ["header", "metrics", "snapshot", "smoothing", "log_scale", "by_rank", "steered"]
        data = live.get_state(names)
        live.close()
        data["snapshot"] = base64.b64encode(data["snapshot"]).decode()
        for head in data["header"]["runs"]:
            head["state"] = state
        page.evaluate("(theme) => document.body.setAttribute('style', theme)", theme)
        page.evaluate(MOUNT, [str(live._esm), str(live._css), data])
        page.wait_for_function("() => document.querySelector('.ll-live').dataset.points")
        return page

    return mount


def both(steps):
    return [row for pair in zip(rows(steps, 0), rows(steps, 1), strict=True) for row in pair]


def drawn(page):
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator(".ll-live").evaluate("(view) => [+view.dataset.points, +view.dataset.last]")


def delta(curves, given):
    return base64.b64encode(pack([curves], given)).decode()


def test_deltas_in_any_order(mounted):
    page = mounted([], world=1)
    curves, given = Story(), [{}]
    blocks = []
    for part in range(3):
        curves.add(rows(10, start=1 + 10 * part))
        blocks.append(delta(curves, given))
    assert drawn(page) == [0, 0]
    page.evaluate("(block) => fire({type: 'delta'}, block)", blocks[1])
    assert drawn(page) == [0, 0] and page.evaluate("sent") == [{"type": "reset"}], "a gap asks for everything"
    for block in (blocks[0], blocks[1], blocks[0], blocks[2]):
        page.evaluate("(block) => fire({type: 'delta'}, block)", block)
    assert drawn(page) == [60, 30]
    curves.add([{"kind": "note", "t": 99, "rank": 0, "rewind": 12}])
    page.evaluate("(block) => fire({type: 'delta'}, block)", delta(curves, given))
    assert drawn(page) == [24, 12]
    page.evaluate("(block) => fire({type: 'delta'}, block)", blocks[2])
    assert drawn(page) == [24, 12], "a message from before the rewind is stale"
    assert len(page.evaluate("sent")) == 1


def test_canvas_follows_density_and_width(mounted):
    page = mounted(both(50))
    size = "(canvas) => [canvas.width, canvas.getBoundingClientRect().width]"
    pixels, width = page.locator(".ll-chart canvas").first.evaluate(size)
    assert pixels == pytest.approx(2 * width, abs=2)
    page.set_viewport_size({"width": 480, "height": 800})
    drawn(page)
    narrow, width = page.locator(".ll-chart canvas").first.evaluate(size)
    assert narrow == pytest.approx(2 * width, abs=2) and narrow != pixels


def test_summary_in_words(mounted):
    page = mounted(both(50), smoothing=0.0)
    name = page.get_by_role("img").first.get_attribute("aria-label")
    assert name == "Loss by step. Training: 0.04 at step 50, between 0.04 and 2."


def test_keys_read_values_and_zoom(mounted):
    page = mounted(both(50), smoothing=0.0)
    page.locator(".ll-chart").first.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    spoken = page.locator(".ll-unseen[role=status]")
    assert spoken.text_content() == "Step 1: Training 2. Step 1: Training 0.00 %"
    page.keyboard.press("ArrowRight")
    assert spoken.text_content().startswith("Step 2: Training 1.")
    page.keyboard.press("+")
    drawn(page)
    assert page.get_by_role("button", name="Reset zoom").is_visible()
    page.keyboard.press("0")
    drawn(page)
    assert page.get_by_role("button", name="Reset zoom").is_hidden()


def test_drag_zooms_and_double_click_takes_it_back(mounted):
    page = mounted(both(400))
    box = page.locator(".ll-chart").first.bounding_box()
    before = page.screenshot()
    y = box["y"] + 80
    page.mouse.move(box["x"] + 150, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, y, steps=4)
    page.mouse.up()
    drawn(page)
    assert page.get_by_role("button", name="Reset zoom").is_visible()
    page.mouse.dblclick(box["x"] + 200, y)
    page.mouse.move(1, 1)
    drawn(page)
    assert page.get_by_role("button", name="Reset zoom").is_hidden()
    assert page.screenshot() == before


def test_legend_by_keyboard(mounted):
    page = mounted(both(20), both(30))
    key = page.get_by_role("table", name="Runs of this view").get_by_role("button", name="run 1")
    assert key.get_attribute("aria-pressed") == "true"
    page.wait_for_function("() => document.querySelector('[role=img]').ariaLabel.includes('run 1')")
    key.focus()
    page.keyboard.press("Space")
    wait_for(lambda: key.get_attribute("aria-pressed") == "false", "its curves are still shown")
    page.wait_for_function("() => !document.querySelector('[role=img]').ariaLabel.includes('run 1')")


def test_by_rank(mounted):
    page = mounted(both(20), smoothing=0.0)
    page.get_by_role("button", name="By rank").click()
    assert page.evaluate("state.by_rank") is True
    page.wait_for_function("() => document.querySelector('[role=img]').ariaLabel.includes('Rank 1')")
    assert page.get_by_role("button", name="Rank 1").get_attribute("aria-pressed") == "true"


def test_log_scale_bears_zero_and_nothing(mounted):
    flat = [{**row, "loss": 0.0, "accuracy": 1.0} for row in rows(30)]
    page = mounted(flat, world=1)
    page.get_by_role("button", name="Log loss").click()
    drawn(page)
    page.locator(".ll-chart").first.hover()
    assert page.evaluate("state.log_scale") is True


@pytest.mark.parametrize("values", [[1.0, 1 - 2**-53, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1e-300], [1e300, -1e300]])
def test_values_that_no_axis_likes(mounted, values):
    """What rounding leaves of a flat curve, say, has a span that no tick can divide."""
    odd = [{**row, "loss": value, "accuracy": value} for row, value in zip(rows(9), values, strict=False)]
    page = mounted(odd, world=1, smoothing=0.0)
    assert drawn(page) == [2 * len(values), len(values)]
    page.get_by_role("button", name="Log loss").click()
    drawn(page)


def test_newest_labels_of_marks_are_kept_and_stand_above_the_curves(page):
    placed, top = core(
        page,
        """
        const figure = document.body.appendChild(document.createElement("div"));
        figure.style.cssText = "position: relative; width: 400px; height: 200px";
        const chart = new Chart(figure, { range: null, cursor: null }, { title: "Loss", format: plain });
        const series = new Series();
        series.append([0, 100], [1, 0]);
        chart.lines = [{ series, label: "Training", color: "#000" }];
        chart.marks = given.map(([step, text]) => ({ step, text }));
        const placed = [], pen = chart.base.getContext("2d"), texts = given.map(([, text]) => text);
        const end = (text, x) => x + pen.measureText(text).width;
        pen.fillText = (text, x, y) => texts.includes(text) && placed.push([text, x, end(text, x), y]);
        chart.draw({ font: "11px sans-serif", grid: "#000", muted: "#000", mark: "#000", faint: 1 });
        return [placed, chart.toPy(chart.y1)];
        """,
        [[10, "first"], [49, "older"], [50, "pause"], [52, "lr 0.001"], [101, "out of sight"], [99.5, "checkpoint"]],
    )
    assert {text for text, *_ in placed} == {"checkpoint", "lr 0.001", "first"}
    ends = sorted((start, end) for _, start, end, _ in placed)
    assert all(end < start for (_, end), (start, _) in pairwise(ends))
    assert ends[-1][1] <= 400
    assert all(8 < y <= top - 2 for *_, y in placed), "a label is in the way of the curves"


def test_theme_is_read_again(mounted):
    page = mounted(both(20))
    assert page.locator(".ll-live").get_attribute("data-theme") == "light"
    page.evaluate("(theme) => document.body.setAttribute('style', theme)", DARK)
    page.wait_for_function("() => document.querySelector('.ll-live').dataset.theme === 'dark'")


def test_ranks_fit_a_narrow_page(mounted):
    """Each rank is a block of named values where the columns have no room."""
    page = mounted(both(50))
    table = page.locator(".ll-ranks")
    assert table.locator("tbody tr").count() == 2
    named = "(cell) => getComputedStyle(cell, '::before').content"
    memory = table.locator("tbody td[data-name=Memory]").first
    box = page.locator(".ll-scroll:has(.ll-ranks)")
    wide = "(box) => box.scrollWidth - box.clientWidth"
    for width in (1280, 900, 600, 390):
        page.set_viewport_size({"width": width, "height": 1200})
        assert box.evaluate(wide) <= 0, f"one has to scroll sideways at {width} pixels"
        assert memory.evaluate(named) == ("none" if width == 1280 else '"Memory"')
        assert table.get_by_text("communication").is_visible(), "nobody knows what the colours mean"
        keep(page.locator(".ll-live"), f"ranks-{width}")


def test_what_is_pressed_shows_in_high_contrast(mounted):
    page = mounted(both(50))
    page.emulate_media(forced_colors="active")
    chip = page.get_by_role("button", name="Log loss")
    colors = "(chip) => [getComputedStyle(chip).backgroundColor, getComputedStyle(chip).color]"
    before = chip.evaluate(colors)
    chip.click()
    after = chip.evaluate(colors)
    assert after != before and after[0] != after[1], "it looks as it did before it was pressed"
    keep(page.locator(".ll-live"), "live-high-contrast")


def test_controls_send_commands(mounted):
    page = mounted(both(20), state="running")
    assert page.get_by_role("button", name="Resume").is_hidden()
    page.get_by_role("button", name="Pause").click()
    rate = page.get_by_role("textbox", name="Learning rate of the running job")
    for wrong in ("-3", "1,5", "0x10", "", "0", "1e999", "Infinity", "1 2"):
        rate.fill(wrong)
        page.keyboard.press("Enter")
        assert f'"{wrong}": must be a number above 0' in page.locator(".ll-message").text_content()
    rate.fill(" 3e-4 ")
    page.keyboard.press("Enter")
    run = page.evaluate("state.header.runs[0].id")
    assert page.evaluate("sent") == [
        {"command": "pause", "values": {}, "run": run},
        {"command": "set", "values": {"lr": 3e-4}, "run": run},
    ]
    page.evaluate("fire({type: 'refused', command: 'set', text: 'no such thing'})")
    assert page.locator(".ll-message.ll-error").text_content() == "no such thing"


def test_an_edit_of_the_rate_that_is_left_is_dropped(mounted):
    page = mounted(both(20), state="running")
    rate = page.get_by_role("textbox", name="Learning rate of the running job")
    faster = "fire({runs: [{...state.header.runs[0], base_lr: 0.5}]})"
    shown = rate.input_value()
    rate.fill("7")
    page.keyboard.press("Escape")
    assert rate.input_value() == shown
    rate.fill("7")
    page.keyboard.press("Tab")  # to the button of the same form
    page.evaluate(faster)
    assert rate.input_value() == "7", "what was being edited was taken away"
    for _ in range(3):  # over Pause and Stop, and out of the controls
        page.keyboard.press("Tab")
    assert rate.input_value() == "0.5"
    assert page.evaluate("sent") == []


def test_a_run_says_why_it_waits(mounted):
    page = mounted(both(20), state="queued")
    remark = page.locator(".ll-remark")
    for text in ("Waits for <2> of the machine's cores.", ""):
        page.evaluate("(remark) => fire({runs: [{...state.header.runs[0], remark}]})", text)
        assert remark.text_content() == text and remark.is_visible() == bool(text)
    page.evaluate("fire({runs: [{...state.header.runs[0], remark: undefined}]})")
    assert remark.text_content() == "" and remark.is_hidden()


def test_a_busy_kernel_is_told(mounted):
    page = mounted(both(20), state="running")
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("The kernel is busy").wait_for(timeout=4000)
    page.evaluate("fire({type: 'ack', command: 'stop'})")
    assert page.locator(".ll-message").text_content() == ""


def test_failure_card(mounted):
    page = mounted(both(20), state="failed")
    failure = {
        "rank": 1, "type": "ValueError", "message": "a < b", "where": "cell In[4], line 12", "step": 20,
        "checkpoint": 16, "others": {"0": 21}, "traceback": "Traceback ...",
    }  # fmt: skip
    page.evaluate("(failure) => fire({runs: [{...state.header.runs[0], failure}]})", failure)
    card = page.get_by_role("alert").text_content()
    for text in ("Rank 1 failed: ValueError", "a < b", "cell In[4], line 12", "rank 0 at step 21", "step 16"):
        assert text in card


def test_a_run_without_accuracy_has_one_chart(mounted):
    page = mounted([{k: v for k, v in row.items() if k != "accuracy"} for row in rows(30)], world=1)
    assert page.get_by_role("img").count() == 1


def test_unmount_leaves_nothing_running(mounted):
    page = mounted(both(20))
    page.evaluate("unmount()")
    page.evaluate("fire({type: 'delta'})")
    drawn(page)
