"""Runs on an object store, moto's over HTTP: followed, steered, gone on with elsewhere; nothing torn is ever read."""

import io
import json
import os
import re
import shutil
import signal
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch
from helpers import call, free_ports, s3, until
from hypothesis import given, settings
from hypothesis import strategies as st
from lepton_widgets import Shelf

import lepton_lab as lab
from lepton_lab.errors import LabError
from lepton_lab.files import cache, home, locked
from lepton_lab.store import control
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.objects import following, link, saved, segments
from lepton_lab.store.objects.bucket import Bucket, usable
from lepton_lab.store.objects.carrier import Carried
from lepton_lab.store.trust import require_own


@pytest.fixture(scope="module")
def server():
    """A server with buckets; s3fs's own thread is begun before any test's."""
    with s3("127.0.0.1", ["lab", "loose", "slow"]) as server:
        yield server


@pytest.fixture
def machine(server, home, monkeypatch):
    """Function that makes this process one on another machine, whose runs go to a store of this test's own."""
    address = f"s3://lab/{home.name}"

    def machine(name):
        monkeypatch.setenv("XDG_DATA_HOME", str(home / name))
        return address

    monkeypatch.setenv("LEPTON_LAB_HOME", machine("here"))
    yield machine
    server.send_signal(signal.SIGUSR2)
    for path in home.glob("*/lepton-lab/stores/*/runs/*/lock"):  # of a test that failed
        if locked(path):
            control.send(path.parent, "stop")
            until(lambda path=path: not locked(path))


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def carried(machine, pool):
    """A run's folder that nobody trains, and what carries it."""
    folder = RunFolder.create(lab.Spec(model="mlp"))
    folder.set_state("stopped")
    carried = Carried(Bucket(machine("here")), folder.path, pool)
    carried.step()
    return folder, carried


def checkpointed(folder, step, text):
    path = folder.path / "checkpoints" / f"step-{step:08d}"
    path.mkdir(parents=True)
    (path / "rank0.pt").write_text(text)
    (path / "complete").touch()


def carry(carried):
    """Until all is up, looked through anew."""
    carried.settled = None
    until(lambda: not carried.step())


def test_a_run_is_watched_steered_and_gone_on_with_from_another_machine(machine, endless):
    address = machine("here")
    run = lab.launch(endless.replace(world=1, checkpoint_every=20, name="far"))
    until(lambda: run.store.checkpoints() and link.carried(run.folder))  # its carrier may begin after its ranks
    machine("there")
    far = lab.attach(f"{address}/runs/{run.id}")
    assert far.folder != run.folder
    assert far.spec == run.spec
    step = far.store.glance().step
    until(lambda: far.store.glance().step > step)
    assert far.state == "running"
    with pytest.raises(LabError, match="can be labelled on its own machine only"):
        far.tag("mine")
    far.set(lr=1e-4)
    until(lambda: any(row.get("command") == "set" for row in far.rows("note")))
    until(lambda: far.store.checkpoints())
    far.stop()
    assert far.wait(60) == "stopped"
    assert "far" in call("list")[0]
    assert far.rows() == run.rows()
    assert far.store.checkpoints()[-1] == run.store.checkpoints()[-1] == far.store.story().step
    weights = far.model().state_dict()
    machine("here")
    assert all(torch.equal(weights[name], value) for name, value in run.model().state_dict().items())
    machine("there")
    at = far.store.story().step
    far.resume()
    until(lambda: far.store.story().step > at)
    machine("here")
    near = lab.attach(run.id)
    until(lambda: near.store.glance().step > at and near.state == "running")
    near.stop()
    assert near.wait(60) == "stopped"
    machine("there")
    assert far.wait(60) == "stopped"
    assert [row["rewind"] for row in far.rows("note") if "rewind" in row] == [at], "nothing was done again"


def test_a_second_writer_is_refused_and_what_it_runs_is_stopped(carried, machine):
    folder, first = carried
    machine("there")
    following.refresh(first.bucket.address)
    copy = cache(first.bucket.address) / "runs" / folder.id
    following.claim(copy)
    assert link.pulled(copy) is None
    machine("here")
    with os.fdopen(folder.lock()):
        folder.set_state("running")
        first.step()
        assert control.stopping(folder.path)
        assert "another machine" in lab.attach(folder.id).remark
    assert lab.runs()[0].state == "stopped", "the copy is that of the other machine by now"
    assert link.pulled(folder.path)


