"""What nodes send that share no disk with the supervisor of their run: laid into its folder once, whole, in order."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import until

import lepton_lab as lab
from lepton_lab.errors import LabError
from lepton_lab.files import cache
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.log import Journal
from lepton_lab.store.objects import bucket as buckets
from lepton_lab.store.objects import following, link, mirror, saved, segments
from lepton_lab.store.objects.bucket import Bucket
from lepton_lab.store.objects.carrier import Carried
from lepton_lab.store.objects.gathering import Gathering, take_rest, up
from lepton_lab.store.objects.mirror import Mirror, copied, sent_to


@pytest.fixture
def run(home, monkeypatch):
    """A run's folder that nobody trains, and what carries it to a store."""
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "here"))
    monkeypatch.setenv("LEPTON_LAB_HOME", f"file://{home}/store")
    folder = RunFolder.create(lab.Spec(model="mlp"))
    folder.set_state("starting", attempt=1)
    with ThreadPoolExecutor(1) as pool:
        carried = Carried(Bucket(f"file://{home}/store"), folder.path, pool)
        carried.step()
        yield folder, carried


@pytest.fixture
def nodes(run, home, monkeypatch):
    """Function that makes the mirror of another node, which has what the run has by now."""
    made = []

    def node():
        monkeypatch.setenv("XDG_DATA_HOME", str(home / f"node{len(made)}"))
        made.append(Mirror(f"file://{home}/store", run[0].id))
        made[-1].life = "life"
        made[-1].bring()
        return made[-1]

    yield node
    for each in made:
        each.close()
        assert not each.root.exists()


def begun(run, attempt, folder_of):
    """What each node has for ranks of a beginning."""
    number = up(run[0]) or 0
    return [copied(each.root, {"attempt": attempt, "next": number}, n) for n, each in enumerate(folder_of)]


def rows(folder, rank):
    path = folder.path / "events" / f"rank{rank}.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def write(copy, rank, *steps):
    journal = Journal(copy / "events" / f"rank{rank}.jsonl", rank)
    for step in steps:
        journal.write("train", step=step)
    journal.close()


