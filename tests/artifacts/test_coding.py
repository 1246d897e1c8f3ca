"""Coded weights: the same numbers again, bit for bit, in few bytes; and bytes that are none are refused."""

import numpy as np
import pytest

from lepton_lab.artifacts import coding
from lepton_lab.errors import LabError

RANDOM = np.random.default_rng(0)
VALUES = np.float32([-1.5, 0.25, 0.75, 3.1])
SPARSE = np.where(RANDOM.random((300, 400)) < 0.03, RANDOM.choice(VALUES, (300, 400)), np.float32(0))
TENSORS = {
    "few values, most of them 0": SPARSE,
    "few values, none 0": RANDOM.choice(np.float32([-1.5, 0.25, 0.75]), (40, 50)),
    "no kept weight": np.zeros((7, 300), np.float32),
    "the last one of a long gap": np.eye(1, 5000, 4999, dtype=np.float32),
    "gaps of 254 to 256": np.float32([1.0, *[0.0] * 254, 1.0, *[0.0] * 255, 1.0, *[0.0] * 256, 1.0]),
    "many values": RANDOM.normal(size=(30, 40)).astype(np.float32),
    "bfloat16": (np.float32([1.5, -2.25, 0.0]) * 2**40),
    "odd ones": np.float32([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40] * 20),
    "a single one": np.float32(3.1).reshape(()),
    "none": np.zeros((0, 3), np.float32),
    "a view": RANDOM.normal(size=(40, 30)).astype(np.float32).T,
}


def test_every_tensor_comes_back_bit_for_bit():
    again = coding.unpack(coding.pack(TENSORS))
    assert [*again] == [*TENSORS]
    for name, tensor in TENSORS.items():
        assert again[name].shape == tensor.shape and again[name].tobytes() == tensor.tobytes(), name


def test_few_values_take_few_bits():
    kept = np.count_nonzero(SPARSE)
    gaps = -0.03 * np.log2(0.03) - 0.97 * np.log2(0.97)  # bits a place, at least, of where weights are
    least = (SPARSE.size * gaps + kept * 2) / 8
    assert least < len(coding.pack({"weight": SPARSE})) < 1.15 * least + 150


@pytest.mark.parametrize("where", [0, 5, 40, -1])
def test_what_is_changed_or_cut_is_refused_or_read_in_full(where):
    """The file's hash finds it first; a stranger's file may have another one."""
    coded = coding.pack(TENSORS)
    changed = coded.copy()
    changed[where] ^= 0xFF
    for wrong in (changed, coded[: len(coded) // 2], coded[:3]):
        try:
            again = coding.unpack(wrong)
        except LabError as error:
            assert "its coded weights can't be read" in str(error) and "\n" not in str(error)
        else:
            assert {name: t.shape for name, t in again.items()} == {name: t.shape for name, t in TENSORS.items()}


def test_more_numbers_than_are_read_take_no_memory(monkeypatch):
    coded = coding.pack({"weight": np.zeros(2**16, np.float32)})
    monkeypatch.setitem(coding.LARGEST, "numbers", 2**15)
    with pytest.raises(LabError, match="more numbers than are read"):
        coding.unpack(coded)
