"""What goes wrong around a run: functions that raise, files that resist, disks that are full, strangers' folders."""

import errno
import json
import os
import resource
import shutil
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers import until

import lepton_lab as lab
from lepton_lab.errors import LabError
from lepton_lab.store import checkpoints, control, shipping, trust
from lepton_lab.store import folder as folders
from lepton_lab.store.control import Control
from lepton_lab.store.events import parse
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.log import Log
from lepton_lab.store.objects.saved import MARKER
from lepton_lab.switches import switched


@contextmanager
def full_disk():
    """No file can grow, as on a full disk: the kernel refuses the bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Talkative(lab.Single):
    """Its reports are worse each time."""

    def report(self):
        figures = [{"fine": 1, "odd": float("nan"), "step": -5}, {"torn": torch.ones(2)}]
        self.asked = getattr(self, "asked", -1) + 1
        if self.asked < len(figures):
            return figures[self.asked]
        raise RuntimeError("no figures today")


def test_a_report_that_raises_is_noted_once_and_hurts_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr("lepton_lab.store.log.SYSTEM", 0.05)
    log, path, strategy = Log(tmp_path / "rank0.jsonl", 0), tmp_path / "rank0.jsonl", Talkative(lab.Spec())

    def waiting():
        raise OSError("no such stack")

    log.know(strategy.report, threads=1)
    log.start(waiting)
    until(lambda: path.read_text().count("it is asked no more") == 2)
    log.train(1, 0, torch.tensor(0.5), None, 4, 0.1)
    until(lambda: '"kind": "train"' in path.read_text())  # the thread lives
    assert log.report() == {}
    log.close()
    rows = list(parse(path.read_bytes()))
    system = [row for row in rows if row["kind"] == "system"]
    assert system[0]["fine"] == 1 and system[0]["odd"] is None and system[0]["step"] == 0
    notes = [row["text"] for row in rows if row["kind"] == "note"]
    assert sorted(note.split(" raised")[0] for note in notes) == ["report()", "waiting()"]
    assert system[-1]["step"] == 1


def test_a_run_whose_strategy_s_report_raises_is_done(tiny):
    run = lab.launch(tiny.replace(epochs=1), strategy=Raises)
    assert run.wait(60) == "done", run.failure
    assert "report() raised RuntimeError: no figures today" in " ".join(row.get("text", "") for row in run.rows("note"))


class Raises(lab.Single):
    """Plain training, with nothing to tell of it."""

    def report(self):
        raise RuntimeError("no figures today")


def test_what_a_full_disk_did_not_take_is_written_once_there_is_room(tmp_path):
    path = tmp_path / "rank0.jsonl"
    log = Log(path, 0)
    log.start()
    with full_disk():
        for step in (1, 2):
            log.train(step, 0, torch.tensor(0.5), None, 4, 0.1)
            with pytest.raises(OSError):
                log.flush()  # as the loop does at the end of an epoch: it must hear of it
    until(lambda: path.read_bytes().count(b'"kind": "train"') == 2)
    log.close()
    assert [row["step"] for row in parse(path.read_bytes()) if row["kind"] == "train"] == [1, 2]


@pytest.fixture
def watched(tmp_path):
    (tmp_path / "control").mkdir()
    rank = Control(tmp_path, 0, 1)
    yield rank
    rank.close()


def test_what_is_no_command_is_passed_over(tmp_path, watched, capfd):
    wrong = [
        "{",
        "[]",
        '{"x": 1}',
        '{"command": "dance"}',
        '{"command": "set", "lr": "high"}',
        '{"command": "set", "lr": NaN}',
    ]
    for i, text in enumerate(wrong):
        (tmp_path / "control" / f"{i}-wrong.json").write_text(text)
    (tmp_path / "control" / "7-folder.json").mkdir()
    control.send(tmp_path, "set", lr=0.5)
    assert until(lambda: watched.next(0)) == {"command": "set", "lr": 0.5, "at": 0}
    assert watched.next(0) is None
    until(lambda: [path.name for path in (tmp_path / "control").iterdir()] == ["7-folder.json"])
    assert capfd.readouterr().err.count("holds no command") == len(wrong) + 1


def test_a_command_whose_file_can_t_be_removed_is_obeyed_once(tmp_path, watched, monkeypatch):
    unlink, resists = Path.unlink, threading.Event()
    resists.set()

    def refuse(path, *given, **named):
        if resists.is_set() and path.parent.name == "control":
            raise OSError(errno.EBUSY, "Device or resource busy")
        return unlink(path, *given, **named)

    monkeypatch.setattr(Path, "unlink", refuse)
    control.send(tmp_path, "checkpoint")
    until(lambda: watched.next(0))
    control.send(tmp_path, "pause")
    assert until(lambda: watched.next(0))["command"] == "pause"  # and the first came no second time
    resists.clear()
    until(lambda: not list((tmp_path / "control").iterdir()))
    assert watched.next(0) is None


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A stopped run with two checkpoints; tests work on copies of it."""
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LEPTON_LAB_HOME", str(root))
        own.setenv("XDG_RUNTIME_DIR", str(root))
        run = lab.launch(lab.Spec(dataset="digits", model="mlp", batch_size=64, world=2, epochs=100_000))
        until(lambda: len(run.rows("eval")) > 4)
        run.stop()
        assert run.wait(60) == "stopped" and len(run.store.checkpoints()) == 2
        until(lambda: not run.store.alive)  # what it kept for a full disk goes last
        yield run.folder


