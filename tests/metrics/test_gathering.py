"""What is gathered of samples is the same whatever the ranks: in their order, and thinned where there is too much."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_lab.engine import gathering
from lepton_lab.engine.gathering import Gathering


class Peer:
    """A rank in a thread: what its strategy's total gives."""

    device = torch.device("cpu")

    def __init__(self, values, barrier):
        self.values, self.barrier = values, barrier

    def total(self, values):
        self.values.append(values)
        self.barrier.wait(5)
        whole = sum(self.values[-self.barrier.parties :])
        self.barrier.wait(5)
        return whole


def rows(sample, count):
    """Rows of two numbers that tell whose they are, and in which order."""
    return torch.full((count, 2), float(sample)) + torch.arange(count)[:, None] / 8


def gathered(counts, world, batch):
    """Rows of samples, `counts` of each, as `world` ranks put them together; and one of how many is kept."""
    values, barrier, found = [], threading.Barrier(world), {}

    def work(rank):
        own = Gathering(Peer(values, barrier), len(counts), gathering.MOST)
        for part in torch.arange(len(counts)).split(batch):
            mine = part[rank * len(part) // world : (rank + 1) * len(part) // world]
            own.add(mine, [rows(i, counts[i]) for i in (mine if len(mine) else part[:1]).tolist()])
        found[rank] = own.whole(), own.stride

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(torch.equal(found[rank][0], found[0][0]) and found[rank][1] == found[0][1] for rank in range(world))
    return found[0]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=17), st.integers(1, 6), st.sampled_from([6, 40, 10_000]))
def test_rows_of_all_ranks_are_in_the_order_of_samples(counts, batch, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "MOST", most)
        (one, stride), *others = (gathered(counts, world, batch) for world in (1, 2, 3))
        expected = [i + j / 8 for i, n in enumerate(counts) if i % stride == 0 for j in range(n)]
        assert one[:, 0].tolist() == expected and (one.numel() <= most or stride >= len(counts))
        assert stride == 1 or 2 * sum(n for i, n in enumerate(counts) if i % (stride // 2) == 0) > most
        assert all(torch.equal(found, one) and other == stride for found, other in others)
