"""Loading processes: what they give arrives whatever its class, and what stops one is said."""

import os
import signal
import time
import typing
from pathlib import Path

import pytest
import torch
from helpers import until
from torch import nn
from torch.utils.data import Dataset, IterableDataset, Subset, get_worker_info

import lepton_lab as lab
from lepton_lab.batches import held
from lepton_lab.datasets import Stream
from lepton_lab.engine import feed
from lepton_lab.engine.faults import Fault, LoadError, lost
from lepton_lab.engine.loading import Loader, Pass
from lepton_lab.engine.packing import SLOT
from lepton_lab.errors import SpecError


class Sample(typing.NamedTuple):
    x: torch.Tensor
    y: int


class Tagged(torch.Tensor):
    pass


class Broken(Exception):
    def __init__(self, number, why):  # takes two values, so that pickling it fails
        super().__init__(f"sample {number} is {why}")


class Faulty(Dataset):
    """Samples of which the one at `bad` is made by `fault`."""

    classes = ("a", "b", "c", "d")

    def __init__(self, fault, bad=40):
        self.fault, self.bad, self.sample = fault, bad, torch.ones(8)

    def __len__(self):
        return 64

    def __getitem__(self, i):
        return self.fault() if i == self.bad else Sample(self.sample, i % 4)


def raises():
    raise Broken(40, "torn")


def stands():
    time.sleep(3600)


def ragged():
    return torch.ones(9), 0


needs_cores = pytest.mark.skipif(feed.cores() < 2, reason="one core: ranks read the data themselves")
# As classes of a cell are in a rank: no process can import them by name.
for unknown in (Sample, Tagged, Broken):
    unknown.__qualname__ = f"Gone.{unknown.__qualname__}"


def read(dataset, workers, timeout=30.0, batches=((0, 1), (39, 40, 41))):
    return list(Loader(dataset, workers, timeout).read([list(batch) for batch in batches], 0))


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_of_any_class_arrive_as_plain_tensors(workers):
    tagged = Faulty(lambda: (torch.ones(8).as_subclass(Tagged), 3), bad=0)
    for (x, y), unsound in read(tagged, workers) + read(
        Faulty(lambda: Sample(torch.ones(8, requires_grad=True), 1)), workers
    ):
        assert type(x) is torch.Tensor and x.shape[1:] == (8,) and y.dtype == torch.int64 and unsound == -1


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (raises, "Broken", "sample 40 is torn"),
        (ragged, "SpecError", "data: sample 39 has x of shape (8,) and sample 40 of (9,); pad or crop"),
        (lambda: (torch.ones(8), "cat"), "SpecError", "sample 40 has a str as y"),
        (lambda: 7, "SpecError", "sample 40 is a int, not a pair"),
        (lambda: exit(0), "SystemExit", "0"),
    ],
)
def test_what_goes_wrong_in_a_loading_process_comes_back_as_it_was_said(fault, kind, said):
    with pytest.raises(LoadError) as error:
        read(Faulty(fault), 1)
    told = error.value.fault
    assert told.type == kind and said in told.message and len(told.message) < 400
    if fault is raises:
        assert told.frames[-1][0] == __file__ and "raise Broken" in told.text


def test_without_loading_processes_an_error_is_raised_as_it_is():
    with pytest.raises(Broken):
        read(Faulty(raises), 0)
    part = Subset(Subset(Faulty(lambda: 7), range(10, 64)), range(29, 40))
    with pytest.raises(SpecError, match="sample 40 is a int"):  # as the user counts
        read(part, 0, batches=((1,),))


def test_nan_in_a_sample_is_seen():
    for fault in (lambda: (torch.full((8,), torch.nan), 0), lambda: (torch.tensor([torch.inf] * 8), 0)):
        assert [unsound for *_, unsound in read(Faulty(fault), 0)] == [-1, 40]


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


class Deep(nn.Sequential):
    def forward(self, x):
        assert x.dtype == torch.float32 and x.max() == 1.0, "pixels of 16 bits from 0 to 1"
        return super().forward(x)