def test_what_ranks_write_is_laid_after_what_earlier_ones_did_and_nothing_late_of_those(run, nodes):
    folder, _ = run
    two = [nodes(), nodes()]
    gathering = Gathering(folder, two[0].bucket.address, "life")
    gathering.begin(1, 2)
    first, second = begun(run, 1, two)
    write(first, 0, 1, 2)
    write(second, 1, 1)
    for each in two:
        each._round()
    gathering.drain()
    write(first, 0, 3)
    two[0]._round()
    gathering.drain()
    assert (rows(folder, 0), rows(folder, 1)) == ([1, 2, 3], [1])
    with (folder.path / "events" / "rank1.jsonl").open("a") as file:
        file.write('{"torn')  # by a node that died in the middle of a line
    write(second, 1, 2, 3)  # sent when the others have begun anew without it
    gathering.begin(2, 1)
    (again,) = begun(run, 2, two[:1])
    write(again, 1, 2)
    for each in two:
        each._round()
    gathering.drain()
    assert (folder.path / "events" / "rank1.jsonl").read_text().splitlines()[1] == '{"torn'
    lines = (folder.path / "events" / "rank1.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines[:1] + lines[2:]] == [1, 2]
    assert not first.exists(), "what was sent of an earlier beginning is gone from the node"
    gathering.close()
    assert not two[0].bucket.names(f"runs/{folder.id}/nodes")


def test_facts_are_what_ranks_said_beside_what_the_supervisor_did(run, nodes):
    folder, _ = run
    node = nodes()
    gathering = Gathering(folder, node.bucket.address, "life")
    gathering.begin(1, 1)
    (copy,) = begun(run, 1, [node])
    folder.note(nodes=[{"host": "a"}])
    with (copy / "facts" / "0.jsonl").open("w") as file:
        file.write('[null, {"samples": 3}]\n["running", {"step')
    node._round()
    gathering.drain()
    assert (folder.facts["samples"], folder.facts["state"]) == (3, "starting")
    with (copy / "facts" / "0.jsonl").open("a") as file:
        file.write('s": 5}]\n')
    (copy / "state.json").write_text("{}")
    node._round()
    gathering.drain()
    facts = folder.facts
    assert (facts["state"], facts["steps"], facts["samples"], facts["nodes"]) == ("running", 5, 3, [{"host": "a"}])
    gathering.close()


def test_the_rest_of_what_nodes_sent_is_taken_in_where_a_supervisor_was_killed(run, nodes):
    folder, _ = run
    two = [nodes(), nodes()]
    gathering = Gathering(folder, two[0].bucket.address, "life")
    write(folder.path, 0, 0)  # by an earlier beginning
    gathering.begin(1, 2)
    first, second = begun(run, 1, two)
    write(first, 0, 1, 2)
    (first / "facts" / "0.jsonl").write_text('[null, {"samples": 1}]\n[null, {"sa')
    two[0]._round()
    gathering.drain()  # the last that it does
    write(first, 0, 3)
    with (first / "facts" / "0.jsonl").open("a") as file:
        file.write('mples": 2}]\n')
    write(second, 1, 1)
    for each in two:
        each._round()
    take_rest(folder)
    assert (rows(folder, 0), rows(folder, 1), folder.facts["samples"]) == ([0, 1, 2, 3], [1], 2)
    assert not two[0].bucket.names(f"runs/{folder.id}/nodes")
    take_rest(folder)  # of which there is none


def test_what_one_node_writes_once_the_others_have_but_not_what_they_have_of_their_own(run, nodes):
    folder, carried = run
    one, two = nodes(), nodes()
    gathering = Gathering(folder, one.bucket.address, "life")
    gathering.begin(1, 2)
    first, second = begun(run, 1, [one, two])
    (first / "links").mkdir()
    (first / "links" / "module").write_bytes(os.urandom(segments.PORTION + 5))  # goes in two pieces
    (first / "own").write_text("of the first")
    (second / "own").write_text("of the second")
    (first / "errors" / "rank0.json").write_text("{}")
    one._round()
    gathering.drain()
    while carried.step():
        pass
    two._round()
    assert (second / "links" / "module").read_bytes() == (first / "links" / "module").read_bytes()
    assert (second / "own").read_text() == "of the second"
    assert not (second / "errors" / "rank0.json").exists()
    before = two._copies["1.1"].next
    two._round()
    assert two._copies["1.1"].next == before, "what came from another is not sent back"
    (first / "links" / "module").unlink()
    one._round()
    gathering.drain()
    assert not (folder.path / "links" / "module").exists()
    gathering.close()


def test_a_segment_whose_answer_was_lost_is_not_sent_twice(run, nodes, monkeypatch):
    folder, _ = run
    node = nodes()
    gathering = Gathering(folder, node.bucket.address, "life")
    gathering.begin(1, 1)
    (copy,) = begun(run, 1, [node])
    write(copy, 0, 1)
    (copy / "file").write_text("a")
    put = node.bucket.put

    def lost(name, body):
        put(name, body)
        raise ConnectionError("no answer")

    with monkeypatch.context() as own:
        own.setattr(node.bucket, "put", lost)
        with pytest.raises(ConnectionError):
            node._round()
    write(copy, 0, 2)
    (copy / "file").write_text("b")
    node._round()
    gathering.drain()
    assert rows(folder, 0) == [1, 2]
    assert (folder.path / "file").read_text() == "b"
    gathering.close()


def test_a_node_that_was_killed_leaves_nothing_once_another_comes(run, nodes, monkeypatch):
    node = nodes()
    killed = Mirror(node.bucket.address, run[0].id)
    killed._lock.close()
    again = Mirror(node.bucket.address, run[0].id)
    assert not killed.root.exists() and node.root.exists()
    again.close()


def put(bucket, folder, step, text):
    """A checkpoint, as nodes put one on the store; its prefix."""
    draft = folder.path / "checkpoints" / f".step-{step:08d}"
    draft.mkdir(parents=True)
    (draft / "rank0.pt").write_text(text)
    prefix = f"checkpoints/step-{step:08d}-{text}"
    saved.commit(bucket, f"runs/{folder.id}", prefix, saved.put(bucket, f"runs/{folder.id}/{prefix}", draft))
    (draft / "rank0.pt").unlink()
    draft.rmdir()
    return prefix


def test_checkpoints_on_the_store_are_fetched_when_asked_for_and_come_home_before_a_run_goes_on_here(run, nodes, home):
    folder, carried = run
    bucket, name = Bucket(f"file://{home}/store"), f"runs/{folder.id}"
    gathering = Gathering(folder, bucket.address, "life")
    put(bucket, folder, 5, "old")
    put(bucket, folder, 5, "new")
    put(bucket, folder, 8, "late")
    (bucket_draft := home / "draft").mkdir()
    (bucket_draft / "rank0.pt").write_text("torn")
    saved.put(bucket, f"{name}/checkpoints/step-00000009-torn", bucket_draft)
    gathering.list()
    assert folder.checkpoints() == [5, 8]
    assert not (folder.path / "checkpoints" / "step-00000005").exists()
    assert (folder.checkpoint(5) / "rank0.pt").read_text() == "new"
    prefix = put(bucket, folder, 5, "newest")
    gathering.list()
    assert (folder.checkpoint(5) / "rank0.pt").read_text() == "newest", "not what was fetched before"
    carried.step()
    assert (carried.record["saved"], link.elsewhere(folder.path)["step-00000005"]) == ({}, prefix)
    saved.bring_home(folder.path)
    while carried.step():
        pass
    assert {step: each[0] for step, each in carried.record["saved"].items()} == {
        "step-00000005": prefix,
        "step-00000008": "checkpoints/step-00000008-late",
    }, "they are not sent once more"
    assert not (folder.path / link.STORED).exists()
    assert folder.checkpoints() == [5, 8]


def local(folder, step, text):
    """A checkpoint of ranks of this machine."""
    path = folder.path / "checkpoints" / f"step-{step:08d}"
    path.mkdir()
    (path / "rank0.pt").write_text(text)
    (path / saved.MARKER).touch()


def carry(carried, done):
    """Until something holds; what goes up does so beside it."""
    until(lambda: setattr(carried, "settled", None) or (carried.step() and False) or done())


def test_what_is_trained_here_between_two_stays_on_nodes_goes_on(run, home):
    folder, carried = run
    bucket, name = Bucket(f"file://{home}/store"), f"runs/{folder.id}"
    gathering = Gathering(folder, bucket.address, "life")
    put(bucket, folder, 1, "1.aaaa")
    put(bucket, folder, 2, "1.bbbb")
    gathering.list()
    saved.bring_home(folder.path)
    folder.note(attempt=2)
    local(folder, 3, "here")
    folder.discard([1, 2])  # before the carrier had a look
    carry(carried, lambda: [*carried.record["saved"]] == ["step-00000003"])
    assert [*saved.committed(bucket, name)] == ["step-00000003"]
    carry(carried, lambda: up(folder) is not None)
    Gathering(folder, bucket.address, "next")._ready()
    assert folder.checkpoints() == [3]
    assert (folder.checkpoint(3) / "rank0.pt").read_text() == "here"


@pytest.mark.parametrize("place", ["here", "another machine"])
def test_a_run_goes_on_from_what_nodes_saved_after_its_supervisor_was_killed(run, home, monkeypatch, place):
    folder, carried = run
    bucket, name = Bucket(f"file://{home}/store"), f"runs/{folder.id}"
    gathering = Gathering(folder, bucket.address, "life")
    put(bucket, folder, 1, "1.aaaa")
    kept = [put(bucket, folder, 2, "1.bbbb")]
    gathering.list()
    folder.checkpoint(2)
    folder.note(samples=1)
    carried.step()
    kept = [put(bucket, folder, 2, "1.b2b2"), put(bucket, folder, 3, "1.cccc")]  # nobody heard of them
    saved.sweep(bucket, name, kept, 1)
    if place == "here":
        saved.bring_home(folder.path)
    else:
        monkeypatch.setenv("XDG_DATA_HOME", str(home / "far"))
        following.bring(bucket.address, folder.id)
        folder = RunFolder(cache(bucket.address) / "runs" / folder.id)
        monkeypatch.setattr(following, "alive", lambda path: False)
        following.claim(folder.path)
        assert link.carried(folder.path)["saved"].keys() == {"step-00000002", "step-00000003"}
    assert folder.checkpoints() == [2, 3]
    assert (folder.checkpoint(2) / "rank0.pt").read_text() == "1.b2b2"


def test_what_ranks_saved_later_counts_though_an_earlier_one_could_not_be_removed(run, home, monkeypatch):
    folder, carried = run
    bucket, name = Bucket(f"file://{home}/store"), f"runs/{folder.id}"
    gathering = Gathering(folder, bucket.address, "life")
    put(bucket, folder, 10, "1.aaaa")
    gathering.list()
    saved.bring_home(folder.path)
    carry(carried, lambda: "step-00000010" in carried.record["saved"])
    folder.note(attempt=2)
    folder.discard([10])
    local(folder, 10, "here")
    with monkeypatch.context() as own:
        own.setattr(bucket.files, "rm", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("away")))
        own.setattr(carried.bucket, "files", bucket.files)
        with pytest.raises(ConnectionError):
            carry(carried, lambda: False)
    assert len(bucket.names(f"{name}/checkpoints")) == 2
    assert "-2." in saved.committed(bucket, name)["step-00000010"], "that of ranks that began later"
    carry(carried, lambda: len(bucket.names(f"{name}/checkpoints")) == 1)


