"""A step of one process, rehearsed on tensors that have shapes but no memory: what it holds, and when."""

from __future__ import annotations

import copy
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ... import tasks
from ...batches import Batch, described, over, tensors
from ...datasets import Stream, length, rows
from ...engine.feed import Feed
from ...errors import SpecError, shown
from ...metrics import counted
from ...models import make
from ...spec import Spec, full_batch, step_samples
from ...strategies.base import Single
from ...strategies.modes import takes_channels_last
from ...strategies.work import BACKWARD, FORWARD, GRADIENT, KEPT, LOSS, PASSING, Amount, Event, Held, Workload
from ...switches import switched
from ...tables import pick, table

if TYPE_CHECKING:
    from ...datasets import Data
    from ...tasks import Task

FEW, MORE = 4, 8  # samples of two rehearsals, between which memory is taken to grow evenly
LOG = logging.getLogger("torch._subclasses.fake_tensor")  # it tells, in the latest cell, what can't be done on shapes
LARGEST = 2**30  # bytes of a model that is tried on real samples where it can't be rehearsed


class Unknown(SpecError):
    """A step can't be rehearsed on shapes alone; `size` is that of the model in bytes, 0 where none was made."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


def rehearse(spec: Spec, data: Data, model: Any = None, loss: Any = None, task: type[Task] | None = None) -> Workload:
    """
    What a step of one process holds: every operation with its shapes, but without its arithmetic.

    Of data only shape and type of a sample are looked at; `model` and `loss` are the user's own, as `launch` takes
    them. Raises Unknown where it can't be rehearsed on shapes alone, which does not say that it can't be done; and
    SpecError where a step of a few real samples can't be done either: then a run would fail in its first.
    """
    objective = tasks.make(spec, data, loss, task)
    nested = data.example is not None and not objective.steps() and not objective.prepares
    if not objective.plain and not nested:
        what = "batches" if data.example is None else f"batches, {described(data.example)},"
        raise Unknown(
            f"task={tasks.called(objective)!r}: its {what} can't be rehearsed on shapes alone; see run.costs() of a "
            "short run",
            0,
        )
    precision = "bf16" if spec.precision == "fp16" else spec.precision  # as large, and no scale to be read
    alone = spec.replace(precision=precision, compile=False, accumulate=1, device="cpu")
    if isinstance(model, nn.Module) and any(p.device.type != "cpu" for p in model.parameters()):
        model = copy.deepcopy(model).cpu()  # the kernel may have used it on a GPU
    try:
        strategy, few, more = _rehearse(alone, data, model, objective)
    except Unknown as unknown:
        if unknown.size <= LARGEST and (why := _failure(alone, data, model, objective)):
            raise SpecError(f"model={spec.model!r}: a step of a few samples fails: {why}") from unknown
        raise
    n = length(data.train)
    if full_batch(spec):  # all samples in a step, which Feed cuts by batch_size
        spec = spec.model_copy(update={"accumulate": -(-n // spec.batch_size)})
    return Workload(
        spec=spec,
        model=strategy.module,
        batch=step_samples(spec, n),
        held=_held(strategy),
        saved=_amounts(few.saved, more.saved),
        outputs=_amounts(few.outputs, more.outputs),
        events=_events(few.events, more.events),
    )


def _rehearse(spec: Spec, data: Data, model: Any, task: Task) -> tuple[Single, Usage, Usage]:
    """A process that is set up, and what steps of FEW and of MORE samples took, without any memory."""
    strategy = Rehearsed(spec)
    strategy.start(0, 1, Path(), torch.device("cpu"))
    real, count = _samples(data)
    size = 0
    try:
        with (
            switched(lambda: LOG.level, LOG.setLevel, logging.CRITICAL),
            FakeTensorMode(allow_non_fake_inputs=True),
            Watch() as watch,
        ):
            _set_up(strategy, data, model, task)
            size = sum(p.numel() * p.element_size() for p in strategy.module.parameters())

            def step(samples: int) -> Usage:
                part = _sized(real, count, samples)
                with watch.step(strategy.module) as usage:
                    _step(strategy, data, part, samples, task)
                return usage

            step(FEW)  # makes the optimizer's state
            return strategy, step(FEW), step(MORE)
    except SpecError:
        raise
    except Exception as error:  # of the user's code
        raise Unknown(
            f"model={spec.model!r}: a step of it can't be rehearsed on shapes alone ({_brief(error)}); see "
            "run.costs() of a short run",
            size,
        ) from error


def _failure(spec: Spec, data: Data, model: Any, task: Task) -> str:
    """What a step of a few real samples ends with, in words; "" if it is done."""
    strategy = Single(spec)
    strategy.start(0, 1, Path(), torch.device("cpu"))
    try:
        with torch.random.fork_rng(devices=[]):
            _set_up(strategy, data, model, task)
            _step(strategy, data, *_samples(data), task)
    except Exception as error:  # of the user's code
        return _brief(error)
    return ""


def _set_up(strategy: Single, data: Data, model: Any, task: Task) -> None:
    """Give a process its model and optimizer; the user's own module stays as it is."""
    spec = strategy.spec
    own = model
    if isinstance(model, nn.Module):
        # Without memory the storage of a buffer can't be copied, as that of a parameter can.
        own = copy.deepcopy(model, {id(buffer): buffer.clone() for buffer in model.buffers()})
    optimizer = pick(table("optimizer"), spec.optimizer, "optimizer")
    strategy.setup(make(spec, data.sample, own), lambda parameters: optimizer(parameters, spec))
    task.setup(strategy.module)