def test_pictures_of_16_bits_are_scaled_as_those_of_arrays_are():
    deep = Faulty(None, bad=-1)
    deep.sample = torch.full((1, 2, 2), 65535, dtype=torch.int32).to(torch.uint16)
    run = lab.launch(lab.Spec(epochs=1, strategy="single"), model=Deep(nn.Flatten(), nn.Linear(4, 4)), data=deep)
    assert run.wait(60) == "done", run.failure


class Filling(nn.Linear):
    """Takes samples with NaN; diverges in its third epoch by another's fault."""

    steps = 0

    def forward(self, x):
        self.steps += self.training
        return super().forward(x.nan_to_num()) * (torch.nan if self.steps > 2 * 64 // 16 + 1 else 1.0)


def test_a_sample_with_nan_that_a_model_takes_is_not_blamed_for_what_comes_later():
    sick = Faulty(lambda: (torch.full((8,), torch.nan), 0))
    spec = lab.Spec(epochs=4, batch_size=16, strategy="single")
    run = lab.launch(spec, model=lambda: Filling(8, 4), data=(sick, sick, sick))
    assert run.wait(60) == "failed" and run.failure.message.startswith("the loss became NaN or infinite at step 1")
    assert run.remedy


@needs_cores
@pytest.mark.parametrize(
    ("fault", "kind", "said", "line"),
    [
        (raises, "Broken", "sample 40 is torn", 'raise Broken(40, "torn")'),
        pytest.param(
            *(stands, "Stuck", "the data gave no batch for 5 s (timeout=5)", "time.sleep(3600)"), marks=pytest.mark.slow
        ),
        (dies, "LoadError", "a process that loads the data ended unasked (out of memory, killed", None),
        (lambda: os._exit(3), "LoadError", "a process that loads the data ended unasked", None),
    ],
)
def test_a_run_whose_loading_process_fails_ends_and_says_where(fault, kind, said, line):
    run = lab.launch(lab.Spec(epochs=1, batch_size=16, timeout=5), model=lambda: nn.Linear(8, 4), data=Faulty(fault))
    assert run.wait(60) == "failed"
    assert run.failure.type == kind and run.failure.message.startswith(said)
    if line:
        number = 1 + Path(__file__).read_text().splitlines().index(f"    {line}")
        assert run.failure.where == f"{__file__}, line {number}"


def test_a_loading_process_that_ends_while_the_rank_computes_is_said_too():
    torchs = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")  # from its handler of the signal
    fault = Fault.of(torchs)
    assert fault.type == "LoadError" and fault.message.startswith("a process that loads the data ended unasked")


@pytest.mark.parametrize("bad", ["train", "val"])
def test_nan_in_a_sample_of_a_dataset_is_named(bad):
    sick = Faulty(lambda: (torch.full((8,), torch.nan), 0))
    well = Faulty(lambda: (torch.ones(8), 0))
    data = (sick, well, well) if bad == "train" else (well, sick, well)
    run = lab.launch(lab.Spec(epochs=2, batch_size=16), model=lambda: nn.Linear(8, 4), data=data)
    if bad == "train":
        assert run.wait(60) == "failed" and not run.remedy
        assert run.failure.message == "the loss is NaN or infinite, since sample 40 of the training data holds such"
    else:
        assert run.wait(60) == "done"
        assert run.remark == "the loss of the val set is NaN or infinite: sample 40 of its data holds such"


class Drawing(Faulty):
    """Samples with noise, which is that of an epoch, and the process that made each."""

    epoch = -1

    def __init__(self):
        super().__init__(None, bad=-1)

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, i):
        return {"x": torch.randn(2), "seen": torch.tensor([i, self.epoch, os.getpid()])}


class Together(Drawing):
    """The same by one call, which draws only where it is to."""

    calls, noise = 0, 0.0

    def __getitems__(self, indices):
        Together.calls += 1
        rows = torch.randn(len(indices), 2) if self.noise else torch.zeros(len(indices), 2)
        return [{"x": row, "seen": torch.tensor([i, self.epoch, 0])} for row, i in zip(rows, indices, strict=True)]


BATCHES = [list(range(begin, min(begin + 5, 64))) for begin in range(0, 64, 5)]


