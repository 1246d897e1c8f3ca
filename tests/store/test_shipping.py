"""Code of cells travels by value: launched from a real notebook kernel, with its source kept and its errors placed."""

import functools
import importlib
import json
import subprocess
import sys
import threading
import types

import pytest
import torch
from click.testing import CliRunner
from helpers import Late
from torch import nn

import lepton_lab as lab
from lepton_lab.cli import main
from lepton_lab.models import build
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.shipping import keep, kept, pack, unpack

DEFINE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return x + self.layer(x).relu()
"""
NET = """
scale = 0.5

class MyNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), Block(16), nn.Linear(16, classes))

    def forward(self, x):
        if FAIL and x.shape[0] < 20:
            raise RuntimeError("a short batch")
        return self.net(x) * scale

class Points(torch.utils.data.Dataset):
    classes = ["below", "above"]

    def __init__(self, n):
        self.x = torch.randn(n, 4, generator=torch.Generator().manual_seed(n))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], int(self.x[i].sum() > 0)
"""


def notebook(*sources):
    """Run cells in a real kernel; returns the text that each printed or raised."""
    v4 = Late("nbformat.v4")
    cells = [v4.new_code_cell(source) for source in sources]
    book = v4.new_notebook(cells=cells)
    Late("nbclient").NotebookClient(book, timeout=120, kernel_name="python3", allow_errors=True).execute()
    texts = []
    for cell in cells:
        outputs = [o.get("text") or "\n".join(o.get("traceback", [])) or str(o.get("data", "")) for o in cell.outputs]
        texts.append("".join(outputs))
    return texts


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_cell_defines_is_launched_as_it_is_twice_and_side_by_side():
    out = notebook(
        DEFINE,
        "FAIL = False\n" + NET,
        "import lepton_lab as lab\n"
        "spec = lab.Spec(epochs=4, batch_size=20, world=2, lr=0.02)\n"
        "weighted = lambda output, target: nn.functional.cross_entropy(output, target, label_smoothing=scale / 10)\n"
        "runs = [lab.launch(spec, model=MyNet, data=(Points(200), Points(60)), loss=weighted) for _ in range(2)]\n"
        "print([run.wait(100) for run in runs], [run.failure for run in runs])",
        "third = lab.launch(spec, model=MyNet, data=(Points(200), Points(60))); print(third.wait(100))\n"
        "print(type(third.model()).__name__, third.spec.model, third.spec.dataset, third.facts['classes'])",
        "trainer = lab.Trainer().fit(nn.Linear(4, 2), Points(60), batch_size=20, epochs=2)",
    )
    assert "Live(" in out[4] or "Live:" in out[4], out[4]  # the run's view, and nothing on stderr
    assert "samples/s" not in out[4]
    assert "['done', 'done'] [None, None]" in out[2]
    assert "done\nMyNet cell:MyNet cell:Points ['below', 'above']" in out[3]
    third = next(run for run in lab.runs() if run.spec.model == "cell:MyNet")
    source = (third.folder / "code" / "source.py").read_text()
    assert "class MyNet" in source and "class Block" in source and "class Points" in source and "# cell 2" in source
    repeated = lab.repeat(third, epochs=1)  # in a process that never saw the code
    assert repeated.wait(60) == "done" and repeated.spec.epochs == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_error_in_a_cells_code_names_the_cell_and_line():
    out = notebook(
        DEFINE,
        "FAIL = True\n" + NET,
        "import lepton_lab as lab\n"
        "run = lab.launch(lab.Spec(epochs=1, batch_size=56), model=MyNet, data=(Points(200), Points(60)))\n"
        "print(run.wait(100), run.failure)",
    )
    assert "failed rank 0: RuntimeError: a short batch" in out[2]
    line = next(i for i, text in enumerate(("FAIL = True\n" + NET).splitlines(), 1) if "raise RuntimeError" in text)
    assert f"at cell 2, line {line}" in out[2]
    assert 'raise RuntimeError("a short batch")' in lab.attach().failure.traceback
    told = CliRunner().invoke(main, ["show"]).stdout.split("Failed:")[1]
    assert told.splitlines()[1:3] == [f"  cell 2, line {line}, in forward", '      raise RuntimeError("a short batch")']


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_refusal_in_a_cell_is_one_sentence_without_our_frames():
    out = notebook("import lepton_lab as lab\nlab.Spec(model='cmn')")
    assert out[0].startswith("SpecError: model='cmn': unknown model; did you mean 'cnn'?")


class Locked(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
        self.guard = threading.Lock()


def test_what_cannot_be_shipped_is_named_with_the_reason(home):
    with pytest.raises(lab.SpecError, match=r"model=Locked can't be shipped.*guard: cannot pickle '_thread.lock'"):
        lab.launch(lab.Spec(), model=Locked(), data=(torch.zeros(9, 4), torch.zeros(9, dtype=torch.long)))
    lock = threading.Lock()
    with pytest.raises(lab.SpecError, match=r"loss=<lambda> can't be shipped.*lock"):
        lab.launch(lab.Spec(), loss=lambda output, target: lock and output.sum())
    assert not list((home / "runs").iterdir())


def test_a_maker_that_makes_no_model_fails_with_one_sentence():
    run = lab.launch(lab.Spec(epochs=1), model=lambda shape: "a model")
    assert run.wait(60) == "failed"
    assert "made a str, not a torch.nn.Module" in run.failure.message


def test_a_module_on_another_device_and_in_training_travels_with_its_weights():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    run = lab.launch(lab.Spec(epochs=1, lr=1e-30), model=model)
    assert run.wait(60) == "done"
    assert torch.allclose(run.model()[1].weight, model[1].weight)


def test_the_report_of_an_error_is_plain_json(tiny):
    run = lab.launch(tiny, model=lambda: 1 / 0)
    assert run.wait(60) == "failed"
    error = json.loads((run.folder / "errors" / "rank0.json").read_text())
    assert error["type"] == "ZeroDivisionError" and error["message"] == "division by zero"


CACHED = """
import functools, importlib.util, os, sys, torch, lepton_lab as lab
from torch import nn
torch.manual_seed(0)
x, y = torch.randn(64, 4), torch.arange(64) % 2

