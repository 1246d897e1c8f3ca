"""measure(): all meters over one model, and its peers."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import errors, host
from ..answers import labels
from ..artifacts import About, Artifact, load
from ..artifacts.checking import checked
from ..artifacts.inputs import count, parts
from ..artifacts.manifest import STANDARDISED
from ..datasets import Data, length, rows
from ..errors import LabError, SpecError
from ..losses import IGNORED, usual_loss
from ..metrics import MEASURED, METRICS
from ..objectives import Criterion
from ..output import line
from ..stats import proportion
from ..store import provenance
from ..store.trained import ARTIFACT
from ..store.trained import peers as kept_peers
from ..switches import switched
from ..tasks import Task
from . import candidates, clocks, judging
from .candidates import Candidate, source
from .figures import Latency, Measured
from .judging import Test

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

WATTS = 10.0  # that a busy core of a server draws, roughly: a declared constant, no measurement


def measure(
    model: Any,
    data: Any = None,
    *,
    batches: Sequence[int] = (1, 64),
    repeats: int = 30,
    warmup: int = 5,
    threads: int = 1,
    peers: bool = False,
    dense: Any = None,
    control: Any = None,
    about: About | None = None,
    watts: float = WATTS,
) -> Measured:
    """
    Measure a model: size, work, latency, memory, and accuracy or what else its task goes by; beside fair peers.

    All of it goes from raw samples in memory to scores in memory, scaling included. It blocks until it is done, and
    shows on a terminal or in a notebook how far it is.

    Parameters
    ----------
    model
        An artifact or its path, a run, or a module. Of a run that compressed, the artifact that it ended in.
    data
        Where quality comes from: a `Data`, (x, y) of raw samples and labels, or a Dataset as the task of the file or
        run takes it; a run brings its own test set. Without, made-up samples are timed, and quality is not known.
    batches
        Batch sizes of the latencies.
    repeats, warmup
        Rounds that are timed, and rounds before them, at most: of a slow model they end after 20 seconds, though five
        are timed.
    threads
        That torch and ONNX Runtime compute with.
    peers
        Whether dense peers take turns with it, A B C A B C: eager, compiled (where there is a C++ compiler), bf16
        (where the processor has it) and ONNX Runtime. A speed-up is claimed against the best of them.
    dense
        The model that was compressed, a run or a module; needed for the peers of an artifact that is not a run's.
    control
        The dense model trained on for as long as the compressed one was, a run or a module.
    about
        What samples are, where the model is a module and data don't tell.
    watts
        Of a busy core, for the estimate of energy.

    Raises
    ------
    SpecError, LabError
        In one sentence, before anything is timed.
    """
    import torch

    batches = errors.sizes("batches", batches)
    errors.whole("repeats", repeats, 1)
    errors.whole("threads", threads, 1)
    name, run = "", None
    if getattr(getattr(model, "spec", None), "compress", None):  # what the caller gives comes before the run's own
        run, name, model = model, model.name, model.store.path / ARTIFACT
        if not model.exists():
            raise LabError(f"run {run.id!r} has no artifact yet: it is {run.store.state}")
        parent, trained_on = kept_peers(run.store)
        data = judging.given(run, parent, data)
        dense, control = parent if dense is None else dense, trained_on if control is None else control
    with switched(torch.get_num_threads, torch.set_num_threads, threads), line() as show:
        candidate, about, data, test = _subject(model, data, about, threads, name)
        x, y = _split(data, about)
        everyone = [candidate]
        if peers:
            show("measure: makes the peers")
            base = dense if dense is not None else None if isinstance(model, (str, os.PathLike, Artifact)) else model
            if base is None:
                raise SpecError("dense=None: an artifact's peers need the model that was compressed: dense=parent run")
            trained = None if control is None else source(control).module
            everyone += candidates.peers(source(base).module, about, threads, trained)
        host.release_memory()  # of what was written and read to make them
        samples = x if x is not None and len(x) else about.signature.made_up(max(batches))
        missing = _unable(everyone[1:], _batch(samples, max(batches)), show)
        everyone = [candidate for candidate in everyone if candidate.name not in missing]
        results = _clocked(everyone, samples, batches, repeats, warmup, watts, show)
        if test is not None:
            for candidate, result in zip(everyone, results, strict=True):
                if not candidate.one_size:
                    show(f"measure: what {candidate.name} answers")
                    _test(result, candidate, test, max(batches))
        elif x is not None and y is not None and about.labels != []:
            for candidate, result in zip(everyone, results, strict=True):
                show(f"measure: accuracy of {candidate.name}")
                _judge(result, candidate, x, y, max(batches), about)
    conditions = {
        "threads": threads,
        "device": provenance.processor(),
        "versions": {name: number for name in ("torch", "onnxruntime") if (number := host.version(name))},
        "warmup": warmup,
        "repeats": min(latency.repeats for latency in results[0].latency.values()),
        "watts": watts,
        "missing": missing,
    }
    for result in results:
        result.conditions = conditions
    results[0].peers = results[1:]
    return results[0]


def _subject(
    model: Any, data: Any, about: About | None, threads: int, name: str
) -> tuple[Candidate, About, Any, Test | None]:
    """What is measured, what its samples are, the data, and by what its answers are judged where a task tells."""
    import torch

    if isinstance(model, (str, os.PathLike)):
        model = load(Path(model), threads=threads)
    if isinstance(model, Artifact):
        if isinstance(data, Task):  # of a run, with all that its user gave it
            data, test = data.data, judging.of_run(data, model.signature)
        else:
            test = judging.of_file(model, data)
            data = data if test is None else test.task.data
        return candidates.of_artifact(model, threads, of=name), _about(model), data, test
    origin = source(model)
    data = origin.data if data is None else data
    about = about or origin.about
    if about is None and isinstance(data, Data):
        about = About.of(data, origin.name)
    if about is None and data is not None:
        x = torch.as_tensor(data[0])
        kind = "float32" if x.is_floating_point() else "uint8" if x.dtype == torch.uint8 else "int64"
        vocabulary = int(x.max()) + 1 if kind == "int64" else 0
        about = About(origin.name, tuple(x.shape[1:]), kind, ["?"], vocabulary)
    if about is None:
        raise SpecError("data=None: of a module, give data=(x, y), or say what samples are: about=lab.About(...)")
    task = origin.task
    if task is not None and data is not origin.data:
        test_data = judging.given(model, origin.module, data)
        task, data = (test_data, test_data.data) if isinstance(test_data, Task) else (None, data)
    test = None if task is None else judging.of_run(task, about.signature)
    return candidates.of_module(origin.module, about, f"{origin.name}, eager"), about, data, test


def _about(artifact: Artifact) -> About:
    manifest = artifact.manifest
    first = artifact.signature.inputs[0]
    shape = tuple(size or 0 for size in first.sizes or first.shape)
    facts = manifest["model"], shape, artifact.dtype, artifact.labels, artifact.vocabulary
    mean, std = (tuple(manifest["preprocessing"].get(name, ())) for name in ("mean", "std"))
    unit = 1 if manifest["preprocessing"].get("done") == STANDARDISED else 255
    inputs = artifact.signature.inputs if "inputs" in manifest else ()
    outputs = str(manifest["output"].get("name", ""))
    scales = mean, std, unit
    call = artifact.signature.call
    return About(*facts, manifest["tokens"], *scales, inputs=inputs, call=call, outputs=outputs)


def _split(data: Any, about: About) -> tuple[np.ndarray | None, Tensor | None]:
    """Raw samples (N, *shape) and answers (N, ...) that accuracy is measured on."""
    import numpy as np
    import torch

    if about.inputs:  # made-up samples are timed, and what the task takes is judged
        return None, None
    if isinstance(data, Data):
        data = data.test if data.test is not None else data.val
        if data is not None and not isinstance(data, tuple):
            samples, targets = rows(data, range(length(data)))
            data = samples, labels(targets)
    if data is None:
        return None, None
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise SpecError(f"data: must be a Data or (x, y), not {type(data).__name__}")
    x, _ = checked(data[0], about.shape, about.dtype, about.vocabulary)
    y = np.asarray(data[1])
    if len(x) != len(y):
        raise SpecError(f"data: {len(x)} samples and {len(y)} answers; there must be as many of each")
    judged = y.dtype.kind in "iu"  # of a regression, no answer is right or wrong
    return x, torch.from_numpy(y.astype(np.int64)) if judged else None


def _unable(peers: list[Candidate], batch: Any, show: Callable[[str], object]) -> dict[str, str]:
    """Peers that can't be had of this model, such as one whose code has no bf16, with the reason."""
    reasons = {}
    for peer in peers:
        show(f"measure: {peer.name} is made ready")
        try:
            peer.forward(batch)
        except Exception as error:  # of the user's code, or a compiler's
            message = " ".join(str(error).split())
            reasons[peer.name] = f"{type(error).__name__}: {message[:120]}"
    return reasons