def epochs(loader):
    """The batches of two epochs."""
    return [batch for epoch in range(2) for batch, _ in loader.read(BATCHES, 7 + epoch, epoch)]


def test_any_number_of_processes_gives_the_same_and_they_stay_from_epoch_to_epoch(monkeypatch):
    drawn = []
    for workers, prefetch, slot in ((0, 0, SLOT), (1, 0, SLOT), (2, 3, SLOT), (1, 0, 64), (1, 300_000, SLOT)):
        monkeypatch.setattr("lepton_lab.engine.packing.SLOT", slot)  # of the last two batches have their own memory
        loader = Loader(Subset(Drawing(), range(64)), workers, 30.0, collate=lab.Pad(), prefetch=prefetch)
        state = torch.get_rng_state()
        found = epochs(loader)
        loader.close()
        assert torch.equal(torch.get_rng_state(), state)
        seen = torch.cat([batch["seen"] for batch in found])
        assert seen[:, 0].tolist() == [*range(64)] * 2 and seen[:, 1].tolist() == [0] * 64 + [1] * 64
        makers = set(seen[:64, 2].tolist())
        assert makers == set(seen[64:, 2].tolist()) and len(makers) == max(workers, 1)
        drawn.append(torch.cat([batch["x"] for batch in found]))
    assert all(torch.equal(noise, drawn[0]) for noise in drawn) and not torch.equal(drawn[0][:64], drawn[0][64:])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_evaluation_has_an_epoch_of_its_own_and_training_goes_on_in_its(workers):
    whole = Drawing()
    train, val = (Loader(Subset(whole, range(64)), workers, 30.0, collate=lab.Pad(), prefetch=1) for _ in range(2))
    for epoch in (1, 2):
        batches = train.read(BATCHES, 7, epoch)
        seen = [next(batches)]
        evaluated = list(val.read(BATCHES, 7))
        for found, told in (([*seen, *batches], epoch), (evaluated, 0)):
            assert {row[1].item() for batch, _ in found for row in batch["seen"]} == {told}
    train.close(), val.close()


class Counting(Drawing):
    """The same, which tells any process how many samples of each epoch were read."""

    def __init__(self):
        self.read = torch.zeros(8, dtype=torch.int64).share_memory_()

    def __getitem__(self, index):
        self.read[self.epoch] += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2, 13])
def test_a_pass_that_is_read_ahead_has_the_batches_of_one_by_itself(workers, count):
    def passed(epoch):
        return Pass(BATCHES[:count], 7 + epoch, epoch, lambda: begun.setdefault(epoch + 1, passed(epoch + 1)))

    data, begun = Counting(), {}
    loader = Loader(data, workers, 30.0, collate=lab.Pad(), prefetch=1)
    begun[0] = passed(0)
    for epoch in (0, 1, 2, 4, 5):  # the third is broken off, and another one follows than what was read ahead
        found = loader.through(begun.get(epoch) or passed(epoch))
        found = [next(found)] if epoch == 2 else list(found)
        alone = Loader(Drawing(), 0, 30.0, collate=lab.Pad()).read(BATCHES[: len(found)], 7 + epoch, epoch)
        for (batch, _), (other, _) in zip(found, alone, strict=True):
            assert batch["x"].equal(other["x"]) and batch["seen"][:, :2].equal(other["seen"][:, :2])
        if epoch in (0, 1, 4):
            assert until(lambda at=epoch + 1: data.read[at] > 0) if workers else not data.read[epoch + 1]
        if epoch == 2:
            begun.clear()
    loader.close()


class Flowing(IterableDataset):
    """Samples with noise, one after the other, and the process that made each."""

    def __iter__(self):
        for i in range(64):
            yield {"x": torch.randn(2), "seen": torch.tensor([i, 0, os.getpid()])}


class Slow(Drawing):
    """Takes longer to read than to hand over."""

    def __getitem__(self, i):
        time.sleep(0.001)
        return super().__getitem__(i)


