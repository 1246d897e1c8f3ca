"""Code that a user defined in a cell: packed by value with its source text, and unpacked in a rank."""

from __future__ import annotations

import contextlib
import functools
import inspect
import linecache
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import LabError, SpecError
from ..files import read_json, replacing, write_json
from ..metrics import looks
from ..switches import switched
from ..values import called
from .folder import LOOKS, RunFolder
from .trust import require_own

PARTS = ("model", "data", "loss", "strategy", "task", "hooks", "metrics")


def pack(folder: Path, parts: dict[str, Any]) -> None:
    """
    Write objects into a run's folder: tensors as tensors, code by value, and its source text for people.

    Parameters
    ----------
    folder
        Folder of a run that is being made.
    parts
        Objects by name: those of PARTS.

    Raises
    ------
    SpecError
        If one can't be shipped; the sentence names it and says why.
    """
    import torch

    shipped: list[Any] = []
    options = torch.serialization.get_crc32_options, torch.serialization.set_crc32_options
    # Without check sums: a third of the time, and they guard nothing on one machine's disk.
    with switched(*options, False), _pickling(shipped) as pickler:
        for part, value in parts.items():
            try:
                # torch.save, so that tensors land in the file as they are, and are read back wherever ranks compute.
                torch.save(value, folder / f"{part}.pkl", pickle_module=pickler)
            except Exception as error:
                why = _culprit(value, error)
                raise SpecError(f"{part}={called(value)} can't be shipped to another process: {why}") from None
    if "metrics" in parts:
        write_json(folder / LOOKS, looks(parts["metrics"]))
    _keep_sources(folder / "code", shipped, parts)


def unpack(folder: RunFolder, parts: tuple[str, ...] = PARTS) -> dict[str, Any]:
    """
    The objects that `pack` wrote, by name; their tensors are mapped from the file, and so shared between ranks.

    Raises
    ------
    LabError
        If one is not the user's own, see `require_own`, or is made of what can't be imported here.
    """
    import torch

    _load_cells(folder.path / "code")
    shipped = {}
    for name in parts:
        path = folder.path / f"{name}.pkl"
        if path.exists():
            require_own(path)
            with _importing(f"run {folder.id!r}: its {name}"):
                shipped[name] = torch.load(path, map_location="cpu", weights_only=False, mmap=True)
    return shipped


@contextlib.contextmanager
def _importing(what: str) -> Iterator[None]:
    """Say in a LabError that `what` is made of what can't be imported here."""
    try:
        yield
    except (ImportError, AttributeError) as error:  # a module, or a name in one
        why = " ".join(str(error).split())
        raise LabError(
            f"{what} can't be read here ({why}): have Python find that module, by PYTHONPATH=FOLDER, by installing it, "
            "or by working in the folder that it was imported from"
        ) from error


def keep(value: Any, path: Path) -> None:
    """Write an object as `pack` does, in one step: the file is whole, or not there."""
    import torch

    with replacing(path) as draft, _pickling([]) as pickler:
        torch.save(value, draft, pickle_module=pickler)


def kept(path: Path) -> Any:
    """
    An object that `keep` wrote, on the CPU.

    Raises
    ------
    LabError
        If it is not the user's own, see `require_own`, or is made of what can't be imported here.
    """
    import torch

    require_own(path)
    with _importing(f"the module in {str(path)!r}"):
        return torch.load(path, map_location="cpu", weights_only=False)


def carry(source: Path, target: Path, but: set[str]) -> None:
    """Copy what was shipped with one run into another's folder, but for some parts."""
    import shutil

    for name in PARTS:
        if name not in but and (source / f"{name}.pkl").exists():
            shutil.copy2(source / f"{name}.pkl", target)
    if "metrics" not in but and (source / LOOKS).exists():
        shutil.copy2(source / LOOKS, target)
    if (source / "code").exists():
        shutil.copytree(source / "code", target / "code")


@contextlib.contextmanager
def _pickling(shipped: list[Any]) -> Iterator[Any]:
    """
    What torch.save takes as a pickle module; notes the classes and functions that travel by value.

    So do, whole, the modules that a rank could not import: loaded by their path, or from a folder that was left.
    """
    import cloudpickle

    loose: list[types.ModuleType] = []

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # which comes without types
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, (type, types.FunctionType)) and obj.__module__ == "__main__" and obj not in shipped:
                shipped.append(obj)
            if isinstance(obj, (type, types.FunctionType, types.ModuleType)) and (module := _loose(obj)):
                cloudpickle.register_pickle_by_value(module)
                loose.append(module)
            if isinstance(obj, CACHED):  # by its name, which no rank has
                return functools.lru_cache(**obj.cache_parameters()), (obj.__wrapped__,)
            return super().reducer_override(obj)

    try:
        yield types.SimpleNamespace(Pickler=Pickler, dumps=cloudpickle.dumps, __name__="cloudpickle")
    finally:
        for module in loose:
            cloudpickle.unregister_pickle_by_value(module)


CACHED = type(functools.lru_cache(len))