def test_a_run_whose_machine_is_silent_is_interrupted_and_can_be_gone_on_with(carried, machine, monkeypatch):
    folder, first = carried
    with os.fdopen(folder.lock()):
        folder.set_state("running")
        first.step()
        machine("there")
        far = lab.attach(first.bucket.address)
        assert far.state == "running"
        with pytest.raises(LabError, match="is running: stop it first"):
            far.delete()
        with pytest.raises(LabError, match="is at work on"):
            following.claim(far.folder)
        monkeypatch.setattr(link, "SILENT", 0.5)
        until(lambda: far.state == "interrupted")
        assert "has sent nothing for" in far.remark
        following.claim(far.folder)
        assert link.pulled(far.folder) is None


def test_a_shared_disk_serves_as_a_store(machine, pool, home, monkeypatch):
    address = f"file://{home}/shared"
    monkeypatch.setenv("LEPTON_LAB_HOME", address)
    folder = RunFolder.create(lab.Spec(model="mlp"))
    folder.set_state("stopped")
    checkpointed(folder, 10, "ten")
    carry(Carried(Bucket(address), folder.path, pool))
    machine("there")
    far = lab.attach(f"{address}/runs/{folder.id}")
    assert (far.store.checkpoint(10) / "rank0.pt").read_text() == "ten"
    far.delete()
    assert Bucket(address).names("runs") == []


def test_of_two_processes_that_go_on_with_a_run_at_once_one_is_refused(carried, machine, monkeypatch):
    folder, first = carried
    machine("there")
    following.refresh(first.bucket.address)
    copy, look = cache(first.bucket.address) / "runs" / folder.id, following._look

    def beside(*arguments):
        look(*arguments)
        monkeypatch.setattr(following, "_look", look)
        following.claim(copy)

    monkeypatch.setattr(following, "_look", beside)
    with pytest.raises(LabError, match="is being resumed by another machine or process"):
        following.claim(copy)
    assert link.pulled(copy) is None and link.carried(copy)["next"] == first.record["next"] + 1


def test_a_reader_that_is_killed_in_its_first_segment_does_not_take_the_run_for_its_own(carried, machine, monkeypatch):
    folder, first = carried
    address, apply = first.bucket.address, segments.apply

    def killed(*arguments):
        apply(*arguments)
        raise KeyboardInterrupt

    machine("there")
    copy = cache(address) / "runs" / folder.id
    with monkeypatch.context() as own, pytest.raises(KeyboardInterrupt):
        own.setattr(segments, "apply", killed)
        following.refresh(address)
    assert (copy / "spec.json").exists() and link.pulled(copy)
    following.refresh(address)
    assert (copy / "state.json").read_bytes() == (folder.path / "state.json").read_bytes()
    assert [run.state for run in lab.runs()] == ["stopped"] and not link.waits(copy)


def test_a_put_whose_answer_was_lost_is_no_second_writer(carried):
    folder, first = carried
    before = json.dumps(first.record)
    (folder.path / "logs" / "rank0.log").write_text("hello\n")
    first.step()
    first.record = json.loads(before)
    first.settled = None
    with (folder.path / "logs" / "rank0.log").open("a") as file:
        file.write("again\n")
    carry(first)
    assert not first.record.get("lost")
    shutil.rmtree(folder.path)
    following.refresh(first.bucket.address)
    assert (folder.path / "logs" / "rank0.log").read_text() == "hello\nagain\n"


def test_a_long_log_is_brought_down_by_stretches(carried, machine, monkeypatch):
    folder, first = carried
    monkeypatch.setattr(segments, "STRETCH", 4)
    monkeypatch.setattr(segments, "PORTION", 16)
    large = folder.path / "links" / "large"
    large.parent.mkdir()
    for step in range(30):
        with (folder.path / "logs" / "rank0.log").open("a") as file:
            file.write(f"step {step}\n")
        if step % 7 == 3:
            large.write_bytes(bytes([step]) * 40)  # in three segments, of which a stretch may end after the first
        if step % 7 == 5:
            large.unlink()
        first.settled = None
        first.step()
    names = first.bucket.names(f"runs/{folder.id}/stretches")
    assert 3 < len(names) < first.record["next"] // 4, "not all, since some would end in the middle of a file"
    asked, get = [], Bucket.get
    monkeypatch.setattr(Bucket, "get", lambda self, names: asked.extend(found := get(self, names)) or found)
    machine("there")
    following.refresh(first.bucket.address)
    copy = cache(first.bucket.address) / "runs" / folder.id
    assert link.pulled(copy)["next"] == first.record["next"]
    assert sum("/stretches/" in name for name in asked) == len(names)
    names = ("state.json", "logs/rank0.log", "links/large")
    here, there = ({name: content(each).get(name) for name in names} for each in (folder.path, copy))
    assert there == here


