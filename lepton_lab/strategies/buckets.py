"""Buckets of gradients that are the same in each step of each process."""

from __future__ import annotations

from typing import Any

from torch.nn.parallel import DistributedDataParallel


class Settled(DistributedDataParallel):
    """
    torch's DDP with buckets that hold the last parameters first, from the first step on.

    torch itself puts them together anew after the first step of a process, in the order in which gradients came. In
    what order three ranks or more are summed depends on the place in a bucket, so that the first step of a resumed run
    would be rounded differently.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reducer._push_all_rebuilt_params()  # as if gradients had come in that order
        self.reducer._rebuild_buckets()

    def _build_params_for_reducer(self) -> tuple[list[Any], list[Any]]:
        parameters, sparse = super()._build_params_for_reducer()
        return parameters[::-1], sparse[::-1]
