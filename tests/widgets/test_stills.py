"""What a saved notebook keeps of a widget: a picture and words, without a kernel or a page."""

import os
import re
import threading

import pytest
from helpers import Late
from lepton_widgets import Live
from lepton_widgets.frame import VIEW, Frame

import lepton_lab as lab
from lepton_lab.store.folder import ENDED

nbclient, nbformat = Late("nbclient"), Late("nbformat")
CELLS = """
import lepton_lab as lab
import lepton_widgets.live
lepton_widgets.live.CATCH_UP = ()  # as long as a page may load: the views' threads are waited for
from lepton_widgets import Compression, Learner, Live, Shelf, Workbench
spec = lab.Spec(dataset="digits", model="mlp", epochs=2, batch_size=128)
run = lab.launch(spec)
run
---
long = lab.launch(spec.replace(epochs=4000, name="<b>long</b>"))
live = Live(long)
live
---
bench = Workbench(spec)
bench
---
learner = Learner(spec)
learner
---
shelf = Shelf()
shelf
---
print(run.wait(60), bench.launch().wait(60), learner.wait(60))
long.stop()
print(long.wait(60))
import gc, time
until = time.monotonic() + 60
for view in [view for view in gc.get_objects() if type(view) is Live]:  # that of the first cell has no name
    view._thread.join(60)  # the last it does is to bring what is saved up to date
GOING = ("queued", "starting", "running", "stopping")
for view in (bench, learner, shelf):  # until their threads have looked
    while any(word in view._frames[0].still["text/html"] for word in GOING) or view.going():
        assert time.monotonic() < until
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Outputs of a notebook that ran as under papermill."""
    root = tmp_path_factory.mktemp("saved")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS.split("---\n")])
    places = {"LEPTON_LAB_HOME": str(root), "XDG_RUNTIME_DIR": str(root), "IPYTHONDIR": str(root / "ipython")}
    nbclient.NotebookClient(notebook, timeout=120).execute(env={**os.environ, **places})
    return [cell.outputs for cell in notebook.cells]


def shown(outputs):
    """HTML and text of the only output."""
    (output,) = outputs
    assert VIEW not in output.data, "a widget was saved, which no page can show once the kernel is gone"
    return output.data["text/html"], output.data["text/plain"]


def test_each_widget_is_saved_as_it_stood_at_the_end(saved):
    html, text = shown(saved[0])
    assert "done" in text and "step 24 of 24" in text
    assert re.search(r"<td>done</td><td>2 of 2</td><td>24 of 24</td>.*<td>\d+\.\d+%</td>", html)
    assert re.search(r"lab.attach\(&#x27;[\d-]+-\w{4}&#x27;\)", html)
    assert html.count("<img") == 2 and 'alt="Loss by optimizer step. ' in html and "base64,iVBOR" in html

    html, text = shown(saved[1])
    assert "<td>stopped</td>" in html and "stopped" in text
    assert "&lt;b&gt;long" in html and "<b>long" not in html, "a name is no HTML"

    html, text = shown(saved[2])
    assert "lab.launch(lab.Spec(model=" in html and html.count("<td>done</td>") >= 2 and "<img" in html
    html, text = shown(saved[3])
    assert "<td>done</td>" in html and "Accuracy by optimizer step" in html
    html, text = shown(saved[4])
    assert html.count("<td>done</td>") == 3 and "<td>stopped</td>" in html
    assert "".join(output.text for output in saved[5]) == "done done True\nstopped\n"


def test_a_page_is_told_what_to_save(tiny, monkeypatch):
    """With a page the output holds the widget, and the page writes what is saved."""
    displayed = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: displayed.append((data, options)))
    run = lab.launch(tiny)
    assert run.wait(60) in ENDED
    live = Live(run)
    live._ipython_display_()
    (frame,) = live._frames
    assert displayed[0][0][VIEW]["model_id"] == live.model_id
    assert f'class="ll-still-{frame._place}"' in frame.still["text/html"] == displayed[0][0]["text/html"]
    live.keep(now=True)
    assert len(displayed) == 1, "the page writes it"
    Frame._handle_custom_msg(frame, {"writes": False}, [])  # of VS Code
    live.keep(now=True)
    assert displayed[1][1]["update"] and VIEW in displayed[1][0]
    live.close()
    assert not live._frames and frame.comm is None


def test_of_two_threads_the_one_that_looked_last_is_saved(tiny, monkeypatch):
    """A cell that shows a run looks at it while the thread of the view does, which then sees its end."""
    monkeypatch.setattr("IPython.display.display", lambda data, **options: None)
    monkeypatch.setattr("lepton_widgets.live.CATCH_UP", ())  # no page asks again, and the thread is waited for
    run = lab.launch(tiny)
    assert run.wait(60) in ENDED
    live = Live(run)
    live._ipython_display_()
    live._thread.join(60)
    first, second = threading.Event(), threading.Event()

    def still(*_):
        if first.is_set():
            second.set()
            return {"text/html": "the end", "text/plain": ""}
        first.set()
        second.wait(0.2)  # where looks are not taken one after the other, the second passes the first here
        return {"text/html": "the middle", "text/plain": ""}

    monkeypatch.setattr(live, "still", still)
    early = threading.Thread(target=live.keep, args=(True,))
    early.start()
    assert first.wait(60)
    live.keep(now=True)
    early.join(60)
    assert "the end" in live._frames[0].still["text/html"]
    live.close()


def test_a_broken_picture_ends_no_view(tiny, monkeypatch):
    monkeypatch.setattr("IPython.display.display", lambda data, **options: None)
    run = lab.launch(tiny)
    live = Live(run)
    live._ipython_display_()
    monkeypatch.setattr(live, "still", lambda *_: 1 / 0)
    live.keep(now=True)
    assert run.wait(60) == "done" and live._thread.is_alive()
    live.close()