def test_only_what_was_committed_is_read_and_the_store_keeps_what_the_folder_does(carried, machine):
    folder, first = carried
    checkpointed(folder, 10, "ten")
    carry(first)
    checkpointed(folder, 20, "twenty")
    shutil.rmtree(folder.path / "checkpoints" / "step-00000010")
    prefix = f"runs/{folder.id}"
    first.bucket.put(f"{prefix}/checkpoints/step-00000030-cut/rank0.pt", b"cut off by a crash")
    carry(first)
    carry(first)
    assert [name[:13] for name in first.bucket.names(f"{prefix}/checkpoints")] == ["step-00000020"]
    machine("there")
    following.refresh(first.bucket.address)
    far = RunFolder(cache(first.bucket.address) / "runs" / folder.id)
    assert far.checkpoints() == [20]
    committed = f"{prefix}/{first.record['saved']['step-00000020'][0]}"
    marker = first.bucket.get([f"{committed}/{saved.COMMIT}"])[f"{committed}/{saved.COMMIT}"]
    first.bucket.remove(f"{committed}/{saved.COMMIT}")
    with pytest.raises(LabError, match="was not committed"):
        far.checkpoint(20)
    first.bucket.put(f"{committed}/{saved.COMMIT}", marker.replace(b": 6", b": 7"))
    with pytest.raises(LabError, match="is not whole: 6 of 7 bytes"):
        far.checkpoint(20)
    assert not list((far.path / "checkpoints").iterdir())
    first.bucket.remove(f"{committed}/{saved.COMMIT}")
    first.bucket.put(f"{committed}/{saved.COMMIT}", marker)
    assert (far.checkpoint(20) / "rank0.pt").read_text() == "twenty"


def test_labels_go_up_and_a_run_that_is_deleted_is_gone_everywhere(carried, machine):
    folder, first = carried
    run = lab.attach(folder.id)
    run.tag("good")
    carry(first)
    machine("there")
    shelf = Shelf()
    until(lambda: folder.id in repr(shelf))
    shelf.close()
    (far,) = lab.runs()
    assert far.tags == ["good"]
    assert far.state == "stopped"
    machine("here")
    run.delete()
    machine("there")
    assert lab.runs() == []
    assert far.store.gone


def test_what_comes_from_a_store_that_is_not_one_s_own_runs_nothing(carried, machine, monkeypatch):
    folder, first = carried
    (folder.path / "code").mkdir()
    (folder.path / "code" / "model.pkl").write_bytes(b"")
    carry(first)
    machine("there")
    monkeypatch.setenv("LEPTON_LAB_HOME", str(cache("elsewhere")))
    far = lab.attach(first.bucket.address)
    assert far.id == folder.id
    with pytest.raises(LabError, match="set LEPTON_LAB_HOME='s3://lab/"):
        require_own(far.folder / "code" / "model.pkl")
    with pytest.raises(LabError, match="set LEPTON_LAB_HOME='s3://lab/"):
        far.resume()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ".ssh/x", "control/1-stop.json", "lock", "checkpoints/x"])
def test_a_segment_writes_nowhere_else(name):
    body = segments.pack({"gone": []}, [segments.Piece(name, 0, b"x", 1)])
    with pytest.raises(LabError, match="no file of a run's own"):
        segments.unpack(body)
    with pytest.raises(LabError, match="no file of a run's own"):
        segments.unpack(segments.pack({"gone": [name]}, []))


@pytest.mark.parametrize("body", [b"", b"PK", b"x" * 1000])
def test_a_segment_that_is_damaged_is_refused(body):
    with pytest.raises(LabError, match="damaged"):
        segments.unpack(body)
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("about.json", body)
    with pytest.raises(LabError, match="damaged"):
        segments.unpack(other.getvalue())


DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["append", "replace", "remove", "send"]),
        st.sampled_from(["events/rank0.jsonl", "logs/rank0.log", "spec.json", "state.json", "links/0/done.pt"]),
        st.binary(max_size=40),
    ),
    max_size=25,
)


@given(DEEDS)
@settings(max_examples=60)
def test_a_folder_that_segments_are_applied_to_is_like_the_one_they_tell_of(tmp_path_factory, deeds):
    with pytest.MonkeyPatch.context() as own:
        own.setattr(segments, "PORTION", 16)
        here, there = (tmp_path_factory.mktemp(name) for name in ("here", "there"))
        sent = {}
        for clock, (deed, name, body) in enumerate([*deeds, ("send", "", b"")], 1):
            path = here / name
            if deed == "send":
                send(here, there, sent)
                assert content(there) == content(here)
            elif deed == "remove":
                if name.split("/")[0] not in segments.GROWING:
                    path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                grows = name.split("/")[0] in segments.GROWING
                with path.open("ab" if grows else "wb") as file:
                    file.write(body)
                if not grows:
                    os.utime(path, ns=(clock, clock))
        shutil.rmtree(here)
        shutil.rmtree(there)


