"""Leases of devices under any order of asking, giving back and dying: real processes beside a model of the rules."""

import os
import signal
import tempfile
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
from helpers import gone, until
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from lepton_lab.launchers.local.leases import Queue, holders

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 on, in what has threads
SLOTS = ["cpu0", "cpu1", "cpu2"]


def supervise(place, since, count, orders):
    """A process that holds a place in the queue and does what it is told."""
    queue = Queue("cpu", str(place), since)
    orders.send(queue._ticket.name)
    while (order := orders.recv()) != "end":
        if order == "acquire":
            orders.send(queue.acquire(SLOTS, count))
        elif order == "rank":
            out, into = os.pipe()
            rank = os.fork()
            if rank == 0:  # holds what its supervisor held, until it is killed
                os.close(into)
                os.read(out, 1)
                signal.pause()
            os.close(out)
            orders.send(rank)
    queue.release()
    orders.send("ended")


class Holder:
    """A supervisor's process, and what the rules say of it: a ticket until it has all its slots."""

    def __init__(self, place, since, count):
        self.count, self.held, self.waits, self.ranks = count, set(), True, []
        self.orders, theirs = get_context("fork").Pipe()
        self.process = get_context("fork").Process(target=supervise, args=(place, since, count, theirs), daemon=True)
        self.process.start()
        self.ticket = self.ask()

    def ask(self, order=""):
        if order:
            self.orders.send(order)
        assert self.orders.poll(30), "no answer"
        return self.orders.recv()

    def end(self, kill):
        if kill:
            self.process.kill()
        else:
            assert self.ask("end") == "ended"
        self.process.join()
        self.orders.close()


class Leases(RuleBasedStateMachine):
    """The oldest ticket that lives takes slots as they come free; a slot is free once all that hold it are dead."""

    living = Bundle("living")
    ranks = Bundle("ranks")

    def __init__(self):
        super().__init__()
        self.place = Path(tempfile.mkdtemp(dir=os.environ["XDG_RUNTIME_DIR"]))
        self.holders, self.left = [], {}  # left: slots that ranks of a dead supervisor hold, by rank

    @rule(target=living, since=st.integers(1, 9), count=st.integers(1, 3))
    def ask(self, since, count):
        """A new ticket, which may be older than those that wait."""
        self.holders.append(Holder(self.place, since, count))
        return self.holders[-1]

    @rule(holder=living)
    def acquire(self, holder):
        if not holder.waits:
            return
        taken = {slot for other in self.holders if other is not holder for slot in other.held}
        taken |= {slot for slots in self.left.values() for slot in slots}
        if any(other.waits and other.ticket < holder.ticket for other in self.holders):
            holder.held = set()
        else:
            free = [slot for slot in SLOTS if slot not in taken | holder.held]
            holder.held |= set(free[: holder.count - len(holder.held)])
            holder.waits = len(holder.held) < holder.count
        assert holder.ask("acquire") == (None if holder.waits else sorted(holder.held))

    @rule(target=ranks, holder=living)
    def fork(self, holder):
        if holder.waits:
            return None
        rank = holder.ask("rank")
        holder.ranks.append(rank)
        return rank

    @rule(holder=consumes(living), kill=st.booleans())
    def end(self, holder, kill):
        """A supervisor ends by itself, or is killed; its ranks live on."""
        holder.end(kill)
        self.holders.remove(holder)
        self.left |= {rank: holder.held for rank in holder.ranks}

    @rule(rank=consumes(ranks))
    def end_rank(self, rank):
        if rank:
            self._kill(rank)

    def _kill(self, rank):
        process = psutil.Process(rank)
        process.kill()
        until(lambda: gone([process]))
        self.left.pop(rank, None)
        for holder in self.holders:
            holder.ranks = [other for other in holder.ranks if other != rank]

    @invariant()
    def the_files_tell_who_holds_what(self):
        told = {label["pid"] for label in holders(self.place / "cpu")}
        assert told == {holder.process.pid for holder in self.holders if holder.held}

    def teardown(self):
        for holder in self.holders:
            for rank in holder.ranks:
                self.left[rank] = holder.held
            holder.end(kill=True)
        for rank in list(self.left):
            self._kill(rank)


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)


def test_an_older_ticket_that_comes_late_gets_what_a_younger_one_held_while_it_waited(home):
    holders = [Holder(home, since, count) for since, count in ((5, 2), (6, 2))]
    assert [holder.ask("acquire") for holder in holders] == [["cpu0", "cpu1"], None]  # the second has cpu2
    holders.append(Holder(home, 4, 1))
    assert [holder.ask("acquire") for holder in holders[1:]] == [None, ["cpu2"]]
    for holder in holders:
        holder.end(kill=False)
