"""
What a node's fork server imports, to end with the node: its ranks, which end with it, would outlive both.

By itself it ends once nobody holds a pipe that the ranks hold, too (`multiprocessing.forkserver`).
"""

from __future__ import annotations

from ...host import die_with_parent

die_with_parent()
