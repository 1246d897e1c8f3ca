import contextlib
import gzip
import hashlib
import math
import os
import pickle
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lepton_lab import datasets
from lepton_lab.datasets import DATASETS, SOURCES, Data, check, cifar, files, from_user, idx, text, usual
from lepton_lab.errors import SpecError
from lepton_lab.losses import IGNORED
from lepton_lab.metrics.bits import bits_per_byte
from lepton_lab.spec import Spec

SHARED = ROOT.parent / "shared" / "data"
needs_mnist = pytest.mark.skipif(not (SHARED / "MNIST" / "raw").is_dir(), reason="no MNIST in ../shared/data")


@pytest.fixture(autouse=True)
def patch():
    """No test reaches a network: mirrors point nowhere unless a test names its own, and no package is asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LEPTON_LAB_DATA", raising=False)
        for name, source in SOURCES.items():
            others = (replace(archive, urls=("file:///nowhere/x",), package=None) for archive in source.others)
            patch.setitem(SOURCES, name, replace(source, mirrors=("file:///nowhere/",), others=tuple(others)))
        yield patch


def sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(root: Path, count: int = 40, folder: str = "MNIST/raw", packed: bool = False) -> dict[str, Path]:
    """Small files of the published form."""
    (root / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    paths = {}
    for part, n in (("train", count), ("t10k", count // 2)):
        arrays = {
            f"{part}-images-idx3-ubyte": random.integers(0, 256, (n, 28, 28), dtype=np.uint8),
            f"{part}-labels-idx1-ubyte": np.arange(n, dtype=np.uint8) % 10,
        }
        for name, array in arrays.items():
            paths[name] = root / folder / (f"{name}.gz" if packed else name)
            raw = idx_bytes(array)
            paths[name].write_bytes(gzip.compress(raw) if packed else raw)
    return paths


def cifar_batches(count: int = 20) -> dict[str, bytes]:
    random = np.random.default_rng(0)
    return {
        file: pickle.dumps(
            {"data": random.integers(0, 256, (count, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(count)]},
            protocol=4,
        )
        for file in SOURCES["cifar10"].files()
    }


def write_cifar(root: Path) -> dict[str, Path]:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for file, contents in cifar_batches().items():
        (folder / file).write_bytes(contents)
    return {file: folder / file for file in SOURCES["cifar10"].files()}


def write_plays(root: Path, patch: pytest.MonkeyPatch) -> Path:
    """A small text as the published one."""
    contents = "".join(f"First Citizen:\nBefore we proceed {i}, hear me speak.\n\n" for i in range(200)).encode()
    publish(patch, "tinyshakespeare", {"input.txt": contents})
    path = root / "tinyshakespeare" / "input.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(contents)
    return path


def tar_gz(files: dict[str, bytes]) -> bytes:
    return published.tar_gz({f"cifar-10-batches-py/{name}": contents for name, contents in files.items()})


def load(name: str, root: Path, seed: int = 0) -> Data:
    return DATASETS[name](root, seed)


# --- every data set ---------------------------------------------------------------------------------------------------


@pytest.fixture
def root(request, tmp_path):
    """A data root with small files of the data set that a test is of."""
    if writer := published.WRITERS.get(request.node.callspec.params["name"]):
        writer(tmp_path)
        yield tmp_path
        return
    write_mnist(tmp_path)
    write_mnist(tmp_path, folder="FashionMNIST/raw", packed=True)
    write_cifar(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        write_plays(tmp_path, patch)
        yield tmp_path


PAIRS = [name for name, made in DATASETS.items() if not made.made or {*made.tasks[:1]} <= {"classification"}]
PAIRS.remove("cutout_scenes")
"""Others that are made, or are no pairs, are held to their tasks in test_made.py and test_named.py."""


@pytest.mark.parametrize("name", PAIRS)
def test_conformance(name, root):
    data = load(name, root)
    for x, y in (data.train, data.val, data.test):
        assert len(x) == len(y) > 0
        assert tuple(x.shape[1:]) == data.shape
        assert x.dtype in (torch.uint8, torch.float32, torch.int64)
        assert y.dtype == (torch.uint8 if data.tokens else torch.int64 if data.classes else torch.float32)
        labels = y[y != IGNORED]
        assert not data.classes or (labels.min() >= 0 and labels.max() < len(data.classes))
        assert not data.vocabulary or (x.min() >= 0 and x.max() < data.vocabulary)
        assert not data.tokens or data.vocabulary == len(data.classes)
        assert x.is_contiguous() and not x.requires_grad
        x[0] = 0  # owns its memory: neither a read-only map of a file nor a view of another split
    assert len(data.mean) == len(data.std)
    assert not data.mean or (data.train[0].dtype == torch.uint8 and len(data.mean) == data.shape[0])
    assert DATASETS[name].__doc__.strip().splitlines()[0].endswith(".")


SPLIT = [name for name in PAIRS if name not in published.WRITERS and (not DATASETS[name].made or name == "blobs")]


@pytest.mark.parametrize("name", SPLIT)
def test_split_is_by_seed_and_complete(name, root):
    def rows(data, *splits):
        return sorted(hashlib.md5(x.numpy().tobytes()).digest() for s in splits for x in getattr(data, s)[0])

    once, again, other = load(name, root, 0), load(name, root, 0), load(name, root, 1)
    assert rows(once, "train") == rows(again, "train")
    assert (rows(once, "val") == rows(other, "val")) == bool(once.tokens)  # texts are cut at the same places
    if name not in ("blobs", "breast_cancer", "diabetes"):  # made from the seed, or standardised by the training part
        assert rows(once, "train", "val", "test") == rows(other, "train", "val", "test")
    assert abs(len(once.val[1]) - 0.1 * (len(once.train[1]) + len(once.val[1]))) <= 0.02 * len(once.train[1])


def test_importing_and_listing_costs_no_torch():
    code = "import sys; from lepton_lab import datasets, models, optimizers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_digits_are_the_published_ones():
    x, y = datasets.small._read_digits()
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # scikit-learn's description
    assert list(x[0, 0, 0]) == [15 * level for level in (0, 0, 5, 13, 9, 1, 0, 0)]
    assert np.isclose((x / 255).mean(), datasets.small.DIGITS_MEAN[0], atol=1e-4)
    assert np.isclose((x / 255).std(), datasets.small.DIGITS_STD[0], atol=1e-4)


def test_digits_without_scikit_learn(patch, tmp_path):
    patch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError) as error:
        load("digits", tmp_path)
    assert "pip install scikit-learn" in sentence(error)


def test_blobs_follow_their_options(tmp_path):
    data = DATASETS["blobs"](tmp_path, 3, samples=200, features=5, classes=4, spread=0.5)
    x, _ = data.train
    assert x.shape == (160, 5) and len(data.classes) == 4
    assert torch.allclose(x.mean(0), torch.zeros(5), atol=1e-5)
    assert torch.allclose(x.std(0), torch.ones(5), atol=1e-5)


@pytest.mark.parametrize(
    ("option", "value"), [("samples", 9), ("features", 0), ("classes", 1), ("spread", 0.0), ("spread", float("nan"))]
)
def test_blobs_refuse_bad_options(option, value):
    with pytest.raises(SpecError) as error:
        Spec(dataset="blobs", model="mlp", options={option: value})
    assert option in sentence(error) and str(value) in str(error.value)


# --- IDX --------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 5), shape=st.sampled_from([(), idx.PIXELS]), packed=st.booleans(), data=st.data())
def test_idx_round_trip_and_any_damage(tmp_path_factory, rows, shape, packed, data):
    array = np.random.default_rng(rows).integers(0, 256, (rows, *shape), dtype=np.uint8)
    raw = idx_bytes(array)
    name = "images" if shape else "labels"
    path = tmp_path_factory.mktemp("idx") / (f"{name}.gz" if packed else name)
    whole = gzip.compress(raw) if packed else raw
    path.write_bytes(whole)
    assert np.array_equal(idx.read_idx(path, shape), array)
    idx.glance(path)

    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(SpecError) as error:
        idx.read_idx(path, shape)
    assert str(path) in sentence(error)
    with pytest.raises(SpecError):
        idx.glance(path)

    path.write_bytes(data.draw(st.binary(max_size=200)))
    with pytest.raises(SpecError):
        idx.read_idx(path, shape)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"PK\x03\x04" + bytes(40), "50 4b 03 04"),
        (idx_bytes(np.zeros((3, 5, 5), np.uint8)), "(3, 5, 5)"),
        (idx_bytes(np.zeros((3, 28, 28), np.uint8)) + b"x", "more"),
        (idx_bytes(np.zeros((3, 28, 28), np.uint8))[:-1], "less"),
        (idx_bytes(np.zeros((0, 28, 28), np.uint8)), "(0, 28, 28)"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_says_what_is_wrong(tmp_path, raw, said, packed):
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(SpecError) as error:
        idx.read_idx(path, (28, 28))
    text = sentence(error)
    assert said in text and str(path) in text and "delete it" in text
    with pytest.raises(SpecError):
        idx.glance(path)


def test_idx_gzip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 5) + bytes(2**26)))
    with pytest.raises(SpecError, match="more"):
        idx.read_idx(path, ())


def test_mnist_refuses_labels_that_do_not_fit(tmp_path):
    paths = write_mnist(tmp_path)
    labels = paths["train-labels-idx1-ubyte"]
    labels.write_bytes(idx_bytes(np.zeros(39, np.uint8)))
    with pytest.raises(SpecError, match="39 labels for the 40 images"):
        load("mnist", tmp_path)
    labels.write_bytes(idx_bytes(np.full(40, 10, np.uint8)))
    with pytest.raises(SpecError, match="label 10"):
        load("mnist", tmp_path)


@needs_mnist
def test_real_mnist_whole_and_damaged(tmp_path):
    data = load("mnist", SHARED)
    assert [len(part[1]) for part in (data.train, data.val, data.test)] == [54_000, 6_000, 10_000]
    x = torch.cat([data.train[0], data.val[0]]).float() / 255
    assert abs(x.mean().item() - data.mean[0]) < 1e-4 and abs(x.std().item() - data.std[0]) < 1e-4
    check("mnist", SHARED)

    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for path in (SHARED / "MNIST" / "raw").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    images = folder / "t10k-images-idx3-ubyte.gz"
    packed = images.read_bytes()

    images.write_bytes(packed[: len(packed) // 2])
    for refuse in (load, check):
        with pytest.raises(SpecError) as error:
            refuse("mnist", tmp_path)
        assert str(images) in sentence(error)

    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF  # header and length look right: only unpacking shows it
    images.write_bytes(flipped)
    check("mnist", tmp_path)
    with pytest.raises(SpecError) as error:
        load("mnist", tmp_path)
    assert str(images) in sentence(error)


@needs_mnist
def test_published_checksums_are_those_of_the_contents():
    for file, path in files.fetch("mnist", SHARED).items():
        contents = gzip.decompress(path.read_bytes())
        assert hashlib.md5(contents).hexdigest() == SOURCES["mnist"].archives[f"{file}.gz"][file]


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------


def test_cifar_from_folder_equals_cifar_from_archive(tmp_path):
    write_cifar(tmp_path / "folder")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "cifar-10-python.tar.gz").write_bytes(tar_gz(cifar_batches()))
    one, other = load("cifar10", tmp_path / "folder"), load("cifar10", tmp_path / "archive")
    assert one.shape == (3, 32, 32) and len(one.train[1]) == 90 and len(one.test[1]) == 20
    for split in ("train", "val", "test"):
        assert torch.equal(getattr(one, split)[0], getattr(other, split)[0])
        assert torch.equal(getattr(one, split)[1], getattr(other, split)[1])
    check("cifar10", tmp_path / "folder")
    check("cifar10", tmp_path / "archive")


def python2_pickle(rows: int) -> bytes:
    """A batch as Python 2 and NumPy 1 wrote the published ones: text opcodes hold the bytes of the array."""
    pixels = bytes(range(256)) * 12 * rows

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
        b"(I1\n(I%d\nI3072\ntcnumpy\ndtype\n(U\x02u1I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI0\ntbI00\n" % rows
    )
    return b"\x80\x02(U\x04data" + array + text(pixels) + b"tbU\x06labels(lp0\n" + b"I7\na" * rows + b"d."


def test_cifar_reads_what_python_2_wrote():
    x, y = cifar.read_batch(python2_pickle(3), Path("data_batch_1"))
    assert x.shape == (3, 3, 32, 32) and list(y) == [7, 7, 7]
    assert np.array_equal(x.reshape(3, -1)[1], np.tile(np.arange(256, dtype=np.uint8), 12))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["folder", "archive"])
def test_cifar_pickle_that_would_run_code_is_refused_unrun(tmp_path, place):
    trap = tmp_path / "trap"
    batches = cifar_batches() | {"data_batch_3": pickle.dumps({"data": Evil(trap), "labels": [0]})}
    if place == "archive":
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(tar_gz(batches))
    else:
        write_cifar(tmp_path)["data_batch_3"].write_bytes(batches["data_batch_3"])
    with pytest.raises(SpecError) as error:
        load("cifar10", tmp_path)
    assert "asks to run posix.mkdir" in sentence(error)
    assert not trap.exists()


@pytest.mark.parametrize(
    "batch",
    [
        {"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]},
        {"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0]},
        {"data": np.zeros((0, 3072), np.uint8), "labels": []},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]},
        {"data": np.zeros((2, 3072), np.uint8)},
        [1, 2],
    ],
)
def test_cifar_refuses_what_is_no_batch(batch):
    with pytest.raises(SpecError) as error:
        cifar.read_batch(pickle.dumps(batch), Path("some/data_batch_1"))
    assert "some/data_batch_1" in sentence(error)
    if "labels" not in batch:
        assert "it holds no " in sentence(error)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_cifar_damage_of_any_kind_is_one_sentence(data):
    whole = cifar_batches(1)["test_batch"]
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(SpecError):
        cifar.read_batch(cut, Path("b"))
    spot = data.draw(st.integers(0, 120))
    changed = whole[:spot] + bytes([data.draw(st.integers(0, 255))]) + whole[spot + 1 :]
    with contextlib.suppress(SpecError):
        cifar.read_batch(changed, Path("b"))


def test_cifar_cut_short_is_seen_before_launch_and_on_loading(tmp_path):
    paths = write_cifar(tmp_path)
    whole = paths["test_batch"].read_bytes()
    paths["test_batch"].write_bytes(whole[:-100])
    for refuse in (check, load):
        with pytest.raises(SpecError) as error:
            refuse("cifar10", tmp_path)
        assert str(paths["test_batch"]) in sentence(error)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"<html>", lambda b: tar_gz({"readme": b""})])
def test_cifar_archive_damaged(tmp_path, damage):
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(damage(tar_gz(cifar_batches())))
    with pytest.raises(SpecError) as error:
        load("cifar10", tmp_path)
    assert str(path) in sentence(error)


# --- texts ------------------------------------------------------------------------------------------------------------


def test_windows_go_on_where_the_last_one_ended():
    words = "".join(chr(ord("a") + i % 26) + str(i) for i in range(400))
    data = text.windows(words, 7, "characters")
    stream, told = "", [data.classes[token] for token in data.train[0].flatten()]
    for x, y in (data.train, data.val, data.test):
        part = "".join(data.classes[token] for token in x.flatten())
        after = "".join(data.classes[token] for token in y.flatten())
        assert part[1:] == after[:-1] and words.count(part + after[-1]) == 1
        assert words.index(part) >= len(stream)  # none shares a character with another
        stream = words[: words.index(part) + len(part) + 1]
    assert "".join(told) == words[: len(told)] and data.shape == (7,)


def test_tokens_are_bytes_or_characters():
    words = "naïve café, 18 °C\n" * 40
    characters, raw = text.windows(words, 5, "characters"), text.windows(words, 5, "bytes")
    assert characters.classes == sorted(set(words)) and characters.tokens == "characters"
    assert raw.vocabulary == len(set(raw.classes)) == 256 and raw.classes[97] == "a" and raw.classes[10] == "\\x0a"
    told = bytes(raw.train[0].flatten().tolist()).decode(errors="ignore")
    assert len(told) > 500 and words.startswith(told)


def test_many_kinds_of_characters():
    data = text.windows("".join(map(chr, range(0x4E00, 0x4E00 + 600))) * 3, 8, "characters")
    assert data.train[0].dtype == torch.int16 and data.vocabulary == 600 and data.train[0].max() == 599


def test_bits_per_byte_is_the_same_measure_for_either_token():
    """A coin for each byte costs a bit for each byte; two for a character of two."""
    words = "äxä" * 100
    raw, characters = text.windows(words, 4, "bytes"), text.windows(words, 4, "characters")
    assert math.isclose(math.log(2) * bits_per_byte(raw, raw.test[1]), 1)
    for targets in (torch.tensor([[0, 1]]), torch.tensor([[1, 1]])):  # x, ä
        sizes = sum(len(characters.classes[token].encode()) for token in targets[0])
        assert math.isclose(math.log(2) * bits_per_byte(characters, targets), 2 / sizes)


def test_pydocs_are_the_reference_of_this_python():
    data = load("pydocs", Path("unused"))
    told = "".join(data.classes[token] for token in data.train[0][:20].flatten())
    assert told.startswith('The "assert" statement') and len(data.train[1]) > 5000


def test_pydocs_where_python_has_none(patch):
    patch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(SpecError) as error:
        load("pydocs", Path("unused"))
    assert "libpython3-stdlib" in sentence(error)


def test_texts_refuse_a_window_that_is_too_long():
    with pytest.raises(SpecError) as error:
        DATASETS["pydocs"](Path("unused"), 0, context=10**6)
    most = re.search("'context': 1000000}: must be from 1 to ([0-9]+)", sentence(error))
    assert len(DATASETS["pydocs"](Path("unused"), 0, context=int(most[1])).val[1]) == 1


@pytest.mark.skipif(not (SHARED / "tinyshakespeare").is_dir(), reason="no tinyshakespeare in ../shared/data")
def test_real_plays():
    data = load("tinyshakespeare", SHARED)
    assert data.vocabulary == 65 and len(data.train[1]) == 13_942
    check("tinyshakespeare", SHARED)


def test_plays_that_are_not_the_published_ones(tmp_path, patch):
    path = write_plays(tmp_path, patch)
    check("tinyshakespeare", tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    for refuse in (check, load):
        with pytest.raises(SpecError) as error:
            refuse("tinyshakespeare", tmp_path)
        assert str(path) in sentence(error) and "MD5" in str(error.value)


def test_plays_are_downloaded_as_they_are(tmp_path, patch):
    contents = {"input.txt": write_plays(tmp_path / "made", patch).read_bytes()}
    publish(patch, "tinyshakespeare", contents, mirror(tmp_path / "m", contents))
    assert load("tinyshakespeare", tmp_path / "root").shape == (64,)
    assert [path.name for path in (tmp_path / "root" / "tinyshakespeare").iterdir()] == ["input.txt"]


# --- finding and downloading ------------------------------------------------------------------------------------------


def mirror(folder: Path, archives: dict[str, bytes]) -> str:
    folder.mkdir()
    for name, contents in archives.items():
        (folder / name).write_bytes(contents)
    return f"{folder.as_uri()}/"


def publish(patch, name: str, contents: dict[str, bytes], *mirrors: str) -> None:
    """Let SOURCES say that `contents` are the published ones."""
    archives = {
        archive: {file: hashlib.md5(contents[file]).hexdigest() for file in inside}
        for archive, inside in SOURCES[name].archives.items()
    }
    patch.setitem(SOURCES, name, replace(SOURCES[name], mirrors=mirrors, archives=archives))


def test_download_of_mnist_tries_the_next_mirror(tmp_path, patch, capsys):
    contents = {name: path.read_bytes() for name, path in write_mnist(tmp_path / "made").items()}
    good = mirror(tmp_path / "good", {f"{name}.gz": gzip.compress(raw) for name, raw in contents.items()})
    bad = mirror(tmp_path / "bad", {f"{name}.gz": gzip.compress(raw[:-1] + b"?") for name, raw in contents.items()})
    publish(patch, "mnist", contents, "file:///nowhere/", bad, good)

    data = load("mnist", tmp_path / "root")
    assert len(data.train[1]) == 36
    raw = tmp_path / "root" / "MNIST" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == contents  # unpacked, and nothing left beside
    assert "mnist: train-images-idx3-ubyte.gz" in capsys.readouterr().err

    patch.setitem(SOURCES, "mnist", replace(SOURCES["mnist"], mirrors=()))
    assert torch.equal(load("mnist", tmp_path / "root").train[0], data.train[0])


def test_download_of_cifar_unpacks_the_archive(tmp_path, patch):
    contents = cifar_batches()
    publish(patch, "cifar10", contents, mirror(tmp_path / "m", {"cifar-10-python.tar.gz": tar_gz(contents)}))
    assert len(load("cifar10", tmp_path / "root").train[1]) == 90
    assert {p.name for p in (tmp_path / "root" / "cifar-10-batches-py").iterdir()} == set(contents)


@pytest.mark.parametrize(
    "packed", [b"<html>moved</html>", gzip.compress(b"other"), gzip.compress(b"cut")[:-5]], ids=["page", "other", "cut"]
)  # named, since a gzip header holds the time, and every worker must collect the same names
def test_download_that_is_not_the_published_file_leaves_nothing(tmp_path, patch, packed):
    archives = dict.fromkeys(SOURCES["mnist"].archives, packed)
    patch.setitem(SOURCES, "mnist", replace(SOURCES["mnist"], mirrors=(mirror(tmp_path / "m", archives),)))
    with pytest.raises(SpecError):
        load("mnist", tmp_path / "root")
    assert not list((tmp_path / "root").iterdir())


@pytest.mark.parametrize("name", SOURCES)
def test_missing_files_and_no_mirror(tmp_path, name):
    with pytest.raises(SpecError) as error:
        load(name, tmp_path)
    text = sentence(error)
    assert str(tmp_path) in text and SOURCES[name].folder in text and "LEPTON_LAB_DATA" in text
    assert next(iter(SOURCES[name].files())) in text
    assert not list(tmp_path.iterdir())  # not even a folder


def test_root_that_was_named_and_is_missing(tmp_path, patch):
    missing = tmp_path / "typo"
    patch.setenv("LEPTON_LAB_DATA", str(missing))
    for refuse in (check, load):
        with pytest.raises(SpecError) as error:
            refuse("mnist", missing)
        assert "LEPTON_LAB_DATA" in sentence(error) and "typo" in str(error.value)
    check("digits", missing)  # needs no root
    assert not missing.exists()


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpecError) as error:
        load("mnist", tmp_path / "file")
    sentence(error)


def test_several_processes_download_once(tmp_path, patch):
    from concurrent.futures import ThreadPoolExecutor

    contents = {name: path.read_bytes() for name, path in write_mnist(tmp_path / "made").items()}
    archives = {f"{name}.gz": gzip.compress(raw) for name, raw in contents.items()}
    publish(patch, "mnist", contents, mirror(tmp_path / "m", archives))
    copied = []
    copy = files._copy
    patch.setattr(files, "_copy", lambda url, handle, label: (copied.append(url), copy(url, handle, label)))
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load("mnist", tmp_path / "root"), range(4)))
    assert len(copied) == 4 and len(loaded) == 4


# --- a user's own data ------------------------------------------------------------------------------------------------


class Squares(Dataset):
    def __init__(self, n=30, y=lambda i: i % 3, x=lambda i: torch.ones(2) * i):
        self.n, self.x, self.y = n, x, y

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.x(i), self.y(i)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


def pair(n=30, shape=(2,), dtype=torch.float32):
    return torch.rand(n, *shape).to(dtype), torch.arange(n) % 3


def test_own_pair_of_tensors_is_split_by_seed():
    x, y = pair()
    data = from_user((x, y), seed=1)
    assert len(data.train[1]) == 27 and len(data.val[1]) == 3 and data.test is None
    assert data.shape == (2,) and data.classes == ["0", "1", "2"] and data.mean == ()
    assert torch.equal(data.val[0], from_user((x, y), seed=1).val[0])
    assert not torch.equal(data.val[0], from_user((x, y), seed=2).val[0])
    assert torch.equal(torch.cat([data.train[0], data.val[0]]).sort(0).values, x.sort(0).values)


def test_own_train_and_test_and_val():
    train, val, test = pair(30), pair(10), pair(20)
    two, three = from_user((train, test), 0), from_user((train, val, test), 0)
    assert [len(s[1]) for s in (two.train, two.val, two.test)] == [27, 3, 20]
    assert [len(s[1]) for s in (three.train, three.val, three.test)] == [30, 10, 20]


def test_own_few_samples_are_all_trained_on():
    data = from_user((torch.eye(4), torch.tensor([0, 1, 1, 0])), 0)
    assert len(data.train[1]) == 4 and data.val is None


@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8", np.uint8, np.int64])
def test_own_numpy_arrays(dtype):
    x = np.arange(60).reshape(30, 2).astype(dtype)[::-1]  # reversed: strides that torch does not take
    x.setflags(write=False)
    data = from_user(((x, np.arange(30, dtype=np.int32) % 2), (x, np.zeros((30, 1), np.uint8))), 0)
    kind = np.dtype(dtype).kind
    assert data.train[0].dtype == {"f": torch.float32, "u": torch.uint8, "i": torch.int64}[kind]
    assert data.train[1].dtype == torch.int64 and data.test[1].shape == (30,) and data.classes == ["0", "1"]
    assert np.array_equal(data.test[0].numpy(), x.astype(data.test[0].numpy().dtype))


def test_own_regression():
    data = from_user((torch.rand(30, 2), torch.rand(30, 1, dtype=torch.float64)), 0)
    assert data.classes == [] and data.train[1].shape == (27, 1) and data.train[1].dtype == torch.float32


def test_own_tensor_datasets_become_pairs():
    whole = TensorDataset(*pair())
    assert torch.equal(from_user((whole, whole), 0).test[0], whole.tensors[0])
    part = from_user((whole, Subset(Subset(whole, range(0, 30, 2)), [1, 3])), 0).test
    assert torch.equal(part[0], whole.tensors[0][[2, 6]])


def test_own_datasets():
    data = from_user((Squares(), Squares(10)), 0)
    assert isinstance(data.train, Subset) and len(data.train) == 27 and len(data.val) == 3 and len(data.test) == 10
    assert data.shape == (2,) and data.classes == ["0", "1", "2"]
    assert not set(data.train.indices) & set(data.val.indices)
    assert from_user(Squares(y=float), 0).classes == []
    named = Squares()
    named.classes = ["cat", "dog", "owl"]
    assert from_user(Subset(named, range(20)), 0).classes == ["cat", "dog", "owl"]
    told = Squares(y=lambda i: 1 / 0)
    told.__class__ = type("Told", (Squares,), {"__getitem__": lambda self, i: (torch.ones(2), 0)})
    told.targets = [0, 4] * 15
    assert len(from_user(told, 0).classes) == 5


def test_a_plain_list_of_samples_is_a_split():
    pairs = [(torch.rand(2), i % 3) for i in range(30)]
    data = from_user(pairs, 0)
    assert len(data.train) == 27 and len(data.val) == 3 and data.shape == (2,) and data.classes == ["0", "1", "2"]
    assert len(from_user(pairs[:2], 0).train) == 2, "as many as (train, test) are"
    assert len(from_user([pairs, pairs[:4]], 0).test) == len(from_user((pairs, pairs[:4]), 0).test) == 4
    both = [(torch.rand(2), torch.rand(2)) for _ in range(30)]  # of arrays with as many rows, too
    assert len(from_user(both, 0).train) == 27 and from_user(both, 0).shape == (2,)
    assert len(from_user([(torch.rand(9, 2), torch.rand(9))] * 3, 0).train[0]) == 9, "three parts, as ever"
    ragged = [(torch.arange(1 + i % 4), i % 2) for i in range(30)]
    assert from_user(ragged, 0).collate is not None and from_user(ragged, 0).lengths.max() == 4
    nests = from_user([(torch.rand(2), {"boxes": torch.rand(i % 3 + 1, 4)}) for i in range(30)], 0)
    assert len(nests.train) == 27 and set(nests.example[1]) == {"boxes"}


def tokens(n=30, length=5, kinds=7):
    return torch.arange(n * length).view(n, length) % kinds


def test_own_tokens_with_a_label_each():
    for data in (
        from_user(((tokens(), torch.arange(30) % 2), (tokens(kinds=9), torch.arange(30) % 2)), 0),
        from_user((Squares(x=lambda i: tokens()[i]), Squares(x=lambda i: tokens(kinds=9)[i])), 0),
    ):
        assert data.vocabulary == 9 and data.shape == (5,) and len(data.classes) < 4 and data.tokens == ""


@pytest.mark.parametrize("last", [6, 9])
def test_own_tokens_with_the_next_one_as_target(last):
    x, y = tokens(), tokens().roll(-1, 1)
    y[0, 0] = last  # a token that no x holds
    for data in (from_user((x, y), 0), from_user((x, y.clamp(max=5)), 0), from_user(TensorDataset(x, y), 0)):
        assert data.vocabulary == len(data.classes) >= 7 and data.train[1].shape == (27, 5)
    assert from_user(Squares(x=lambda i: x[i], y=lambda i: y[i]), 0).vocabulary == last + 1


@pytest.mark.parametrize("x", [torch.rand(30, 4), torch.zeros(30, 4).byte(), -tokens(), tokens().view(30, 1, 5)])
def test_own_numbers_that_are_no_tokens(x):
    assert from_user((x, torch.arange(30) % 2), 0).vocabulary == 0


def ragged():
    data = Squares()
    data.targets = [[1] * (i % 3) for i in range(30)]
    return data


def nan_at(row):
    """x with NaN in two rows, and y with infinity in one."""
    x, y = torch.ones(9, 2), torch.ones(9, 2)
    x[row, 1] = x[8, 0] = torch.nan
    y[3] = -torch.inf
    return x, y


def test_own_types_of_numbers_become_such_as_models_take():
    y = torch.arange(30) % 3
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        assert from_user((torch.ones(30, 2, dtype=kind), y), 0).train[0].dtype == torch.float32
    pictures = torch.full((30, 1, 2, 2), 65535, dtype=torch.int32).to(torch.uint16)
    assert torch.equal(from_user((pictures, y), 0).train[0], torch.ones(27, 1, 2, 2))
    assert from_user((torch.ones(30, 2), y.to(torch.float8_e5m2)), 0).train[1].dtype == torch.float32
    huge = torch.full((30, 2), 3e38)  # whose sum is infinite
    assert from_user((huge, y), 0).shape == (2,)


@pytest.mark.parametrize(
    ("y", "refused"),
    [
        (torch.eye(3).repeat(10, 1).long(), True),
        (torch.eye(3).repeat(10, 1).bool(), True),
        (torch.eye(3).repeat(10, 1), False),
        (torch.ones(30, 2).long(), False),  # one a step of x
    ],
)
def test_own_rows_of_zeros_and_ones_are_no_labels_for_the_usual_loss(y, refused):
    data = from_user((torch.rand(30, 2, 5), y), 0)
    with pytest.raises(SpecError, match=r"y.argmax\(1\)") if refused else contextlib.nullcontext():
        usual(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Stream(), "train is empty"),
        (DataLoader(Squares()), "DataLoader"),
        (Squares(0), "empty"),
        ((torch.ones(0, 2), torch.ones(0)), "empty"),
        ((Squares(), Squares(0)), "test is empty"),
        ((torch.ones(3, 2), torch.ones(4)), "3 samples in x and 4 in y"),
        ((torch.tensor(1.0), torch.ones(4)), "single number"),
        ((np.array(["a", "b"]), np.ones(2)), "x is an array of <U1"),
        ((pair(), pair(shape=(3,))), "test has samples of shape (3,)"),
        ((torch.ones(3, 2), torch.tensor([0, -1, 1])), "label -1"),
        (Squares(x=lambda i: "picture"), "str as x"),
        ([1, 2, 3, 4], "list of 4"),
        (7, "train is a int"),
        ({"train": 1}, "train is a dict"),
        (([1, 2, 3], Squares()), "not a pair (x, y)"),
        ((torch.eye(9).to_sparse(), torch.ones(9)), "x is a sparse tensor (sparse_coo), which"),
        (lambda: (torch.eye(9).to_sparse_csr(), torch.ones(9)), "x is a sparse tensor (sparse_csr), which"),
        (Squares(x=lambda i: torch.eye(3).to_sparse()), "train[0]'s x is a sparse tensor"),
        ((torch.ones(9, 2, dtype=torch.cfloat), torch.ones(9)), "train x is complex"),
        ((torch.ones(9, 2), torch.ones(9, dtype=torch.cfloat)), "train y is complex"),
        ((np.ones((9, 2)), np.ones(9, dtype=complex)), "train y is complex"),
        (Squares(y=lambda i: 1j), "train[0] has a complex as y"),
        (lambda: (torch.nested.nested_tensor([torch.ones(3), torch.ones(5)]), torch.ones(2)), "x is a nested tensor"),
        (lambda: (torch.quantize_per_tensor(torch.ones(9, 2), 0.1, 0, torch.quint8), torch.ones(9)), "is a quantized"),
        (ragged(), "train has targets of different shapes"),
        (Squares(None), "train has no length that len() can tell"),
        (Squares(y=lambda i: "cat"), "train[0] has a str as y; number the labels 0, 1, ..."),
        (Squares(y=lambda i: "cat" if i else 0), "train has <U21 as y; number the labels"),
        ((torch.ones(9, 2, dtype=torch.uint16), torch.ones(9)), "x is uint16, which may be tokens or numbers"),
        (Squares(x=lambda i: np.ones(3, np.uint16)), "train[0]'s x is uint16, which may be tokens or numbers"),
        (Squares(x=lambda i: torch.ones(3, dtype=torch.uint32)), "train[0]'s x is uint32, which may be tokens"),
        ((torch.ones(9, 2, device="meta"), torch.ones(9)), "x is a tensor of the device meta"),
        ((torch.ones(9, 2), torch.full((9,), 1e300, dtype=torch.float64)), "train y holds infinity in row 0"),
        ((torch.ones(9, 2), torch.full((9,), -100)), "all labels are -100, which the loss leaves out"),
        (nan_at(4), "train x holds NaN in row 4 and in 1 more; fill such rows"),
        ((pair(), pair(), (nan_at(4)[1], torch.arange(9) % 3)), "test x holds infinity in row 3"),
        ((pair(), (torch.ones(9, 2), nan_at(0)[0][:, 1]), pair()), "val y holds NaN in row 0"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of torch's, that such tensors are prototypes
def test_own_data_that_does_not_fit(data, said):
    with pytest.raises(SpecError) as error:
        from_user(data() if callable(data) else data, 0)
    assert said in sentence(error)
