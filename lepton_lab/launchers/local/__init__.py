"""The supervisor: a process in a session of its own that owns one run's ranks, and how to reach one."""

from __future__ import annotations

from ...store.control import send as signal
from .client import collect, start, state, warm

__all__ = ["collect", "signal", "start", "state", "warm"]
