"""The supervisor: a process in a session of its own that owns one run's ranks, and how to reach one."""

from __future__ import annotations

from .client import reap, submit, warm

__all__ = ["reap", "submit", "warm"]