@pytest.fixture
def stopped(ended, home):
    """A copy of the stopped run under the test's own root."""
    shutil.copytree(ended, home / "runs" / ended.name)
    return lab.attach(ended.name)


def test_another_object_sees_what_a_resume_changed(stopped):
    shelf = lab.attach(stopped.id)
    assert shelf.spec.world == 2 and shelf.spec is shelf.spec
    stopped.resume(strategy="fsdp", timeout=77)
    assert shelf.spec.timeout == 77 and shelf.summary()["strategy"] == "fsdp"
    stopped.stop()
    stopped.wait(60)
    until(lambda: not RunFolder(stopped.folder).alive)  # its supervisor may be tidying up
    shutil.rmtree(stopped.folder)
    assert shelf.spec.timeout == 77  # what was known stays known


def test_a_resume_that_fails_half_way_leaves_the_run_as_it_was(stopped):
    with (
        full_disk(),
        pytest.raises(LabError, match="no file may be larger than 0 bytes, .* raise that limit .* then resume"),
    ):
        stopped.resume(lr=0.5)
    other = RunFolder(stopped.folder)
    assert not other.alive and stopped.state == "stopped" and stopped.spec.lr == 1e-3
    (lock := other.lock()) and os.close(lock)
    assert lock is not None
    command = stopped.folder / "control" / "1-stubborn.json"
    command.mkdir()  # can't be unlinked
    with pytest.raises(LabError, match="can't be resumed"):
        stopped.resume()
    assert not RunFolder(stopped.folder).alive
    command.rmdir()
    stopped.resume()
    assert stopped.state != "stopped"
    stopped.stop()
    stopped.wait(60)


def test_a_start_that_fails_half_way_frees_its_locks(tiny):
    made = [RunFolder.create(tiny) for _ in range(2)]
    for folder in made:
        os.close(folder.lock())
    with full_disk(), pytest.raises(LabError, match=r"can't be written .*attach"):
        from lepton_lab.run.launching import start

        start(*((folder, "cpu") for folder in made))
    assert not any(folder.alive for folder in made)


def damage(run, step, name):
    (path,) = (run.folder / "checkpoints" / f"step-{step:08d}").glob(name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 20])


@pytest.mark.parametrize("name", ["tensors/__0_0.distcp", "tensors/.metadata", "rank1.pt"])
def test_a_checkpoint_that_can_t_be_read_is_passed_over_for_the_one_before(stopped, name):
    before, last = RunFolder(stopped.folder).checkpoints()
    damage(stopped, last, name)
    stopped.resume()
    until(lambda: stopped.state in ("running", *folders.ENDED))
    told = [row for row in stopped.rows("note") if "the one before it is taken" in row.get("text", "")]
    rewinds = {row["rewind"] for row in stopped.rows("note") if "rewind" in row}
    stopped.stop()
    assert stopped.wait(60) == "stopped", stopped.failure
    assert len(told) == 1 and f"step-{last:08d}" in told[0]["text"] and rewinds == {before}


def test_a_model_comes_from_the_checkpoint_before_one_that_can_t_be_read(stopped):
    before, last = RunFolder(stopped.folder).checkpoints()
    whole = {name: value.clone() for name, value in stopped.model().state_dict().items()}
    damage(stopped, last, "tensors/__0_0.distcp")
    with pytest.warns(UserWarning, match=f"step-{last:08d}.*can't be read.*the one before it"):
        model = stopped.model().state_dict()
    assert any(not torch.equal(model[name], whole[name]) for name in whole)
    damage(stopped, before, "tensors/__0_0.distcp")
    with warnings.catch_warnings(), pytest.raises(LabError, match=f"step-{before:08d}.*can't be read"):
        warnings.simplefilter("ignore")
        stopped.model()


