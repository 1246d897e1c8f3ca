"""Streams: read forwards, and by shards where they deal themselves; each sample once, in one order for any world."""

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import IterableDataset

import lepton_lab as lab
from lepton_lab.datasets import Stream, from_user
from lepton_lab.datasets.streams import SHARDS, streamed
from lepton_lab.engine.feed import Feed
from lepton_lab.strategies.base import Single
from lepton_lab.strategies.group import Group
from lepton_lab.tasks import make


class Shards(IterableDataset):
    """Files with so many samples, which draw random numbers; each notes that it was opened."""

    def __init__(self, sizes, own=None, epoch=0):
        self.sizes, self.own, self.epoch = sizes, range(len(sizes)) if own is None else own, epoch
        self.opened = []

    @property
    def num_shards(self):
        return len(self.sizes)

    def shard(self, num_shards, index, contiguous=True):
        part = Shards(self.sizes, range(index, len(self.sizes), num_shards))
        part.opened = self.opened
        return part

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        for file in self.own:
            self.opened.append(file)
            for line in range(self.sizes[file]):
                yield {"seen": torch.tensor([file, line, self.epoch]), "x": torch.rand(1)}


class Part(Single):
    """A rank of several, whose batches are cut as those of any group are."""

    shard = Group.shard


def fed(dataset, part, parts, batch=4):
    """The batches that one of several ranks is fed with."""
    data = from_user((dataset, dataset, dataset), 0)
    spec = lab.Spec(batch_size=batch, workers=0)
    strategy = Part(spec)
    strategy.start(0, 1, Path(), torch.device("cpu"))
    strategy.part, strategy.parts = part, parts
    return Feed(data.train, data, spec, strategy, make(spec, data, loss=lambda outputs, batch: outputs))


def seen(feed, epoch=0, skip=0):
    """Of each step what was seen, and the random number of each; nothing of samples that are borrowed."""
    steps = []
    for batches, _ in feed.epoch(epoch, skip):
        found = [batch for batch in batches if batch.share]
        steps.append([(*row.tolist(), float(x)) for b in found for row, x in zip(b.y["seen"], b.y["x"], strict=True)])
    return steps


@given(
    st.sampled_from([(1, 2), (2, 2), (1, 3), (2, 4), (4, 4)]).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), st.lists(st.integers(1, 9), min_size=pair[1], max_size=pair[1]))
    ),
    st.integers(1, 7),
    st.data(),
)
def test_each_sample_comes_once_and_in_the_same_step_whatever_the_ranks(pair, batch, draw):
    parts, sizes = pair
    whole = seen(fed(Shards(sizes), 0, 1, batch), epoch=3)
    feeds = [fed(Shards(sizes), part, parts, batch) for part in range(parts)]
    dealt = [seen(feed, epoch=3) for feed in feeds]
    assert sorted(row[:3] for step in whole for row in step) == [
        (f, i, 3) for f, n in enumerate(sizes) for i in range(n)
    ]
    for step, own in zip(whole, zip(*dealt, strict=True), strict=True):
        assert sorted(row for rank in own for row in rank) == sorted(step)
    for part, feed in enumerate(feeds):
        assert {row[0] % parts for step in dealt[part] for row in step} <= {part}
        skip = draw.draw(st.integers(0, feed.steps))
        feed.dataset.dataset.opened.clear()
        assert seen(feed, epoch=3, skip=skip) == dealt[part][skip:]
        assert {file % parts for file in feed.dataset.dataset.opened} <= {part}  # it reads nothing of the others'


def test_what_an_evaluation_sees_of_shards_has_its_place():
    sizes = [3, 5]
    feeds = [fed(Shards(sizes), part, 2) for part in range(2)]
    order = [row[:2] for step in seen(fed(Shards(sizes), 0, 1)) for row in step]
    for part, feed in enumerate(feeds):
        feed.eval_batch = 3
        found = {}
        for places, batch in zip(feed.places(), feed.whole(), strict=True):
            rows = batch.y["seen"][: len(places)]  # none of one that is borrowed
            found |= {order[place]: tuple(row.tolist()) for place, row in zip(places.tolist(), rows, strict=True)}
        assert found == {(part, line): (part, line, 0) for line in range(sizes[part])}


@pytest.mark.parametrize(
    ("sizes", "parts", "why"),
    [([2, 2, 2], 2, "its 3 shards can't be dealt evenly to 2 ranks"), ([4, 0], 2, "one of its shards is empty")],
)
def test_shards_that_cannot_be_dealt_are_read_by_every_rank(sizes, parts, why):
    feeds = [fed(Shards(sizes), part, parts, 2) for part in range(parts)]
    rows = [row[:2] for feed in feeds for step in seen(feed) for row in step]
    assert sorted(rows) == [(file, line) for file, size in enumerate(sizes) for line in range(size)]
    assert all(feed.undealt == why for feed in feeds) and not fed(Shards(sizes), 0, 1).undealt


class Long(Shards):
    """Says how long it is, and each shard says that of the whole."""

    def __len__(self):
        return sum(self.sizes)


def test_how_many_samples_a_shard_has_is_said_or_counted():
    assert streamed(Shards([2, 3]), "train").shards == (2, 3)
    said = streamed(Long([2, 3]), "train")
    assert len(said) == 5 and said.undealt == "its shards don't say by len() how many samples they have"
    Long.shard = lambda self, num_shards, index: Long(self.sizes[index::num_shards])
    assert streamed(Long([2, 3]), "train").shards == (2, 3)
    Long.shard = lambda self, num_shards, index: self
    assert streamed(Long([2, 3]), "train").undealt == "its shards have 10 samples by their len(), and it has 5"
    assert len(streamed(Shards([1] * 100), "train").shards) == SHARDS


def test_an_older_version_s_stream_can_be_read():
    old = Stream.__new__(Stream)
    old.__setstate__({"dataset": Shards([3]), "_count": 3, "_at": 0, "_source": None, "_states": None})
    assert [int(old[i]["seen"][1]) for i in (0, 1, 2, 2, 0)] == [0, 1, 2, 2, 0]
    assert len(pickle.loads(pickle.dumps(streamed(Shards([2, 2]), "train")))) == 4


def test_an_error_in_a_stream_names_its_sample():
    class Torn(IterableDataset):
        def __iter__(self):
            yield from range(3)
            raise ValueError("torn")

    with pytest.raises(ValueError, match="torn") as error:
        Stream(Torn(), 5).read([[0, 1], [2, 3]])
    assert error.value.__notes__ == ["while reading sample 3 of the stream"]


def test_a_stream_that_asks_which_rank_it_is_in_is_told_how_to_deal_itself(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(
        lab.SpecError, match=r"ended after 3 samples, .* to each rank: one that deals itself has num_shar"
    ):
        Stream(Shards([3]), 6).read([[0, 1, 2], [3, 4, 5]])