def _samples(data: Data) -> tuple[Any, int]:
    """A few samples, as data have them or put together, and how many they are."""
    count = min(FEW, length(data.train))
    if data.example is None:
        return rows(data.train, range(count)), count
    if isinstance(data.train, Stream) or data.collate is None:  # of which those that were looked at are at hand
        return data.example, len(tensors(data.example)[0])
    return data.collate([data.train[place] for place in range(count)]), count


def _sized(part: Any, count: int, samples: int) -> Any:
    """Shapes of so many samples, where `part` has `count`."""

    def sized(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.dim() or len(leaf) % count:
            return leaf
        return torch.empty((len(leaf) // count * samples, *leaf.shape[1:]), dtype=leaf.dtype)

    return over(sized, part)


def _step(strategy: Single, data: Data, part: Any, samples: int, task: Task) -> None:
    """One step of all samples of a part."""
    objective = counted(data, task.criterion())
    spec = strategy.spec.replace(batch_size=samples)
    if data.example is None:
        batches, count = next(Feed(part, data, spec, strategy, task).epoch(0))
        strategy.step(batches, count, objective, spec.clip)
        return
    dtype = next((p.dtype for p in strategy.module.parameters() if p.is_floating_point()), torch.float32)
    nest = over(lambda leaf: leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, part)
    strategy.step(objective.over([Batch(*task.split(nest), 1.0, samples)]), 1, objective, spec.clip)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {shown(' '.join(str(error).split()))}"


class Rehearsed(Single):
    """One process, whose model is where it is."""

    def _place(self, model: nn.Module) -> nn.Module:
        convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
        for layer in convolutions if takes_channels_last(model) else ():  # as Single does, but keeps tensors fake
            weight = layer.weight.detach().contiguous(memory_format=torch.channels_last)
            layer.weight = nn.Parameter(weight, layer.weight.requires_grad)
        return model


Move = tuple[int, str, str]  # bytes, above 0 if taken; kind and owner of an Event


class Usage:
    """What a step took, in bytes."""

    def __init__(self) -> None:
        self.events: list[Move] = []
        self.saved: dict[str, int] = {}
        """What forward keeps for backward, by path of the module."""
        self.outputs: dict[str, int] = {}
        """What each module gives, by its path."""


class Watch(TorchDispatchMode):
    """Sees every operation, and each memory that it takes and gives back."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: weakref.WeakKeyDictionary[UntypedStorage, int] = weakref.WeakKeyDictionary()
        self._moves: list[tuple[int, int, str]] | None = None  # bytes, above 0 if taken; number of the memory; whose
        self._owner: Callable[[], str] = str
        self._forward = True
        self._count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation; a number that is asked for is made up, since there is none."""
        if function is torch.ops.aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return True if dtype == torch.bool else 0.5 if dtype.is_floating_point else 1
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._number(tensor.untyped_storage())
        return result

    def _number(self, storage: UntypedStorage) -> int:
        """The number of a memory; a new one is noted, and so is its end."""
        if storage not in self._seen:
            self._count += 1
            size, number = storage.nbytes(), self._count
            self._seen[storage] = number
            if (moves := self._moves) is not None:
                owner = self._owner()
                moves.append((size, number, owner))
                weakref.finalize(storage, lambda: moves.append((-size, number, owner)))
        return self._seen[storage]

    @contextmanager
    def step(self, module: nn.Module) -> Iterator[Usage]:
        """The usage of a step that trains a module, complete at its end."""
        usage, path = Usage(), [LOSS]
        kinds: dict[int, tuple[str, str]] = {}  # kind and owner of memory that does not pass, by number
        self._owner = lambda: (FORWARD if self._forward else BACKWARD) + path[-1]
        self._forward = True
        own = {self._number(tensor.untyped_storage()) for tensor in (*module.parameters(), *module.buffers())}

        def keep(tensor: Tensor) -> tuple[Tensor, str]:
            storage = tensor.untyped_storage()
            if (number := self._number(storage)) not in own:
                own.add(number)
                kinds[number] = KEPT, path[-1]
                usage.saved[path[-1]] = usage.saved.get(path[-1], 0) + storage.nbytes()
            return tensor, path[-1]

        def need(saved: tuple[Tensor, str]) -> Tensor:
            self._forward = False
            tensor, path[-1] = saved  # what follows is that module's part of the backward pass
            return tensor

        def leave(name: str, output: Any) -> None:
            path.pop()
            usage.outputs[name] = sum(_size(tensor) for tensor in tree_leaves(output))

        hooks = []
        for name, part in module.named_modules():
            hooks.append(part.register_forward_pre_hook(lambda *_, name=name: path.append(name)))
            hooks.append(part.register_forward_hook(lambda *call, name=name: leave(name, call[-1])))
        moves = self._moves = []
        with torch.autograd.graph.saved_tensors_hooks(keep, need):
            yield usage
        self._moves = None
        for hook in hooks:
            hook.remove()
        for name, p in module.named_parameters():
            if p.grad is not None:
                kinds[self._number(p.grad.untyped_storage())] = GRADIENT, name
        usage.events = [(size, *kinds.get(number, (PASSING, owner))) for size, number, owner in moves]


def _held(strategy: Single) -> dict[str, Held]:
    parameters = {}
    for name, p in strategy.module.named_parameters():
        state = sum(_size(value) for value in strategy.optimizer.state[p].values()) if p.requires_grad else 0
        parameters[name] = Held(_size(p), _size(p) * p.requires_grad, state)
    return parameters | {name: Held(_size(buffer), 0, 0) for name, buffer in strategy.module.named_buffers()}


def _size(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def _amounts(few: dict[str, int], more: dict[str, int]) -> dict[str, Amount]:
    return {name: _amount(few.get(name, 0), size) for name, size in more.items()}


def _events(few: list[Move], more: list[Move]) -> list[Event]:
    if len(few) != len(more):  # a model that does something else each time
        return [Event(Amount(0, size / MORE), *of) for size, *of in more]
    return [Event(_amount(a, b), *of) for (a, *_), (b, *of) in zip(few, more, strict=True)]


def _amount(few: int, more: int) -> Amount:
    each = (more - few) / (MORE - FEW)
    return Amount(few - each * FEW, each)
