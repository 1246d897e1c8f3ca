"""Files that a disk or a stranger has changed: a fuzzer's bytes are refused in a sentence or passed over."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import lepton_lab as lab
from lepton_lab.artifacts import About, container, write
from lepton_lab.spec import Spec
from lepton_lab.store import control
from lepton_lab.store.control import Control
from lepton_lab.store.events import Tail

RUNTIMES = ["torch", "onnxruntime"]
quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
more = settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw, body):
    """Bytes with one to four places changed, cut out, put in or doubled, or without their end."""
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(body))), draw(st.integers(0, 40))
        before, piece, after = body[:at], body[at : at + size], body[at + size :]
        flipped = bytes([piece[0] ^ 4]) + piece[1:] if piece else b""
        put = draw(st.binary(max_size=8))
        body = before + draw(st.sampled_from([flipped + after, after, put + piece + after, 2 * piece + after, b""]))
    return body


@st.composite
def altered(draw, value):
    """JSON with one of its values, however deep, replaced by another."""
    if isinstance(value, (dict, list)) and value and draw(st.integers(0, 3)):
        value = value.copy()
        place = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        value[place] = draw(altered(value[place]))
        return value
    return draw(anything)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """An artifact of each runtime: its manifest, graph and weights; and its bytes."""
    folder = tmp_path_factory.mktemp("artifacts")
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    about = About("mlp", (3,), "float32", ["a", "b"])
    made = {name: write(folder / f"{name}.lepton", model, about, "fp32", runtime=name).path for name in RUNTIMES}
    return {name: (container.unpack(path), path.read_bytes()) for name, path in made.items()}


def loads_or_says_why(path):
    """The artifact, or None where it is refused in one line that names the file."""
    try:
        return lab.load(path)
    except lab.LabError as error:
        assert "\n" not in str(error) and str(path) in str(error)


@pytest.mark.parametrize("runtime", RUNTIMES)
@quick
@given(data=st.data())
def test_a_changed_artifact_is_read_as_it_was_or_refused(artifacts, tmp_path, runtime, data):
    whole, body = artifacts[runtime]
    path = tmp_path / "m.lepton"
    path.write_bytes(data.draw(mutated(body)))
    try:
        assert container.unpack(path) == whole
    except lab.LabError as error:
        assert "\n" not in str(error) and str(path) in str(error)


@pytest.mark.parametrize("runtime", RUNTIMES)
@quick
@given(data=st.data())
def test_a_forged_manifest_whose_hashes_are_right_is_refused_in_a_sentence(artifacts, tmp_path, runtime, data):
    manifest, graph, weights = artifacts[runtime][0]
    forged = data.draw(altered({k: v for k, v in manifest.items() if k not in ("digest", "sha256", "format")}))
    path = tmp_path / "m.lepton"
    if isinstance(forged, dict) and forged.get("runtime") == runtime:
        container.pack(path, forged, graph, weights)
        loads_or_says_why(path)


@quick
@given(data=st.data())
def test_a_forged_graph_is_refused_in_a_sentence(artifacts, tmp_path, data):
    manifest, graph, weights = artifacts["torch"][0]
    told = {k: v for k, v in manifest.items() if k not in ("digest", "sha256", "format")}
    forged = data.draw(mutated(graph) | altered(json.loads(graph)).map(lambda value: json.dumps(value).encode()))
    container.pack(path := tmp_path / "m.lepton", told, forged, weights)
    loads_or_says_why(path)


ROWS = [
    {"kind": "state", "t": 1.0, "rank": -1, "state": "running"},
    *({"kind": "train", "t": 1.0 + n, "rank": 0, "step": n, "epoch": 0, "loss": 1 / (n + 1)} for n in range(9)),
    {"kind": "note", "t": 11.0, "rank": 0, "rewind": 4, "text": "goes on from step 4"},
    {"kind": "eval", "t": 12.0, "rank": 0, "step": 9, "epoch": 0, "split": "val", "loss": 0.3, "accuracy": 0.5},
]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
OTHERS = st.lists(st.sampled_from(ROWS) | anything).map(
    lambda values: b"".join(json.dumps(value).encode() + b"\n" for value in values)  # JSON, but not all of it events
)


@quick
@given(body=mutated(LINES) | OTHERS, most=st.integers(1, 300))
def test_changed_events_are_read_up_to_the_line_that_is_torn_in_portions_as_in_one(tmp_path_factory, body, most):
    folder = tmp_path_factory.mktemp("run")
    (folder / "events").mkdir()
    (folder / "events" / "rank0.jsonl").write_bytes(body)
    rows = Tail(folder).read()
    assert all(isinstance(row, dict) for row in rows)
    lines = body[: body.rfind(b"\n") + 1].split(b"\n")
    for row in ROWS:  # what is whole is read
        assert rows.count(row) >= (json.dumps(row).encode() in lines)
    tail = Tail(folder)
    portions = [rows for _ in lines for rows in tail.portions(most)]  # each look takes a line at least
    assert [row for rows in portions for row in rows] == rows


@settings(quick, max_examples=60)  # each waits for a thread
@given(bodies=st.lists(mutated(b'{"command": "set", "lr": 0.5}'), max_size=5))
def test_changed_commands_are_obeyed_or_passed_over_and_the_next_one_is_obeyed(tmp_path_factory, bodies):
    folder = tmp_path_factory.mktemp("run")
    (folder / "control").mkdir()
    for number, body in enumerate(bodies):
        (folder / "control" / f"{number:020d}-aaaa-set.json").write_bytes(body)
    control.send(folder, "pause")
    rank = Control(folder, 0, 1)
    try:
        obeyed = []
        while (command := until(lambda: rank.next(0)))["command"] != "pause":
            obeyed.append(command)
    finally:
        rank.close()
    assert all(command["command"] in control.COMMANDS for command in obeyed) and len(obeyed) <= len(bodies)


SPEC = Spec(strategy="ddp", world=2, model="mlp", options={"hidden": 8}, name="a name", compress=[], epochs=3)


@quick
@given(text=mutated(SPEC.to_yaml().encode()))
def test_a_changed_spec_is_read_or_refused_in_a_sentence(tmp_path_factory, text):
    path = Path(tmp_path_factory.mktemp("spec")) / "spec.yaml"
    path.write_bytes(text)
    try:
        assert isinstance(Spec.load(path), Spec)
    except lab.LabError as error:
        assert len(str(error)) > 10


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@more
@given(data=st.data())
def test_many_more_changed_artifacts(artifacts, tmp_path, runtime, data):
    path = tmp_path / "m.lepton"
    path.write_bytes(data.draw(mutated(artifacts[runtime][1])))
    if (artifact := loads_or_says_why(path)) is not None:
        assert artifact(torch.zeros(1, 3)).shape == (1, 2)
    assert zipfile.is_zipfile(path) or artifact is None