def _loose(item: Any) -> types.ModuleType | None:
    """The module of a class or function, or the module itself, if it comes from a file that no import leads to."""
    import cloudpickle

    module = item if isinstance(item, types.ModuleType) else sys.modules.get(item.__module__ or "")
    file = getattr(module, "__file__", None)
    if module is None or not file or sys.modules.get(module.__name__) is not module or module.__name__ == "__main__":
        return None
    top = module.__name__.partition(".")[0]
    if top in cloudpickle.list_registry_pickle_by_value() or top in sys.stdlib_module_names:
        return None
    for finder in sys.meta_path:
        spec = finder.find_spec(top, None) if hasattr(finder, "find_spec") else None
        if spec is not None:
            single = top == module.__name__ and not hasattr(module, "__path__")
            return module if single and spec.origin != file else None
    return module


def _culprit(value: Any, error: Exception) -> str:
    """The innermost part of an object that can't be pickled, by its path from the object, and why."""
    path, error = _innermost(value, error, set()) or ([], error)
    why = " ".join(str(error).split()) or type(error).__name__
    if "parametrized modules" in why:  # spectral_norm and its like
        why = "a parametrized module travels only as a function that makes it: pass model=lambda: ..."
    return f"{'.'.join(path)}{': ' * bool(path)}{why[:300]}"


def _innermost(value: Any, error: Exception, seen: set[int]) -> tuple[list[str], Exception] | None:
    """Path to the part to blame, and its error; None where only a part that was seen before is to blame."""
    import cloudpickle

    seen.add(id(value))
    circle = False
    for name, part in _parts(value):
        if id(part) in seen:  # an object may hold itself, as a method does its class
            circle = True
            continue
        try:
            cloudpickle.dumps(part)
        except Exception as inner:
            if deeper := _innermost(part, inner, seen):
                return [name, *deeper[0]], deeper[1]
            circle = True
    return None if circle else ([], error)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What pickling an object by value takes along, by name."""
    if isinstance(value, dict):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((str(i), item) for i, item in enumerate(value))
    elif isinstance(value, types.FunctionType):
        if value.__module__ == "__main__":
            code = inspect.getclosurevars(value)
            yield from {**code.nonlocals, **code.globals}.items()
        yield from vars(value).items()
    elif isinstance(value, type):
        members = vars(value).items() if value.__module__ == "__main__" else ()
        yield from ((name, item) for name, item in members if not name.startswith("__") or name == "__init__")
    elif hasattr(value, "__dict__"):
        yield from vars(value).items()
        yield type(value).__name__, type(value)


def _keep_sources(folder: Path, shipped: list[Any], parts: dict[str, Any]) -> None:
    """Write the cells that the shipped code came from, and where each stands in the notebook."""
    folder.mkdir(exist_ok=True)
    cells: dict[str, dict[str, Any]] = {}
    for item in [*shipped, *(v if isinstance(v, (type, types.FunctionType)) else type(v) for v in parts.values())]:
        filename = _filename(item)
        if filename and item.__module__ == "__main__" and filename not in cells:
            cells[filename] = {"cell": _cell_number(filename), "source": "".join(linecache.getlines(filename))}
    texts = [f"# {_title(name, cell)}\n{cell['source'].rstrip()}\n" for name, cell in cells.items() if cell["source"]]
    if texts:
        (folder / "source.py").write_text("\n\n".join(texts))
    write_json(folder / "cells.json", cells)


def _load_cells(folder: Path) -> None:
    """Let tracebacks in this process show the lines of the notebook's cells."""
    for filename, cell in (read_json(folder / "cells.json") or {}).items():
        if not Path(filename).exists():
            lines = cell["source"].splitlines(keepends=True)
            linecache.cache[filename] = (len(cell["source"]), None, lines, filename)


def place(folder: RunFolder, filename: str, line: int) -> str:
    """A place in code as a person knows it: "cell 3, line 5" or "model.py, line 5"."""
    cell = (read_json(folder.path / "code" / "cells.json") or {}).get(filename)
    return f"{_title(filename, cell) if cell else filename}, line {line}"


def _title(filename: str, cell: dict[str, Any]) -> str:
    return f"cell {cell['cell']}" if cell["cell"] is not None else filename


def _filename(item: Any) -> str | None:
    """File of the code of a function, or of a class (inspect can't tell for a class of a notebook)."""
    if not isinstance(item, type):
        return inspect.unwrap(item).__code__.co_filename
    for member in vars(item).values():
        function = inspect.unwrap(member) if callable(member) else None
        # Not one that the class only took over, such as a wrapper of a decorator.
        if isinstance(function, types.FunctionType) and function.__qualname__.startswith(f"{item.__qualname__}."):
            return function.__code__.co_filename
    cache: dict[str, Any] = linecache.cache  # whose entries have four parts
    cells = (name for name, entry in cache.items() if "ipykernel" in name and len(entry) > 2)
    return next((n for n in cells if f"class {item.__name__}" in "".join(cache[n][2])), None)


def _cell_number(filename: str) -> int | None:
    """Execution count of the cell that IPython compiled under that file name."""
    ipython = sys.modules.get("IPython")  # not imported: only asked where it runs already
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell.compile, "_filename_map", {}).get(filename) if shell else None
