"""Run folders: atomic, tailed to the last newline, rewound, never read wrong after a crash."""

import errno
import fcntl
import json
import os
import re
import resource
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lepton_lab as lab
from lepton_lab.errors import LabError
from lepton_lab.files import data_root, replacing, write_json, write_text
from lepton_lab.run.handle import Run
from lepton_lab.run.launching import repeat
from lepton_lab.spec import Spec
from lepton_lab.store.events import Tail, parse
from lepton_lab.store.failure import Failure
from lepton_lab.store.finding import find, folders
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.notes import rewound

events = st.lists(
    st.fixed_dictionaries({"kind": st.sampled_from(["train", "eval", "note"]), "step": st.integers(0, 99)})
)


@given(events, st.lists(st.integers(0, 4000), max_size=8), st.integers(1, 200))
def test_a_tail_yields_every_event_once_however_the_file_grew(rows, cuts, most):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events" / "rank0.jsonl"
        path.parent.mkdir()
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        tail, seen, start = Tail(Path(folder)), [], 0
        for cut in [*sorted(min(c, len(text)) for c in cuts), len(text)]:
            with path.open("ab") as file:
                file.write(text[start:cut])
            start = cut
            while some := [row for rows in tail.portions(most) for row in rows]:
                seen += some
        assert seen == rows


@given(st.binary(max_size=300))
def test_torn_or_foreign_lines_are_passed_over(text):
    assert all(isinstance(row, dict) for row in parse(text))


@given(
    st.lists(
        st.one_of(
            st.builds(lambda s: {"kind": "train", "rank": 0, "step": s}, st.integers(1, 20)),
            st.builds(lambda s: {"kind": "note", "rank": 0, "rewind": s}, st.integers(0, 20)),
        )
    )
)
def test_after_a_rewind_no_earlier_step_lies_beyond_it(rows):
    kept = rewound(rows)
    for i, row in enumerate(kept):
        if "rewind" in row:
            assert all(r["step"] <= row["rewind"] for r in kept[:i] if r["kind"] == "train")
    assert [r for r in kept if "rewind" in r] == [r for r in rows if "rewind" in r]


def test_a_rewind_of_one_rank_leaves_the_others_alone():
    rows = [{"kind": "train", "rank": r, "step": 9} for r in (0, 1)] + [{"kind": "note", "rank": 0, "rewind": 5}]
    assert rewound(rows) == rows[1:]


def test_a_reader_never_sees_half_a_state(tmp_path):
    path = tmp_path / "state.json"
    write_json(path, {"n": 0})
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            n += 1
            write_json(path, {"n": n, "pad": "x" * (n % 4000)})

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(2000):
        assert json.loads(path.read_text())["n"] >= 0
    stop.set()
    thread.join()


def test_a_folder_that_nobody_has_reads_as_interrupted_and_a_locked_one_as_queued():
    folder = RunFolder.create(Spec())
    assert folder.state == "interrupted"
    lock = folder.lock()
    assert folder.state == "queued"
    assert folder.lock() is None  # one owner
    os.close(lock)


def test_who_may_open_no_more_files_says_so_and_takes_no_run_for_ended():
    folder = RunFolder.create(Spec())
    lock, limits = folder.lock(), resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        with pytest.raises(OSError, match="Too many open files"):
            _ = folder.alive
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert folder.alive
    os.close(lock)


def test_a_folder_whose_making_fails_leaves_nothing(home):
    def fail(draft):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        RunFolder.create(Spec(), fail)
    assert list((home / "runs").iterdir()) == []


def test_a_checkpoint_without_its_marker_does_not_count():
    folder = RunFolder.create(Spec())
    for step in (3, 12):
        folder.checkpoint(step).mkdir(parents=True)
    (folder.checkpoint(3) / "complete").touch()
    assert folder.checkpoints() == [3]


def test_what_is_no_run_is_left_out_of_the_list(home):
    folder = RunFolder.create(Spec())
    (home / "runs" / "notes").mkdir()
    (home / "runs" / "broken").mkdir()
    for text in ("{", "[]", '"spec"'):
        (home / "runs" / "broken" / "spec.json").write_text(text)
        assert [f.id for f in folders()] == [folder.id]
    with pytest.raises(LabError, match="not a run folder"):
        RunFolder(home / "runs" / "notes")


def test_a_run_whose_model_is_no_longer_in_the_table_can_be_read():
    folder = RunFolder.create(Spec())
    record = json.loads((folder.path / "spec.json").read_text())
    record["spec"]["model"] = "long_gone"
    write_json(folder.path / "spec.json", record)
    assert RunFolder(folder.path).spec.model == "long_gone"


@pytest.mark.parametrize(
    ("failure", "certain"),
    [
        (Failure(0, "SpecError", "model='gpt': takes texts", step=12), True),
        (Failure(0, "TypeError", "forward() takes 1 argument", step=0), True),
        (Failure(0, "RuntimeError", "mat1 and mat2 shapes cannot be multiplied", "cell 4, line 11", 0), True),
        (Failure(0, "RuntimeError", "mat1 and mat2 shapes cannot be multiplied", "cell 4, line 11", 3), False),
        (Failure(0, "RuntimeError", "CUDA out of memory", "cell 4, line 11", 0), False),
        (Failure(0, "RuntimeError", "DefaultCPUAllocator: can't allocate memory", "cell 4, line 11", 0), False),
        (Failure(1, "SIGKILL", "the process was killed by SIGKILL", step=0), False),
        (Failure(0, "OSError", "[Errno 28] No space left on device", "cell 4, line 11", 0), False),
        (Failure(0, "FileNotFoundError", "[Errno 2] No such file: 'x.npy'", "cell 4, line 11", 0), False),
        (Failure(0, "ModuleNotFoundError", "No module named 'timm'", "cell 4, line 11", 0), False),
        (Failure(0, "KeyError", "'images'", "cell 4, line 11", 0, checkpoint=300), False),  # it came further before
    ],
)
def test_what_can_only_fail_the_same_way_is_known(failure, certain):
    assert failure.certain is certain