def test_the_marker_comes_after_the_data(stopped, monkeypatch):
    order = []
    fsync, touch, at = os.fsync, Path.touch, lambda fd: str(Path(f"/proc/self/fd/{fd}").readlink())
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(at(fd)), fsync(fd))[1])
    monkeypatch.setattr(Path, "touch", lambda path, **n: (order.append(str(path)), touch(path, **n))[1])
    strategy = lab.Single(lab.Spec(model="mlp"))
    strategy.start(0, 1, stopped.folder / "none", torch.device("cpu"))
    strategy.setup(torch.nn.Linear(3, 2), lambda parameters: torch.optim.SGD(parameters, 0.1))
    checkpoints.save(RunFolder(stopped.folder), strategy, 10**6, {"step": 10**6})
    marker = next(i for i, name in enumerate(order) if name.endswith(MARKER))
    names = [Path(name.removesuffix(" (deleted)")).name for name in order[:marker]]
    assert "rank0.pt" in names and any("distcp" in name for name in names) and names[-1].startswith(".step-")


def test_two_runs_that_draw_one_id_get_two(tiny, monkeypatch):
    drawn = iter(["a1a1", "a1a1", "b2b2"])
    token = folders.secrets.token_hex
    monkeypatch.setattr(folders.secrets, "token_hex", lambda n: next(drawn) if n == 2 and next_is_id() else token(n))
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-000000")

    def next_is_id():
        import sys

        return sys._getframe(2).f_code.co_name == "_settle"

    assert [RunFolder.create(tiny).id[-4:] for _ in range(2)] == ["a1a1", "b2b2"]


def test_threads_are_those_that_ranks_compute_with(tiny):
    run = lab.launch(tiny.replace(epochs=1, strategy="single", options={"threads": 1}))
    run.wait(60)
    from lepton_lab.reports.sections import provenance

    assert run.provenance["threads"] == run.facts["threads"] == 1
    assert any(line.split()[:4] == ["threads", "a", "rank", "1"] for line in provenance([run]).text.splitlines())


def test_a_switch_of_the_process_is_thrown_by_one_thread_at_a_time():
    state, seen = {"on": True}, []

    def work():
        for _ in range(200):
            with switched(lambda: state["on"], put, False):
                seen.append(state["on"])

    def put(value):
        time.sleep(0)
        state["on"] = value

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert state["on"] is True and not any(seen)


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, (os.environ["LEPTON_LAB_HOME"] + "/sprung",))


def test_reading_a_run_that_others_could_have_changed_executes_nothing(stopped, home):
    trap = shipping.Path(stopped.folder) / "model.pkl"
    torch.save(Trap(), trap)
    for mode in (0o664, 0o646):
        trap.chmod(mode)
        with pytest.raises(LabError, match=r"can be written by others.*chmod -R go-w"):
            stopped.model()
    trap.chmod(0o644)
    stopped.folder.chmod(0o775)
    with pytest.raises(LabError, match="can be written by others"):
        stopped.model()
    stopped.folder.chmod(0o755)
    metadata = next((stopped.folder / "checkpoints").glob("step-*/tensors/.metadata"))
    trap.unlink()
    for file in (stopped.folder / "checkpoints").glob("step-*/tensors/.metadata"):
        file.chmod(0o666)
    with pytest.raises(LabError, match="can be written by others"):
        stopped.model()
    assert metadata.exists() and not (home / "sprung").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_run_of_another_user_s_is_data_only(stopped, home):
    torch.save(Trap(), trap := stopped.folder / "model.pkl")
    os.chown(trap, 12345, 12345)
    with pytest.raises(LabError, match=r"belongs to user 12345.*cp -r"):
        stopped.model()
    assert stopped.summary()["step"] and stopped.rows("train") and lab.runs() == [stopped]
    assert not (home / "sprung").exists()


def test_own_runs_are_one_s_own_whatever_the_umask(tiny):
    before = os.umask(0o002)
    try:
        run = lab.launch(tiny.replace(epochs=1), model=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))
        assert run.wait(60) == "done", run.failure
    finally:
        os.umask(before)
    until(lambda: not run.store.alive)  # its supervisor takes a file away after that
    assert not [p for p in run.folder.rglob("*") if p.stat().st_mode & trust.OTHERS and p.parent.name != "control"]
    assert run.model()
    assert json.loads((run.folder / "spec.json").read_text())["spec"]["model"] == "cell:Sequential"
