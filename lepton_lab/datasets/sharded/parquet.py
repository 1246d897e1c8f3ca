"""Parquet files: a row group is a block, and a column a part of a sample."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import SpecError, needs
from .decoding import picture
from .sources import Source

if TYPE_CHECKING:
    import numpy as np

KINDS = (".parquet", ".pq")
TARGETS = ("cls", "label", "labels", "target", "y")
"""Columns that are targets."""
SHAPE = b"shape"
"""Of a column's numbers in a row, as its metadata have it: "1,28,28"."""


class Ranges(io.RawIOBase):
    """A file of a source, as a library reads one."""

    def __init__(self, name: str, size: int, source: Source) -> None:
        self._name, self._size, self._source, self._at = name, size, source, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of every file."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        """As of every file."""
        return self._at

    def readinto(self, into: Any) -> int:
        """As of every file."""
        body = self._source.read(self._name, self._at, min(self._at + len(into), self._size))
        into[: len(body)] = body
        self._at += len(body)
        return len(body)


def opened(name: str, size: int, source: Source) -> Any:
    """A file by pyarrow; SpecError of what is none, or is cut short."""
    needs(f"the shard {name}", "pyarrow")
    import pyarrow
    from pyarrow import parquet

    file = io.BufferedReader(Ranges(name, size, source), 1 << 16)
    try:
        return parquet.ParquetFile(pyarrow.PythonFile(file, "r"), pre_buffer=False)
    except pyarrow.ArrowException as error:
        why = " ".join(str(error).split())
        raise SpecError(f"dataset: the shard {name} can't be used: it is no whole Parquet file ({why})") from None


def scan(name: str, size: int, source: Source) -> tuple[list[tuple[int, int, int]], int]:
    """The blocks, by rows, and the largest label + 1, as far as the file's own statistics tell it."""
    file = opened(name, size, source)
    about, blocks, at, largest = file.metadata, [], 0, -1
    target = next((n for n in TARGETS if n in file.schema_arrow.names), None)
    _check(name, file.schema_arrow)
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        blocks.append((at, at + group.num_rows, group.num_rows))
        at += group.num_rows
        least, most = _labels(file, group, number, target)
        if least < 0 and paired(file.schema_arrow.names):
            raise SpecError(
                f"dataset: {target} in {name} holds {least}, or nothing; labels are whole numbers from 0 up"
            )
        largest = max(largest, most)
    return [block for block in blocks if block[2]], largest + 1


def _check(name: str, schema: Any) -> None:
    """Refuse columns of one name, and labels that are texts, of what is no text itself."""
    import pyarrow

    twice = next((one for one in schema.names if schema.names.count(one) > 1), None)
    if twice is not None:
        raise SpecError(f"dataset: {name} has two columns called {twice!r}; give each a name of its own")
    if pair := paired(schema.names):
        x, y = (schema.field(one).type for one in pair)
        texts = pyarrow.types.is_string(y) or pyarrow.types.is_large_string(y)
        if texts and not (pyarrow.types.is_string(x) or pyarrow.types.is_large_string(x)):
            raise SpecError(
                f"dataset: {pair[1]} in {name} holds texts; labels are whole numbers from 0 up: number them, as "
                "pandas.factorize does"
            )


def _labels(file: Any, group: Any, number: int, target: str | None) -> tuple[int, int]:
    """The least and the largest label of a row group, where labels are whole numbers; one that is missing is -1."""
    import pyarrow
    from pyarrow import compute

    if target is None or not group.num_rows or not pyarrow.types.is_integer(file.schema_arrow.field(target).type):
        return 0, -1
    columns = (group.column(i) for i in range(group.num_columns))
    stats = next((c.statistics for c in columns if c.path_in_schema == target), None)
    if stats is not None and stats.has_min_max and stats.has_null_count:
        return (-1 if stats.null_count else int(stats.min)), int(stats.max)
    labels = file.read_row_group(number, [target])[target].cast("int64")
    found = compute.min_max(compute.fill_null(labels, -1)).as_py()
    return found["min"], found["max"]


def paired(names: list[str]) -> tuple[str, str] | None:
    """Which of two columns are x and y: the second is a target by its name; None of others."""
    targets = [name for name in names if name in TARGETS]
    if len(names) != 2 or len(targets) != 1:
        return None
    return next(name for name in names if name not in targets), targets[0]