@functools.lru_cache(maxsize=3)
def scale(width):
    return width / 8

class Helped(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)

    def forward(self, x):
        return super().forward(x) * scale(x.shape[1]) + by_path.shift(x) + LEFT(x)

left = sys.path[:]
os.chdir(FOLDER)
sys.path.insert(0, "")
from left_behind import LEFT
os.chdir("/")
spec = importlib.util.spec_from_file_location("by_path", FOLDER + "/elsewhere/by_path.py")
by_path = importlib.util.module_from_spec(spec)
sys.modules["by_path"] = by_path
spec.loader.exec_module(by_path)
run = lab.launch(lab.Spec(epochs=1, world=2), model=Helped, data=(x, y))
print(run.wait(60), run.failure)
import cloudpickle
print(cloudpickle.list_registry_pickle_by_value())
"""


@pytest.mark.slow
def test_helpers_that_no_rank_can_import_travel_by_value(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    helper = "def shift(x):\n    return other(x) * 0\n\ndef other(x):\n    return x.sum()\n"
    (tmp_path / "elsewhere" / "by_path.py").write_text(helper)
    (tmp_path / "left_behind.py").write_text("STEP = 0.5\n\ndef LEFT(x):\n    return STEP\n")
    script = f"FOLDER = {str(tmp_path)!r}\n{CACHED}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["done None", "set()"], done


def test_what_can_t_be_imported_any_more_is_told_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "gone_part.py").write_text("class Part(list):\n    pass\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        part = importlib.import_module("gone_part").Part([1.5])
        folder = RunFolder.create(lab.Spec(), lambda draft: pack(draft, {"data": part}))
        keep(part, folder.path / "done.pt")
        assert unpack(folder)["data"] == kept(folder.path / "done.pt") == [1.5]
    monkeypatch.delitem(sys.modules, "gone_part")
    for _ in range(2):
        with pytest.raises(lab.LabError, match=f"run '{folder.id}': its data can't be read here .*PYTHONPATH=FOLDER"):
            unpack(folder)
        with pytest.raises(lab.LabError, match="the module in '.*done.pt' can't be read here .*gone_part"):
            kept(folder.path / "done.pt")
        monkeypatch.setitem(sys.modules, "gone_part", types.ModuleType("gone_part"))  # without the class


def test_the_part_that_can_t_travel_is_named_not_a_circle():
    data = (torch.zeros(9, 4), torch.zeros(9, dtype=torch.long))
    namespace = {"__name__": "__main__", "functools": functools, "nn": nn}
    exec(
        "@functools.singledispatch\ndef area(shape):\n    return 0\n\nclass Net(nn.Linear):\n    def __init__(self):\n"
        "        super().__init__(4, 2)\n    def forward(self, x):\n        return super().forward(x) * area(x)\n",
        namespace,
    )
    with pytest.raises(lab.SpecError) as error:
        lab.launch(lab.Spec(), model=namespace["Net"], data=data)
    message = str(error.value)
    assert "forward.area" in message and "__class__" not in message and len(message) < 300, message
    with pytest.raises(lab.SpecError, match=r"a parametrized module travels only as a .* model=lambda: \.\.\."):
        lab.launch(lab.Spec(), model=nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)), data=data)


def test_a_way_of_starting_ranks_that_there_is_not_is_refused_and_a_cluster_s_interface_is_not_taken(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "bond1")
    run = lab.launch(lab.Spec(dataset="digits", model="mlp", epochs=1, world=2))
    assert run.wait(60) == "done", run.failure
    monkeypatch.setenv("LEPTON_LAB_START_METHOD", "thread")
    with pytest.raises(lab.SpecError, match="LEPTON_LAB_START_METHOD='thread': must be 'fork' or 'spawn'; or unset it"):
        lab.launch(lab.Spec(epochs=1))


class Shared(nn.Module):
    """One expanded buffer under two names, beside another tensor of the same memory and an attribute."""

    def __init__(self):
        super().__init__()
        row = torch.ones(1, 8)
        self.register_buffer("a", row.expand(4, 8))
        self.b = nn.Module()
        self.b.register_buffer("a", self.a)
        self.register_buffer("c", row.expand(4, 8))
        self.held = [self.a]


def test_what_shares_memory_does_so_after_it_was_laid_out_anew():
    model = build(Shared, (8,), 4)
    assert model.a is model.b.a is model.held[0] and model.a.is_contiguous()
    model.a[0, 0] = 5
    assert model.c[0, 0] == 5 and model.a.sum() == 36 and list(model.state_dict()) == ["a", "c", "b.a"]
