"""What a step takes over many ranks: compute, network, bubbles, stragglers and failures; see docs/worlds.md."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from ...errors import SpecError
from ...strategies.work import Cost

OVERLAP = 0.5  # of computing, what sending can hide behind: most of the backward pass, which is two thirds of it
SPREAD = 0.03  # standard deviation of a rank's time for a step, relative to it
LIFE = 50_000 * 3600.0  # seconds from failure to failure of one rank: 419 in 54 days on 16,384 (arXiv:2407.21783)
RESTART = 60.0  # seconds until a failure is noticed, and ranks have begun again
LATENCY = 50e-6  # seconds of a message over Ethernet, where none is given

PREFIXES = {"": 1.0, "M": 1e6, "G": 1e9, "T": 1e12}
UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3}
LINK = re.compile(r"(\d+(?:\.\d+)?) ?([MGT])b(?:it)?(?:/s|ps)?(?:,? (\d+(?:\.\d+)?) ?(us|µs|ms))?")


@dataclass(frozen=True)
class Network:
    """The link of each rank to the others; all are alike."""

    bandwidth: float
    """Bytes a second, in each direction."""
    latency: float
    """Seconds of a message without content."""

    @classmethod
    def of(cls, text: Any) -> Network:
        """As people write it: "10 Gb" or "400 Gb, 5 us"; bits, as makers of networks count."""
        match = LINK.fullmatch(text.strip()) if isinstance(text, str) else None
        if not match or not float(match[1]):
            raise SpecError(
                f"network={text!r}: must be the bandwidth of each rank's link in bits a second, with its latency if "
                "that is known, such as '10 Gb' or '400 Gb, 5 us'"
            )
        latency = float(match[3]) * UNITS[match[4]] if match[3] else LATENCY
        return cls(float(match[1]) * PREFIXES[match[2]] / 8, latency)


@dataclass(frozen=True)
class Forecast:
    """Where the time of a step goes, in seconds, on average over steps."""

    compute: float
    """As long as one process takes for as many samples."""
    bubble: float
    """Waiting because of how the work is split."""
    network: float
    """Sending that nothing is computed behind."""
    stragglers: float
    """Waiting for the rank that is slowest by chance."""
    lost: float
    """Checkpoints, and what failures cost, as a fraction of the time of all steps."""

    @property
    def seconds(self) -> float:
        """Of a step, where nothing fails and nothing is saved."""
        return self.compute + self.bubble + self.network + self.stragglers

    @property
    def efficiency(self) -> float:
        """Samples a second of each rank, relative to those of one process alone that never fails; from 0 to 1."""
        return self.compute / (self.seconds * (1 + self.lost))


def forecast(cost: Cost, world: int, compute: float, network: Network) -> Forecast:
    """
    What a step is predicted to take.

    Parameters
    ----------
    cost
        What the strategy says that a step costs over so many ranks.
    world
        Ranks.
    compute
        Seconds that one process takes for a rank's samples.
    network
        The link of each rank.
    """
    sending = cost.hops * network.latency + cost.sent / network.bandwidth
    hidden = min(sending, OVERLAP * compute) if cost.overlaps else 0.0
    return Forecast(
        compute=compute,
        bubble=compute * cost.idle / (1 - cost.idle),
        network=sending - hidden,
        # Where ranks meet every k steps, what they are late by adds up as sqrt(k), and k steps share it.
        stragglers=compute * SPREAD * slowest(world) / math.sqrt(cost.apart),
        lost=lost((cost.parameters + cost.optimizer) / network.bandwidth, world),
    )


def slowest(world: int) -> float:
    """
    Expected largest of so many draws, in standard deviations from the mean of a normal distribution.

    Blom's approximation (Statistical Estimates and Transformed Beta-Variables, 1958).
    """
    return NormalDist().inv_cdf((world - 0.375) / (world + 0.25))


def interval(save: float, world: int) -> float:
    """
    Seconds of training between two checkpoints that cost least, where one takes `save` seconds.

    Young, A first order approximation to the optimum checkpoint interval, CACM 17 (1974); Daly's of higher order
    (FGCS 22, 2006) is the same where saving is short beside the time between failures.
    """
    return math.sqrt(2 * save * LIFE / world)


def lost(save: float, world: int) -> float:
    """Time for checkpoints, steps done again and restarts, relative to that of steps, at Young's interval."""
    failures = world / LIFE  # a second
    again = interval(save, world) / 2 + RESTART
    return failures * again + (save / interval(save, world) if save else 0.0)