def test_a_sweep_leaves_what_counts(run, home):
    folder, _ = run
    bucket, name = Bucket(f"file://{home}/store"), f"runs/{folder.id}"
    prefixes = [put(bucket, folder, step, "a") for step in (1, 2, 3)]
    assert list(saved.committed(bucket, name).values()) == prefixes
    saved.sweep(bucket, name, prefixes[1:2], attempt=0)
    assert list(saved.committed(bucket, name).values()) == prefixes[1:2]
    later = put(bucket, folder, 1, "3.a")
    saved.sweep(bucket, name, prefixes[1:2], attempt=2)
    assert list(saved.committed(bucket, name).values()) == [prefixes[1], later], "others have gone on meanwhile"


def test_a_run_is_up_when_the_store_has_its_state_and_its_checkpoints(run):
    folder, carried = run
    assert up(folder) == carried.record["next"]
    folder.note(samples=1)
    assert up(folder) is None
    carried.step()
    assert up(folder) == carried.record["next"]
    path = folder.path / "checkpoints" / "step-00000001"
    path.mkdir()
    (path / saved.MARKER).touch()
    assert up(folder) is None
    carried.settled = None
    while up(folder) is None:
        carried.step()


def test_a_store_that_stays_away_is_an_error_in_a_sentence(monkeypatch):
    monkeypatch.setattr(buckets, "PATIENCE", 0.1)
    monkeypatch.setattr(buckets, "AGAIN", 0.05)
    tries = []

    def away():
        tries.append(1)
        raise ConnectionError("gone")

    with pytest.raises(LabError, match=r"tried in vain for 0 s: 's3://x': it does not answer"):
        buckets.patiently("s3://x", away)
    assert len(tries) > 1


def test_what_is_sent_of_each_beginning_has_a_prefix_of_its_own():
    prefixes = [sent_to("run", life, attempt, node) for life in "ab" for attempt in (1, 2) for node in (0, 1)]
    assert len({*prefixes}) == 8


def test_a_flush_waits_for_what_was_written_before_it(run, nodes, monkeypatch):
    node = nodes()
    node.start("life")
    begun(run, 1, [node])
    mirror.flush(node.root)
    assert "1.0" in node._copies
    node.finish()