def columns(file: Any, number: int, name: str, first: int) -> dict[str, Callable[[int], Any]]:
    """What gives a row's value of each column of a row group, which begins with the row `first` of a named file."""
    import pyarrow

    try:
        table = file.read_row_group(number)
    except (pyarrow.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise SpecError(
            f"dataset: the shard {name} can't be used from sample {first:,} on: {why}; copy it anew"
        ) from None
    return {name: _column(table[name].combine_chunks(), table.schema.field(name)) for name in table.column_names}


def _column(values: Any, field: Any) -> Callable[[int], Any]:
    import numpy as np
    import pyarrow

    kinds = pyarrow.types
    if isinstance(values, pyarrow.ChunkedArray):
        values = values.chunk(0)
    if kinds.is_struct(field.type) and "bytes" in [f.name for f in field.type]:  # as Hugging Face keeps pictures
        return Pictures(values.field("bytes"))
    if kinds.is_fixed_size_list(field.type):
        shape = [int(n) for n in (field.metadata or {}).get(SHAPE, b"-1").split(b",")]
        rows = _writable(values.flatten().to_numpy(zero_copy_only=False)).reshape(len(values), *shape)
        return Array(rows, rows)
    if kinds.is_list(field.type) or kinds.is_large_list(field.type):
        flat, ends = _writable(values.flatten().to_numpy(zero_copy_only=False)), values.offsets.to_numpy()
        return lambda row: flat[ends[row] - ends[0] : ends[row + 1] - ends[0]]
    if kinds.is_integer(field.type) or kinds.is_floating(field.type) or kinds.is_boolean(field.type):
        numbers = values.to_pylist()
        return Array(numbers, np.asarray(numbers))
    if kinds.is_binary(field.type) or kinds.is_large_binary(field.type):
        return Pictures(values)
    return lambda row: values[row].as_py()


class Array:
    """
    A column of numbers, or of arrays of one shape.

    Attributes
    ----------
    whole : np.ndarray
        All rows; of objects where some have no number.
    """

    def __init__(self, rows: Sequence[Any] | np.ndarray, whole: np.ndarray) -> None:
        self._rows, self.whole = rows, whole

    def __call__(self, row: int) -> Any:
        """What a row has."""
        return self._rows[row]


class Pictures:
    """A column of files of pictures, each decoded as it is asked for."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def __call__(self, row: int) -> Any:
        """Pixels of a row."""
        return picture(memoryview(self._files[row].as_buffer()))


def table(rows: list[dict[str, Any]]) -> Any:
    """A pyarrow table of samples by leaf: numbers, texts, and arrays of one shape, or lists of unequal length."""
    import pyarrow

    made = {}
    for name in rows[0]:
        try:
            made[name] = _made([row[name] for row in rows])
        except pyarrow.ArrowException as error:  # of complex numbers, or arrays without any
            why = " ".join(str(error).split())
            raise SpecError(f"a sample's {name} is what no Parquet column holds ({why}); write tars") from None
    fields = [
        pyarrow.field(name, values.type, metadata={SHAPE: shape} if shape else None)
        for name, (values, shape) in made.items()
    ]
    return pyarrow.Table.from_arrays([values for values, _ in made.values()], schema=pyarrow.schema(fields))


def _made(values: list[Any]) -> tuple[Any, bytes]:
    """A column, and the shape of its rows."""
    import numpy as np
    import pyarrow

    if isinstance(values[0], str):
        return pyarrow.array(values), b""
    shape = values[0].shape
    if not shape:
        return pyarrow.array(np.stack(values)), b""
    if len(shape) == 1:  # which may differ in length, if not here
        return pyarrow.array(values), b""
    if any(value.shape != shape for value in values):
        raise SpecError(
            f"samples have arrays of shape {shape} and of others, which no Parquet column holds; write tars"
        )
    flat = pyarrow.array(np.stack(values).reshape(-1))
    return pyarrow.FixedSizeListArray.from_arrays(flat, values[0].size), ",".join(map(str, shape)).encode()


def _writable(array: np.ndarray) -> np.ndarray:
    """A copy, since torch warns of arrays that can't be written."""
    return array if array.flags.writeable else array.copy()
