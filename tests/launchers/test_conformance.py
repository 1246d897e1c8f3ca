"""Every launcher keeps the contract."""

from __future__ import annotations

import json

import pytest

import lepton_lab as lab
from lepton_lab.launchers import LAUNCHERS, of
from lepton_lab.launchers.supervision import Supervision

PLACES = {
    "local": lambda: "local",
    "torchrun": lambda: lab.Torchrun(nodes="1:2", hosts=["localhost", "localhost"]),
}
"""A place of each launcher for two ranks on this machine, as `on=` takes it."""


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_is_known_by_its_facts_and_has_every_hook(name):
    kind = LAUNCHERS[name]
    assert kind.name == name
    place = PLACES[name]()
    launcher = kind() if place == name else place
    again = of({"launcher": json.loads(json.dumps(launcher.facts))})
    assert type(again) is kind and again.facts == launcher.facts
    supervision = kind.supervision()
    for hook in ("start", "state", "signal", "collect"):
        assert getattr(supervision, hook) is not getattr(Supervision, hook), hook
