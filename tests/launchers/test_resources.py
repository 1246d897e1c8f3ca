"""A real disk that is full, and memory that is not there: said in a sentence, with nothing lost."""

import os
import resource
import shutil
import subprocess
import tempfile

import pytest
import torch
from torch import nn

import lepton_lab as lab
from lepton_lab import files
from lepton_lab.artifacts import About
from lepton_lab.errors import LabError
from lepton_lab.launchers import resources
from lepton_lab.store import control
from lepton_lab.store.folder import RunFolder


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A home on a disk of 4 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "lab", place], check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        with monkeypatch.context() as own:
            own.setenv("LEPTON_LAB_HOME", str(place))
            yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


class Fills(nn.Module):
    """Fills the disk of the run's folder at its seventh batch, and makes room again when told to."""

    def __init__(self, disk):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.disk, self.seen = disk, 0

    def forward(self, x):
        self.seen += 1
        if self.seen == 7 and not (self.disk / "filled").exists():
            fill(self.disk / "filled")
        return self.layer(x.flatten(1))


def fill(path):
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):  # to the last byte
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass


def test_a_full_disk_is_named_and_what_was_saved_is_safe(small_disk):
    spec = lab.Spec(epochs=3, batch_size=300, strategy="single", checkpoint_every=1)  # 5 steps an epoch
    run = lab.launch(spec, model=Fills(small_disk))
    assert run.wait(60) == "failed"
    failure = run.failure
    assert failure.type == "DiskFull", failure
    assert failure.message.startswith(f"no space left on the disk of {str(run.folder)!r}: ")
    assert "of 4 MiB are free; make room, then resume" in failure.message
    assert failure.checkpoint == 5 and "last good checkpoint: step 5" in str(failure) and run.resumable
    fill(small_disk / "again")
    with pytest.raises(LabError, match=r"no space left on the disk of .* 4 MiB are free; make room, then resume"):
        run.resume()
    assert run.state == "failed" and run.failure == failure
    for name in ("filled", "again"):
        (small_disk / name).write_bytes(b"")
    run.resume()
    assert run.wait(60) == "done" and not (run.folder / resources.RESERVE).exists()


def test_a_state_is_written_in_the_place_kept_for_it(small_disk):
    folder = RunFolder.create(lab.Spec())
    resources.reserve(folder.path, 1)
    fill(small_disk / "filled")
    with pytest.raises(OSError, match="No space left"):
        folder.set_state("failed", reason="x" * 10_000)
    resources.pressed(folder.path, lambda: folder.set_state("failed", reason="x" * 10_000))
    assert folder.state == "failed" and len(folder.facts["reason"]) == 10_000


class Wants(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)

    def forward(self, x):
        torch.empty(2**50, dtype=torch.uint8)
        return super().forward(x.flatten(1))


def test_memory_that_is_not_there_is_said_with_how_much_there_is():
    run = lab.launch(lab.Spec(epochs=1, strategy="single"), model=Wants)
    assert run.wait(60) == "failed"
    assert run.failure.type == "OutOfMemory" and "test_resources.py, line" in run.failure.where
    free, total = resources.memory_left()
    assert 0 < free < total
    said = run.failure.message
    assert said.startswith("out of memory: 1 PiB more were asked for, and ") and files.sized(total) in said
    assert said.endswith("no batch is small enough for it, so make the layer or the tensor smaller")


GPU = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 5.00 GiB is "
    "free. Including non-PyTorch memory, this process has 74.10 GiB memory in use."
)


def test_int8_is_made_on_a_disk_with_room_or_says_which_is_full(small_disk, tmp_path, monkeypatch):
    about, net = About("net", (64,)), nn.Linear(64, 4)
    older = small_disk / "model.onnx"
    older.write_bytes(b"older")
    fill(small_disk / "filled")
    full = rf"\(no space left on the disk of '{small_disk}': 0 bytes of 4 MiB are free\): make room, "
    with pytest.raises(LabError, match=f"file '{older}' can't be written {full}then do it again; what stood there"):
        lab.export(net, older, "onnx", about=about)
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    for form, scheme in (("onnx", "int8_static"), ("lepton", "int8_dynamic")):
        with pytest.raises(
            LabError, match=f"^int8 is made in '{small_disk}', which can't be written {full}or set TMPD"
        ):
            lab.export(net, tmp_path / "m", form, scheme=scheme, about=about, calibration=about.samples(8))
    assert older.read_bytes() == b"older" and not (tmp_path / "m").exists()