def test_a_run_is_found_by_name_and_by_what_begins_it():
    def made(id, name=""):
        folder = RunFolder.create(Spec(name=name))
        folder.path.rename(folder.path.with_name(id))
        return id

    wide, first, second, other = made("20-a1", "wide"), made("20-b2", "twice"), made("20-c3", "twice"), made("20-c4")
    assert find("wide").id == find("wid").id == find("20-a").id == find(wide).id == wide
    assert find("20-c4").id == find().id == other
    for text, meant in (("twice", [second, first]), ("tw", [second, first]), ("20-c", [other, second])):
        with pytest.raises(
            LabError, match=f"run '{text}' may be any of 2, newest first: .*give more of an id"
        ) as error:
            find(text)
        assert re.findall(r"20-[a-d]\d", str(error.value).partition("first:")[2]) == meant
    exact = made("20-d5", "twic")
    assert find("twic").id == exact  # a whole name goes before the beginning of others
    with pytest.raises(LabError, match="run 'wade' does not exist .* did you mean 'wide'"):
        find("wade")
    for odd in ("", "x" * 300, "a\0b"):
        with pytest.raises(LabError, match="does not exist"):
            find(odd)


def test_a_run_that_was_deleted_says_so():
    ours = [RunFolder.create(Spec()) for _ in range(2)]
    other = Run(ours[0])
    Run(find(ours[0].id)).delete()
    assert (other.state, other.remark, other.resumable) == ("interrupted", "it was deleted", False)
    for act in (
        other.resume,
        other.delete,
        other.archive,
        other.checkpoint,
        other.model,
        lambda: other.rename("a"),
        lambda: other.tag("a"),
        lambda: other.annotate("a"),
    ):
        with pytest.raises(LabError, match=f"run '{other.id}' was deleted"):
            act()
    with pytest.raises(LabError, match="is not a run folder"):
        repeat(other)
    assert not other.folder.exists()


def test_a_full_disk_leaves_the_labels_as_they_were():
    run = Run(RunFolder.create(Spec()))
    run.tag("a")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        with pytest.raises(
            LabError,
            match="can't be written .no file may be larger than 1 bytes, .* and stay as they were: raise",
        ):
            run.tag("b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert run.tags == ["a"]


def test_labels_that_several_give_at_once_are_all_kept():
    folder = RunFolder.create(Spec())

    def give(name):
        for i in range(25):
            RunFolder(folder.path).label(**{f"{name}{i}": i})

    threads = [threading.Thread(target=give, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folder.labels == {f"{name}{i}": i for name in "abcd" for i in range(25)}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_write_that_ends_half_way_leaves_the_older_file_and_no_draft(tmp_path, error):
    path = tmp_path / ("long" * 60 + ".html")
    write_text(path, "older")
    with pytest.raises(type(error)), replacing(path) as draft:
        draft.write_text("half of the new")
        raise error
    assert path.read_text() == "older" and list(tmp_path.iterdir()) == [path]
    write_text(path, "newer")
    assert path.read_text() == "newer" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(IsADirectoryError):
        write_text(Path(), "a file without a name")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_and_no_half_made_run_stays(home, monkeypatch, code):
    """As flock answers on such a file system; none can be mounted here."""
    before = RunFolder.create(lab.Spec())

    def flock(descriptor, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LabError) as error:
        lab.launch(lab.Spec(epochs=1))
    message = f"the file system of {str(home / 'runs')!r} locks no files ({os.strerror(code)}): set LEPTON_LAB_HOME to"
    assert str(error.value).startswith(message)
    assert [run.id for run in lab.runs()] == [before.id] and "interrupted" in repr(lab.attach())


def test_a_home_that_no_user_has_is_one_sentence(monkeypatch, tmp_path):
    for name in ("LEPTON_LAB_HOME", "LEPTON_LAB_DATA"):
        with monkeypatch.context() as own:
            own.delenv("LEPTON_LAB_DATA", raising=False)
            own.setenv(name, "~nosuchuser/lab")
            with pytest.raises(LabError, match=f"{name}='~nosuchuser/lab': no user's home folder is '~nosuchuser'"):
                data_root()
    for name in ("LEPTON_LAB_HOME", "LEPTON_LAB_DATA", "HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(LabError, match="this account has no home folder; set HOME, or LEPTON_LAB_HOME"):
        data_root()
    monkeypatch.setenv("LEPTON_LAB_HOME", str(tmp_path))
    assert lab.report(RunFolder.create(lab.Spec()).id, tmp_path / "page.html").exists()  # which needs no home


def test_what_several_note_at_once_is_all_there(tmp_path, monkeypatch):
    """As a supervisor and a rank do, which write facts of the same run."""

    def late(*values, **options):
        time.sleep(0.003)
        write_json(*values, **options)

    monkeypatch.setattr("lepton_lab.store.folder.write_json", late)
    folder = RunFolder.create(lab.Spec(), root=tmp_path)

    def note(name):
        for i in range(10):
            RunFolder(folder.path).note(**{name: i})

    threads = [threading.Thread(target=note, args=(f"fact{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {folder.facts[f"fact{i}"] for i in range(4)} == {9}