def send(here, there, sent):
    for bundle in [*segments.bundles(segments.pieces(here, sent)), []]:
        gone = segments.gone(here, sent)
        segments.apply(there, *segments.unpack(segments.pack({"gone": gone}, bundle)))
        for name in gone:
            sent.pop(name, None)
        sent |= {piece.name: piece.sent for piece in bundle if piece.sent is not None}


def content(folder):
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: body for name, body in files.items() if body or name.split("/")[0] not in segments.GROWING}


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("s3://nobucket/x", "there is no such bucket; make it"),
        ("s3://x/x", "[Bb]ucket"),
        ("s3://loose/x", "has no conditional writes"),
        ("memory://x", "seen by one process alone"),
        ("nonsense://x", "can't be opened .*nonsense"),
    ],
)
def test_a_store_that_will_not_do_is_refused_before_anything_starts(machine, monkeypatch, address, sentence):
    machine("here")
    monkeypatch.setenv("LEPTON_LAB_HOME", address)
    with pytest.raises(LabError, match=sentence) as refused:
        lab.launch(lab.Spec(model="mlp"))
    assert "\n" not in str(refused.value)
    assert address in str(refused.value)
    assert not home().exists()


@pytest.mark.parametrize("address", ["s3://", "file:///", "://x"])
def test_an_address_that_names_no_place_is_refused(monkeypatch, address):
    monkeypatch.setenv("LEPTON_LAB_HOME", address)
    for use in (lab.runs, lambda: lab.launch(lab.Spec(model="mlp"))):
        with pytest.raises(LabError, match="names no place in a store; give it in full"):
            use()


def test_a_store_that_can_t_be_reached_is_refused_in_a_sentence(server, machine, monkeypatch):
    address = machine("here")
    with monkeypatch.context() as own:
        own.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
        with pytest.raises(LabError, match="it does not answer"):
            usable(f"{address}/silent")
    with monkeypatch.context() as own:
        own.delenv("AWS_ACCESS_KEY_ID")
        own.delenv("AWS_SECRET_ACCESS_KEY")
        own.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        own.setenv("AWS_CONFIG_FILE", os.devnull)
        with pytest.raises(LabError, match="there are no credentials for it"):
            usable(f"{address}/nobody")
    with monkeypatch.context() as own:
        own.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(LabError, match=r"needs s3fs, which is not installed: pip install 'lepton-lab\[s3\]'"):
            usable(f"{address}/bare")
    guarded(server, "0")
    try:
        with pytest.raises(LabError, match="it refuses these credentials"):
            usable(f"{address}/stranger")
    finally:
        guarded(server, "inf")


def guarded(server, count):
    """Let moto's server look at credentials after so many requests."""
    url = f"http://127.0.0.1:{server.args[-1]}/moto-api/reset-auth"
    request = urllib.request.Request(url, count.encode(), {"Content-Type": "text/plain"})
    urllib.request.urlopen(request, timeout=20).close()


@pytest.mark.slow
def test_a_store_that_goes_away_in_mid_save_costs_nothing_and_a_carrier_that_is_killed_neither(
    server, machine, endless, monkeypatch
):
    address = machine("here").replace("lab", "slow", 1)
    monkeypatch.setenv("LEPTON_LAB_HOME", address)
    run = lab.launch(endless.replace(strategy="ddp", checkpoint_every=20))
    bucket, prefix = Bucket(address), f"runs/{run.id}/checkpoints"
    until(lambda: link.carried(run.folder) and link.carried(run.folder)["saved"])
    machine("there")
    far = lab.attach(run.id)
    until(lambda: any(saved.COMMIT not in bucket.names(f"{prefix}/{name}") for name in bucket.names(prefix)))
    server.send_signal(signal.SIGUSR1)
    step = run.store.glance().step
    until(lambda: run.store.glance().step > step + 100)
    until(lambda: re.search("its store is .* s behind, .* it does not answer", run.remark))
    until(lambda: re.search("this is how it was .* s ago: .* it does not answer", far.remark))
    assert far.state == "running"
    (carrier,) = (p for p in psutil.process_iter() if p.name() == "lepton-carrier" and p.ppid() == os.getpid())
    carrier.kill()
    machine("here")
    with pytest.warns(UserWarning, match="shown as they were last seen"):
        lab.runs()  # which has another carry
    server.send_signal(signal.SIGUSR2)
    until(lambda: not run.remark)
    machine("there")
    far = lab.attach(run.id)
    until(lambda: not far.remark and far.store.glance().step > step + 100)
    far.stop()
    assert far.wait(60) == "stopped"
    assert far.rows() == run.rows()
    assert far.store.checkpoints() == run.store.checkpoints()
    assert all(saved.COMMIT in bucket.names(f"{prefix}/{name}") for name in bucket.names(prefix))
    weights = far.model().state_dict()
    machine("here")
    assert all(torch.equal(weights[name], value) for name, value in run.model().state_dict().items())