class Limited(nn.Module):
    """No file of its rank may grow beyond 100 KiB from its seventh batch on."""

    def __init__(self):
        super().__init__()
        self.layer, self.out, self.seen = nn.Linear(64, 1000), nn.Linear(1000, 10), 0

    def forward(self, x):
        self.seen += 1
        if self.seen == 7:
            resource.setrlimit(resource.RLIMIT_FSIZE, (102_400, resource.RLIM_INFINITY))
        return self.out(self.layer(x.flatten(1)))


def test_a_limit_on_files_is_not_told_as_a_full_disk():
    spec = lab.Spec(epochs=3, batch_size=300, strategy="single", checkpoint_every=1)
    run = lab.launch(spec, model=Limited)
    assert run.wait(60) == "failed"
    assert run.failure.type == "FileSizeLimit", run.failure
    said = (
        "no file may be larger than 100 KiB, the limit of `ulimit -f`; raise that limit where Jupyter is started, then"
    )
    assert run.failure.message.startswith(said) and run.failure.checkpoint == 5 and run.resumable


def test_what_a_report_and_an_export_can_t_write_is_a_sentence_and_what_stood_there_stays(small_disk):
    run, about = lab.Run(RunFolder.create(lab.Spec())), About("m", (2,), "float32", ["a", "b"])
    page, file = small_disk / "page.html", small_disk / "m.lepton"
    for path in (page, file):
        path.write_text("older")
    fill(small_disk / "filled")
    for why in ("no space left on the disk", "Read-only file system"):
        with pytest.raises(LabError, match=rf"the report '{page}' can't be written \({why}.*\): name another file"):
            lab.report(run, page)
        with pytest.raises(LabError, match=rf"artifact '{file}' can't be written \({why}.* is as it was"):
            lab.export(nn.Linear(2, 2), file, about=about)
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert page.read_text() == file.read_text() == "older"


def test_a_run_on_a_disk_that_can_only_be_read_is_a_sentence(small_disk):
    folder = RunFolder.create(lab.Spec())
    folder.set_state("stopped")
    run = lab.Run(folder)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for change in (run.resume, run.delete):
        with pytest.raises(
            LabError, match=f"run '{run.id}' can't be changed: .* \\(Read-only file system\\); make a copy"
        ):
            change()
    with pytest.raises(LabError, match=r"labels of run .* \(Read-only file system\) and stay as they were"):
        run.tag("a")
    assert run.state == "stopped" and not run.tags


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (GPU, "20 GiB more were asked for, and 5 GiB of the GPU's 79.11 GiB are free; take batch_size=16, or accumul"),
        ("Unable to allocate 7.28 PiB for an array with shape (9,) and data type float64", "7.28 PiB more were asked"),
        ("", "are free; take batch_size=32, or accumulate=2"),
    ],
)
def test_what_fits_is_told_from_what_was_asked(message, said):
    assert said in resources.out_of_memory(message, lab.Spec(batch_size=64))


def test_a_batch_that_ranks_can_t_share_is_not_told_to_fit():
    said = resources.out_of_memory(GPU, lab.Spec(batch_size=64, world=32))
    assert said.endswith("no batch is small enough for it, so make the layer or the tensor smaller")


def test_what_can_t_be_written_into_a_run_s_folder_is_a_sentence_and_keeps_no_place():
    run = lab.Run(RunFolder.create(lab.Spec()))
    (run.folder / "control" / "a-folder").mkdir()  # which no clearing of commands removes
    with pytest.raises(lab.LabError, match=f"run '{run.id}' can't be resumed: its folder .* can't be written"):
        run.resume()
    assert not (run.folder / resources.RESERVE).exists()
    shutil.rmtree(run.folder / "control")
    with pytest.raises(lab.LabError, match=f"run '{run.id}' can't be told to stop: .* can't be written"):
        control.send(run.folder, "stop")


def test_a_message_of_megabytes_is_kept_short():
    def model():
        raise RuntimeError("x" * 5_000_000)

    run = lab.launch(lab.Spec(epochs=1), model=model)
    assert run.wait(60) == "failed" and "characters ..." in run.failure.message
    assert (run.folder / "state.json").stat().st_size < 50_000