@pytest.mark.parametrize("made", [Drawing, lambda: Stream(Flowing(), 64)])
@pytest.mark.parametrize("judged", [1, 2, 7, 13, 14, 20])
def test_what_costs_little_to_read_is_read_in_the_rank_after_its_first_batches(made, judged, monkeypatch):
    def passed(epoch):
        return Pass(BATCHES, 7 + epoch, epoch, lambda: begun.setdefault(epoch + 1, passed(epoch + 1)))

    for name, value in {"HANDED": 60.0, "OPENED": 60.0, "JUDGED": judged}.items():
        monkeypatch.setattr(f"lepton_lab.engine.loading.{name}", value)
    loader, begun, makers = Loader(made(), 1, 30.0, collate=lab.Pad(), chooses=True), {}, []
    for epoch in (0, 1, 2, 4, 5):  # the second is broken off
        found = loader.through(begun.get(epoch) or passed(epoch))
        found = [next(found), next(found)] if epoch == 1 else list(found)
        if epoch == 1:
            begun.clear()
        assert len(found) == (2 if epoch == 1 else len(BATCHES))
        alone = list(Loader(made(), 0, 30.0, collate=lab.Pad()).read(BATCHES[: len(found)], 7 + epoch, epoch))
        for (batch, _), (other, _) in zip(found, alone, strict=True):
            assert batch["x"].equal(other["x"]) and batch["seen"][:, :2].equal(other["seen"][:, :2])
            makers += batch["seen"][:, 2].tolist()
    assert makers[0] != os.getpid() == makers[-1] and makers == sorted(makers, key=os.getpid().__eq__)
    assert not loader.workers and loader._loader is None
    loader.close()


@pytest.mark.parametrize(("made", "opened"), [(Slow, 60.0), (Drawing, 0.0)])
def test_what_takes_long_to_read_or_to_begin_is_read_by_processes_to_the_end(made, opened, monkeypatch):
    monkeypatch.setattr("lepton_lab.engine.loading.JUDGED", 2)
    monkeypatch.setattr("lepton_lab.engine.loading.OPENED", opened)
    loader = Loader(made(), 1, 30.0, collate=lab.Pad(), chooses=True)
    found = [batch for epoch in range(2) for batch, _ in loader.read(BATCHES, 7, epoch)]
    assert os.getpid() not in torch.cat([batch["seen"] for batch in found])[:, 2]
    loader.close()


class Wordless(Exception):
    def __str__(self):
        raise ValueError


def test_an_error_of_the_rank_itself_is_not_taken_for_a_process_that_ended():
    assert Fault.of(Wordless()).message == "its __str__ raised ValueError"
    loader = Loader(Faulty(None, bad=-1), 1, 30.0)
    batches = loader.read([[0], [1], [2]], 7)
    next(batches)
    fault = lost(RuntimeError("no pin"), loader._notes, 30.0)
    loader.close()
    assert (fault.type, fault.message) == ("RuntimeError", "no pin")


def test_samples_are_asked_for_together_where_that_draws_nothing():
    whole, _ = next(Loader(Drawing(), 0, 30.0, collate=lab.Pad()).read([[3, 4]], 7))
    for noise, calls in ((0.0, len(BATCHES)), (1.0, 1)):
        Together.calls, Together.noise = 0, noise
        loader = Loader(Together(), 0, 30.0, collate=lab.Pad(), prefetch=1)
        found = [batch for batch, _ in loader.read(BATCHES, 7)]
        assert Together.calls == calls
    assert torch.equal(found[0]["x"][3:5], whole["x"])  # by index, whatever it came with


class Seldom(Drawing):
    """Draws for a few of its samples alone."""

    def __getitem__(self, i):
        return super().__getitem__(i) if i % 9 == 7 else {"x": torch.zeros(2), "seen": torch.zeros(3, dtype=torch.long)}


def test_what_few_samples_draw_is_theirs_alone_too():
    always, seldom = (
        torch.cat([batch["x"] for batch, _ in Loader(data, 0, 30.0, collate=lab.Pad()).read(BATCHES, 7)])
        for data in (Drawing(), Seldom())
    )
    drawn = torch.arange(64) % 9 == 7
    assert torch.equal(seldom[drawn], always[drawn]) and not seldom[~drawn].any()