def _clocked(
    everyone: list[Candidate],
    samples: Any,
    batches: Sequence[int],
    repeats: int,
    warmup: int,
    watts: float,
    show: Callable[[str], object],
) -> list[Measured]:
    """Counts, latencies, memory and energy of all, in turn."""
    results = [Measured(c.name, c.parameters, c.bytes, c.multiply_adds) for c in everyone]
    for batch in sorted(batches):
        inputs = _batch(samples, batch)
        rounds = f"measure: {len(everyone)} in turn, batch {batch}: round"

        def done(count: int, rounds: str = rounds) -> None:
            show(f"{rounds} {count + 1} of {warmup + repeats}")

        calls = [functools.partial(candidate.forward, inputs) for candidate in everyone]
        timed = clocks.in_turn(calls, repeats, warmup, done)
        for result, (seconds, busy) in zip(results, timed, strict=True):
            result.latency[batch] = Latency.of(seconds)
            result.joules = busy / (len(seconds) * batch) * watts
    for candidate, result in zip(everyone, results, strict=True):
        call = candidate.fresh() if candidate.fresh else candidate.forward
        result.memory = clocks.peak_memory(functools.partial(call, inputs))
    return results


def _batch(samples: Any, size: int) -> Any:
    """A batch of raw samples, from the first on, again from the first where there are too few."""
    import numpy as np

    places = np.arange(size) % count(samples)
    return parts(samples, lambda array: np.ascontiguousarray(array[places]))


