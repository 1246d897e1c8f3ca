"""torch's elastic agent of a node: it meets with those of the others, and starts ranks anew when nodes come or go."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from torch.distributed import DistError
from torch.distributed.elastic.agent.server import WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsDest, SignalException
from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousError
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, RendezvousTimeout

from . import worker
from .plan import JOIN, Plan

LAST_CALL = 3  # seconds that others have to come once the least number is there
ANSWER = 10  # seconds that one who has met with others waits for what they say; it gives no sign of life meanwhile
SIGNS = 4  # seconds without a sign of life after which others go on without one; it gives one each second or two
AGAIN = 1.0  # seconds until those who met in vain meet again
RESTARTS = 1000  # each loss of another node takes one


class Meeting(DynamicRendezvousHandler):
    """torch's; but agents whose signs of life came late, of which nothing tells them, come where others meet."""

    def num_nodes_waiting(self) -> int:
        """How many nodes those at work should begin again for."""
        waiting, state = super().num_nodes_waiting(), self._state_holder.state
        if state.complete or self._this_node in state.participants:
            return waiting
        return waiting or len(state.participants)


class NoLogs(DefaultLogsSpecs):
    """None, since ranks have logs of their own; by default folders stay in /tmp."""

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """No files to be followed, either: the threads for them outlive a start that a signal broke off."""
        return replace(super().reify(envs), tee_stdouts={}, tee_stderrs={})


def make(plan: Plan, address: str, turn: str, place: str) -> LocalElasticAgent:
    """
    The agent of a node, ready to run.

    Parameters
    ----------
    address
        Of this machine, by which the others reach it.
    turn
        As of `node.main`.
    place
        What ranks are given, as `worker.main` takes it.
    """
    # Or a node that comes back waits for an address that nobody tells (torch 2.13).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    name = plan.life + turn
    store = plan.connect()
    store.set_timeout(timedelta(seconds=ANSWER))
    meeting = Meeting.from_backend(
        name,
        store,
        C10dRendezvousBackend(store, name),
        plan.least,
        plan.most,
        address,
        RendezvousTimeout(join=timedelta(seconds=JOIN), last_call=timedelta(seconds=LAST_CALL)),
        keep_alive_interval=1,
        keep_alive_max_attempt=SIGNS,
    )
    spec = WorkerSpec(
        role="default",
        local_world_size=plan.ranks,
        entrypoint=worker.main,
        args=(place,),
        rdzv_handler=meeting,
        max_restarts=RESTARTS,
        monitor_interval=0.1,
        local_addr=address,
    )
    return LocalElasticAgent(spec, logs_specs=NoLogs(os.devnull), start_method="forkserver")


def run(agent: LocalElasticAgent, over: Callable[[], bool]) -> int:
    """
    Run an agent to its end; returns what the process is to exit with.

    One that waits for what another says fails where that one has just ended. torch's launcher would then end it, and
    close the meeting for all of them and for ever (torch 2.13); here they meet again.

    Parameters
    ----------
    over
        Whether it was the coordinator that had it end.
    """
    try:
        while True:
            try:
                result = agent.run()
                agent.get_worker_group().spec.rdzv_handler.shutdown()  # who comes later finds that all is done
                return int(result is not None and result.is_failed())  # None where it was one too many
            except RendezvousClosedError:
                print("the other nodes have ended, and this one can't take part alone", file=sys.stderr, flush=True)
                return 0 if over() else 1
            except (DistError, RendezvousError) as error:
                print(f"the nodes have met in vain, and meet again: {error!r}", file=sys.stderr, flush=True)
                time.sleep(AGAIN)
    except SignalException:
        return 0 if over() else 1