def test_a_batch_that_no_other_process_can_read_is_refused_in_a_sentence():
    loader = Loader(Faulty(None, bad=-1), 1, 30.0, collate=lambda rows: {"x": torch.ones(2), "by": lambda: rows})
    with pytest.raises(LoadError, match=r"can't hand over a batch that collate made .*lambda.* workers=0"):
        list(loader.read([[0, 1]], 7))


def of_layouts(rows):
    dense = torch.stack([x for x, _ in rows])
    nested = torch.nested.nested_tensor([x for x, _ in rows], layout=torch.jagged)
    return {"coo": dense.to_sparse(), "csr": dense.to_sparse_csr(), "nested": nested}


@pytest.mark.filterwarnings("ignore:Sparse")  # torch's, of what is new in it
@pytest.mark.parametrize("workers", [0, 1])
def test_sparse_and_nested_tensors_arrive_as_they_are(workers):
    sick = Faulty(lambda: (torch.full((8,), torch.nan), 0), bad=2)
    loader = Loader(sick, workers, 30.0, collate=of_layouts)
    (batch, unsound), (nan, bad) = loader.read([[0, 1], [2, 3]], 7)
    loader.close()
    assert [leaf.layout for leaf in batch.values()] == [torch.sparse_coo, torch.sparse_csr, torch.jagged]
    assert torch.equal(batch["coo"].to_dense(), torch.ones(2, 8)) and torch.equal(batch["nested"][1], torch.ones(8))
    assert (unsound, bad) == (-1, 2) and all(held(leaf).isnan().any() for leaf in nan.values())


def test_tensors_of_a_batch_can_be_changed_in_place_each_by_itself():
    loader = Loader(Drawing(), 1, 30.0, collate=lab.Pad())
    (first, _), (second, _) = list(loader.read(BATCHES[:2], 7))
    loader.close()
    weight = torch.ones(2, requires_grad=True)
    loss = (first["x"] * weight).sum()
    for other in (first["seen"], second["x"]):  # one in the same memory
        other.mul_(0)
    loss.backward()
    assert torch.equal(weight.grad, first["x"].sum(0)) and first["x"].abs().sum() > 0


class Drowsy(Faulty):
    """Small samples that come at once, until they take long, if no longer than may be."""

    def __len__(self):
        return 400

    def __getitem__(self, i):
        time.sleep(0.15 * (384 <= i < 400))
        return self.sample, 0


def test_a_process_may_take_the_time_for_each_of_the_batches_that_it_reads_together():
    loader = Loader(Drowsy(None), 1, 1.5)
    found = list(loader.read([[i] for i in range(400)], 7))
    assert len(found) == 400 and loader._passes == 1
    loader.close()


def test_the_sample_that_an_error_came_from_is_named():
    for workers in (0, 1):
        part = Subset(Faulty(raises), range(30, 64))
        with pytest.raises((LoadError, Broken)) as error:
            read(part, workers, batches=((0, 1), (9, 10)))
        assert Fault.of(error.value).message == "sample 40 is torn (while reading sample 40)"
    with pytest.raises(SpecError, match="sample 40 can't be read, since what it is read from has ended"):
        read(Faulty(lambda: next(iter(()))), 0)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_numbers_of_8_bits_are_looked_at_too(kind):
    nest = Loader(
        [{"x": torch.tensor([1.0, value]).to(kind)} for value in (1.0, 2.0, torch.nan)], 0, 30.0, collate=lab.Pad()
    )
    assert [unsound for _, unsound in nest.read([[0, 1], [1, 2]], 7)] == [-1, 2]


class Asking(IterableDataset):
    """Reads otherwise where it knows of a process that loads."""

    def __iter__(self):
        yield from [(torch.ones(1), int(get_worker_info() is None))] * 3


def test_a_stream_is_read_alike_in_a_rank_and_in_a_process_of_its_own():
    for workers in (0, 1):
        ((_, y), _), *_ = read(Stream(Asking(), 3), workers, batches=((0, 1, 2),))
        assert y.tolist() == [1, 1, 1]