def _test(result: Measured, candidate: Candidate, test: Test, batch: int) -> None:
    """Note how good a candidate's answers are, by the metrics of its task."""
    quality = judging.judged(candidate.forward, test, batch)
    result.metric, result.figures, result.samples = quality.metric, quality.figures, length(test.split)
    if MEASURED in quality.figures:
        right, count = quality.sums[MEASURED].tolist()  # samples by the part of them that is right, or places
        if count:
            _noted(result, round(right), round(count))
            result.accuracy = quality.figures[MEASURED]


def _noted(result: Measured, right: int, count: int) -> None:
    """Right answers among so many, with their interval."""
    interval = proportion(right, count)
    result.accuracy, result.interval, result.samples = interval.mean, (interval.low, interval.high), count


def _judge(result: Measured, candidate: Candidate, x: np.ndarray, y: Tensor, batch: int, about: About) -> None:
    """
    Note how many of the answers (N, ...) are right, where scores say a class; labels below 0 are left out.

    Batches are all of one size, which compiled code was made for.
    """
    import torch

    y = y.where(y >= 0, IGNORED)
    data = Data((y, y), None, None, about.shape, about.labels, vocabulary=about.vocabulary)  # no metric looks at x
    metric = METRICS[MEASURED](data, Criterion(usual_loss(data), data))

    def answers() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(x), batch):
            part = y[start : start + batch]
            yield torch.from_numpy(candidate.forward(_batch(x[start : start + batch], batch)))[: len(part)], part

    count = int((y >= 0).sum())
    if count and (fraction := metric.over(answers())) is not None:
        _noted(result, round(fraction * count), count)  # of texts and pictures, each place is an answer
