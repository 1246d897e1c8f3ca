"""A user's own data by path: each kind from files to batches, what is told of it before, and what is refused."""

import contextlib
import json
import os
import random
import re
import struct

import numpy as np
import pytest
import torch
from helpers import ROOT, Late, call
from hypothesis import given, settings
from hypothesis import strategies as st

import lepton_lab as lab
from lepton_lab import datasets
from lepton_lab.datasets import DATASETS, OPENERS
from lepton_lab.datasets.paths import naming, parting, plain, reading, rows, waves
from lepton_lab.datasets.paths.files import files
from lepton_lab.spec import Spec
from lepton_lab.store.naming import title
from lepton_lab.tables import entry_options, keywords, trait

Image = Late("PIL.Image")


def load(name, seed=0, **options):
    return datasets.load(Spec(dataset=name, seed=seed, options=options))


def sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 500
    return text


def write_photos(folder, count=20, classes=("cat", "dog"), side=10, colour=True):
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            level = 40 + 80 * label + i
            shape = (side, side, 3) if colour else (side, side)
            kind = "png" if i % 2 else "jpg"
            Image.fromarray(np.full(shape, level, np.uint8)).save(folder / name / f"{i}.{kind}", quality=95)
    return folder


def write_wav(path, values, rate=8000, coding="i2", channels=1):
    """Samples from -1 to 1 as a WAV file of a coding, by hand."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.repeat(np.asarray(values, np.float64)[:, None], channels, 1)
    bits = 8 * int(coding[1])
    if coding[0] == "f":
        body = values.astype(f"<{coding}").tobytes()
    elif coding == "u1":
        body = np.round(values * 127 + 128).astype(np.uint8).tobytes()
    elif coding == "i3":
        wide = np.round(values * (2**23 - 1)).astype("<i4")
        body = wide.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    else:
        body = np.round(values * (2 ** (bits - 1) - 1)).astype(f"<{coding}").tobytes()
    form = struct.pack("<HHIIHH", 3 if coding[0] == "f" else 1, channels, rate, 0, channels * bits // 8, bits)
    parts = b"fmt " + struct.pack("<I", 16) + form + b"LIST\3\0\0\0abc\0" + b"data" + struct.pack("<I", len(body))
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(parts) + len(body)) + b"WAVE" + parts + body)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_path_has_an_entry_wherever_tables_are_asked(photos):
    name = f"images:{photos}"
    assert name in DATASETS and DATASETS.get(name).__doc__ == OPENERS["images"].__doc__
    assert entry_options("dataset", name).keys() == keywords(OPENERS["images"]).keys() >= {"size", "unreadable"}
    assert trait("dataset", name, "sample") == ((3, 10, 10), 2, 0)
    assert name not in list(DATASETS) and DATASETS.get("images:") is None and DATASETS.get("pictures:x") is None
    assert "images" not in DATASETS


@pytest.mark.parametrize("kind", OPENERS)
def test_every_kind_is_documented_and_refuses_what_is_not_there(kind, tmp_path):
    entry = DATASETS[f"{kind}:{tmp_path / 'none'}"]
    assert entry.__doc__.strip().splitlines()[0].endswith(".")
    assert all(rule.description for rule in keywords(entry).values())
    with pytest.raises(lab.SpecError) as error:
        lab.launch(Spec(dataset=f"{kind}:{tmp_path / 'none'}"))
    assert sentence(error).startswith(f"dataset='{kind}:")
    assert "no such file or folder" in str(error.value) or kind == "shards"  # which may be an address
    assert lab.runs() == []


def test_the_readme_has_every_kind():
    readme = (ROOT / "README.md").read_text()
    row = next(line for line in readme.splitlines() if line.startswith("| by path |"))
    assert re.findall(r"`([a-z]+)`", row.split("|")[3]) == list(OPENERS)
    assert {kind for kind in OPENERS if f"| `{kind}:" not in readme} == set()


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(lab.SpecError) as error:
        Spec(dataset="image:photos/")
    assert "did you mean 'images:PATH'?" in str(error.value) and "table:PATH" in str(error.value)


def test_a_path_that_is_slightly_wrong_is_put_right(photos):
    with pytest.raises(lab.SpecError) as error:
        load(f"images:{photos.parent / 'foto'}")
    assert "did you mean 'photos'?" in sentence(error)


def test_a_path_counts_from_here_then_from_the_root_of_data(tmp_path, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_DATA", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root" / "a").mkdir(parents=True)
    assert datasets.settled("images:a") == f"images:{tmp_path / 'root' / 'a'}"
    (tmp_path / "a").mkdir()
    assert datasets.settled("images:a/") == f"images:{tmp_path / 'a'}"
    (tmp_path / "root" / "x-0.tar").touch()
    assert datasets.settled("shards:x-{0..1}.tar") == f"shards:{tmp_path}/root/x-{{0..1}}.tar"
    (tmp_path / "x-0.tar").touch()
    assert datasets.settled("shards:x-{0..1}.tar") == f"shards:{tmp_path}/x-{{0..1}}.tar"
    assert datasets.settled("digits") == "digits" and datasets.settled("cell:Mine") == "cell:Mine"
    assert naming.place("s3://bucket/a", tmp_path) == "s3://bucket/a"


def test_a_run_keeps_the_path_in_full_and_yaml_keeps_it_as_written(photos, monkeypatch, tmp_path):
    monkeypatch.chdir(photos.parent)
    spec = Spec(dataset="images:photos/", model="mlp", epochs=1, device="cpu")
    assert Spec.load(spec.to_yaml()) == spec and "images:photos/" in spec.to_yaml()
    run = lab.launch(spec)
    assert run.wait() == "done", run.error
    assert run.spec.dataset == f"images:{photos}"
    monkeypatch.chdir(tmp_path)
    assert lab.repeat(run, seed=1).wait() == "done"
    assert title(run.spec) == "mlp on images:photos"
    record = run.provenance["data"]
    assert record["files"] == 40 and record["digest"] == lab.attach(run.id).provenance["data"]["digest"]
    small = lab.compress(run, ["low_rank"])
    assert small.wait() == "done", small.error
    _, refused = call("run", "--like", run.id, "--dataset", f"images:{photos.parent}/fotos", code=2)
    assert "did you mean 'photos'?" in refused


# --- parts ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(0, 5), st.sets(st.sampled_from(["val", "test"])))
def test_each_sample_is_dealt_once(count, seed, given_parts):
    parts = {"train": range(count), **{part: [f"{part}{i}" for i in range(3)] for part in given_parts}}
    dealt = parting.deal(parts, seed)
    everything = [sample for samples in dealt.values() for sample in samples]
    assert sorted(map(str, everything)) == sorted(str(sample) for part in parts.values() for sample in part)
    assert len(dealt["train"]) >= 1
    if "val" in given_parts:
        assert [*dealt["train"]] == [*range(count)]


def test_folders_of_parts_are_these_parts(tmp_path):
    for part in ("train", "valid", "test"):
        write_photos(tmp_path / part, count=12 if part == "train" else 3)
    data = load(f"images:{tmp_path}")
    assert [len(part[1]) for part in (data.train, data.val, data.test)] == [24, 6, 6]
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "cow")
    with pytest.raises(lab.SpecError) as error:
        load(f"images:{tmp_path}")
    assert "test has the class 'cow', which train lacks" in sentence(error)


# --- images -----------------------------------------------------------------------------------------------------------


def test_images_keep_their_pixels_classes_and_size(photos):
    data = load(f"images:{photos}")
    x, y = data.train
    assert x.shape == (32, 3, 10, 10) and x.dtype == torch.uint8 and data.classes == ["cat", "dog"]
    assert len(data.val[1]) == len(data.test[1]) == 4
    assert torch.equal(y, (x[:, 0, 0, 0] > 100).long())
    assert data.mean[0] == pytest.approx(float(x.double().div(255).mean()), abs=1e-3)
    again, other = load(f"images:{photos}"), load(f"images:{photos}", seed=1)
    assert torch.equal(again.train[0], x) and not torch.equal(other.train[0], x)


def test_images_are_scaled_cut_and_turned_as_asked(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            pixels = np.zeros((20, 40, 4), np.uint8)
            pixels[:, 10:30] = 255, 0, 0, 255  # red in the middle, else transparent
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    name = f"images:{tmp_path}"
    cut, stretched = load(name, size=20).train[0], load(name, size=20, fit="stretch").train[0]
    assert cut.shape == (6, 3, 20, 20) and (cut[:, 1] < 5).all(), "the middle alone"
    assert (stretched[0, 1, :, 0] == 255).all(), "what is transparent is white"
    assert load(name, size=20, colour="grey").train[0].shape == (6, 1, 20, 20)
    assert load(name).shape == (3, 20, 40), "of one size they stay as they are"
    Image.fromarray(np.zeros((30, 30), np.uint16) + 65535).save(tmp_path / "a" / "deep.png")
    assert load(name).shape == (3, 64, 64), "of several sizes they are scaled"
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera that was held upright
    Image.fromarray(np.zeros((8, 4, 3), np.uint8)).save(tmp_path / "a" / "turned.jpg", exif=exif)
    assert "8 x 4" in lab.look(name).facts["sizes"] or "4 to 40" in lab.look(name).facts["sizes"]


def test_what_a_telephone_puts_behind_a_photo_is_passed_over(tmp_path):
    photo = next(write_photos(tmp_path / "photos").glob("*/*.jpg"))
    photo.write_bytes(photo.read_bytes() + b"a film" * 100)
    assert not lab.look(f"images:{tmp_path / 'photos'}").unreadable


def test_deep_grey_keeps_its_levels(tmp_path):
    write_photos(tmp_path, count=2, colour=False)
    Image.fromarray(np.full((10, 10), 32896, np.uint16)).save(tmp_path / "cat" / "deep.png")
    x, _ = load(f"images:{tmp_path}").train
    assert x.shape[1] == 1 and 128 in x[:, 0, 0, 0].tolist()


def break_middle(path):
    """Damage what only decoding finds."""
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0xFF
    path.write_bytes(body)


@pytest.mark.parametrize("held", [True, False])
def test_broken_images_are_named_or_skipped_and_counted(tmp_path, monkeypatch, held):
    if not held:
        monkeypatch.setattr(reading, "HELD", 0)
    write_photos(tmp_path)
    rng = np.random.default_rng(0)
    inner = tmp_path / "dog" / "inner.png"
    Image.fromarray(rng.integers(0, 256, (10, 10, 3), np.uint8)).save(inner)
    break_middle(inner)
    short = tmp_path / "cat" / "3.png"
    short.write_bytes(short.read_bytes()[:-20])
    (tmp_path / "dog" / "text.jpg").write_text("no image")
    (tmp_path / "notes.txt").write_text("left out")
    name = f"images:{tmp_path}"
    with pytest.raises(lab.SpecError) as error:
        lab.launch(Spec(dataset=name, model="mlp"))
    assert "2 files can't be read: cat/3.png (cut short), dog/text.jpg (no image that Pillow knows)" in sentence(error)
    assert lab.runs() == []
    data = load(name, unreadable="skip")
    assert sum(datasets.length(part) for part in (data.train, data.val, data.test)) == 39
    assert len(data.about["train"]["file"]) == datasets.length(data.train)
    assert data.remarks[0].startswith("3 files that can't be read were left out") and "inner.png" in data.remarks[0]
    look = lab.look(name, unreadable="skip")
    assert list(look.unreadable) == ["cat/3.png", "dog/text.jpg"] and "1, passed over" in look.facts["other files"]


def test_many_images_are_read_as_they_are_asked_for(photos, monkeypatch):
    held = load(f"images:{photos}")
    monkeypatch.setattr(reading, "HELD", 0)
    data = load(f"images:{photos}")
    assert len(data.train) == 32 and data.mean == held.mean and data.train.targets == held.train[1].tolist()
    x, y = data.train[5]
    assert torch.equal(x, held.train[0][5]) and y == held.train[1][5]
    data.train.items[5] = photos / "cat" / "gone.png", 0
    with pytest.raises(ValueError, match="gone.png can't be read"):
        data.train[5]


def test_a_run_tells_what_was_skipped(tmp_path):
    write_photos(tmp_path)
    (tmp_path / "cat" / "0.jpg").write_bytes(b"")
    spec = Spec(dataset=f"images:{tmp_path}", model="mlp", epochs=1, options={"unreadable": "skip"}, device="cpu")
    run = lab.launch(spec)
    assert run.wait() == "done", run.error
    assert any("1 file that can't be read was left out: cat/0.jpg" in str(row) for row in run.rows("note"))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda folder: None, "no images in it"),
        (lambda folder: (folder / "notes.txt").write_text("x"), "1 other files, such as notes.txt"),
        (lambda folder: write_photos(folder, classes=("cat",)), "all are of one class, 'cat'; make a folder for each"),
        (lambda folder: [p.rename(folder / p.name) for p in write_photos(folder).glob("cat/*")]
         and [p.unlink() for p in folder.glob("dog/*")], "lie in no folder of a class"),
    ],
)  # fmt: skip
def test_folders_without_images_of_two_classes_are_refused(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(lab.SpecError) as error:
        lab.look(f"images:{tmp_path}")
    assert words in sentence(error)


def test_a_look_shows_what_there_is(photos):
    look = lab.look(f"images:{photos}")
    assert look.classes == {"cat": 20, "dog": 20} and look.splits == {"train": 40} and len(look.examples) == 5
    text = str(look)
    assert "all 10 x 10 pixels, in colour" in text and "cat      20 ####" in text and "imbalance" not in text
    page = look._repr_html_()
    assert page.count("data:image/png;base64,") == 5 and "<script" not in page
    uneven = write_photos(photos.parent / "uneven", count=1)
    for i in range(5):
        Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save(uneven / "cat" / f"more{i}.png")
    assert "cat has 6 samples, dog 1" in str(lab.look(f"images:{uneven}"))


def test_a_look_at_a_set_of_the_table():
    look = lab.look("blobs", samples=100, classes=4)
    assert look.splits == {"train": 80, "val": 10, "test": 10} and sum(look.classes.values()) == 100
    with pytest.raises(lab.SpecError, match="clases"):
        lab.look("blobs", clases=4)


def test_a_picture_is_a_file_that_others_read(photos, tmp_path):
    from lepton_lab.datasets.paths.examples import png

    for shape in ((1, 5, 7), (3, 4, 9)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        (tmp_path / "x.png").write_bytes(png(pixels))
        read = np.asarray(Image.open(tmp_path / "x.png"))
        assert np.array_equal(read, pixels[0] if shape[0] == 1 else pixels.transpose(1, 2, 0))


# --- tables -----------------------------------------------------------------------------------------------------------


def write_houses(path, rows=60, separator=",", target="price"):
    lines = [separator.join(["id", "town", "size", "built", target])]
    rng = random.Random(0)
    for i in range(rows):
        town, size = "ABC"[i % 3], rng.randint(30, 200)
        lines.append(separator.join(map(str, [i, town, size, f"20{i % 30:02d}-0{i % 9 + 1}-11", size * 1000.5])))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_columns_are_numbers_categories_and_times(tmp_path):
    name = f"table:{write_houses(tmp_path / 'houses.csv')}"
    data = load(name)
    assert data.classes == [] and data.shape == (5,)  # three towns, size, built
    x, y = data.train
    assert x.dtype == y.dtype == torch.float32 and len(y) == 48
    assert torch.allclose(x[:, 3:].mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(x[:, :3].sum(1), torch.ones(48)) and np.corrcoef(x[:, 3], y)[0, 1] > 0.999
    assert abs(float(load(name, scale_target=True).train[1].mean())) < 1e-5
    text = str(lab.look(name))
    assert "target      price; a guess" in text or "price; a guess" in text
    assert "left out: numbers the rows" in text and "category: 3 kinds: A, B, C" in text and "time: 2000-" in text


def test_a_target_of_texts_or_few_numbers_is_of_classes(tmp_path):
    path = write_houses(tmp_path / "houses.csv")
    data = load(f"table:{path}", target="town", ignore="built, id")
    assert data.classes == ["A", "B", "C"] and data.shape == (2,) and data.train[1].dtype == torch.int64
    assert len(data.about["train"]["built"]) == 48, "what no model sees may still deal samples to splits"
    frame = path.read_text().replace("price", "rooms").splitlines()
    rows = [f"{line.rsplit(',', 1)[0]},{i % 4}" for i, line in enumerate(frame[1:])]
    (tmp_path / "few.csv").write_text("\n".join([frame[0], *rows]))
    assert load(f"table:{tmp_path / 'few.csv'}", target="rooms").classes == ["0", "1", "2", "3"]
    assert load(f"table:{tmp_path / 'few.csv'}", target="rooms", answer="number").classes == []


@pytest.mark.parametrize("name, separator", [("h.tsv", "\t"), ("h.csv", ";")])
def test_columns_may_be_apart_by_other_marks(tmp_path, name, separator):
    assert load(f"table:{write_houses(tmp_path / name, separator=separator)}").shape == (5,)


def test_parquet_and_parts_in_a_folder(tmp_path):
    import pandas

    frame = pandas.read_csv(write_houses(tmp_path / "houses.csv"))
    (tmp_path / "parts").mkdir()
    frame.to_parquet(tmp_path / "parts" / "train.parquet")
    frame[:10].to_parquet(tmp_path / "parts" / "test.parquet")
    data = load(f"table:{tmp_path / 'parts'}")
    assert [len(part[1]) for part in (data.train, data.val, data.test)] == [54, 6, 10]


def test_files_of_parts_have_their_columns_in_any_order_and_number_their_rows(tmp_path):
    for part in ("test", "train"):
        order = ["id", "a", "y"] if part == "train" else ["y", "a", "id"]
        rows = ({"id": i, "a": i * 7 % 13, "y": i % 2} for i in range(40))
        lines = [",".join(order), *(",".join(str(row[name]) for name in order) for row in rows)]
        (tmp_path / f"{part}.csv").write_text("\n".join(lines))
    data = load(f"table:{tmp_path}", target="y")
    assert data.shape == (1,) and data.test[1].tolist() == [i % 2 for i in range(40)]
    (tmp_path / "test.csv").write_text("id,a\n1,2\n")
    with pytest.raises(lab.SpecError) as error:
        load(f"table:{tmp_path}")
    assert "its files have different columns: not all of them have y" in sentence(error)


def test_a_class_that_train_lacks_is_refused(tmp_path):
    for part, labels in (("train", "ab"), ("test", "abc")):
        rows = [f"{i},{labels[i % len(labels)]}" for i in range(30)]
        (tmp_path / f"{part}.csv").write_text("\n".join(["x,y", *rows]))
    with pytest.raises(lab.SpecError) as error:
        load(f"table:{tmp_path}")
    assert "test has the class 'c', which train lacks" in sentence(error)
    x, y = np.zeros((6, 2)), np.array([0, 1, 3] * 2)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y - 1 + (y == 0))
    with pytest.raises(lab.SpecError) as error:
        load(f"npz:{tmp_path / 'a.npz'}")
    assert "test has the class 2, which train lacks" in sentence(error)


@pytest.mark.parametrize(
    ("name", "text", "numbers"),
    [
        ("t.csv", "a;b;y\n1,5;2;k\n-2,25;4,5;l\n3;1;k\n", [[1.5, -2.25, 3.0], [2.0, 4.5, 1.0]]),
        ("t.csv", 'a,b,y\n"1,234",1,k\n"12,000",2,l\n5,1,k\n', [[1234.0, 12000.0, 5.0], [1.0, 2.0, 1.0]]),
        ("t.tsv", "a\tb\ty\n1,250\t1\tk\n\t2\tl\n2,5\t1\tk\n", [[1.25, np.nan, 2.5], [1.0, 2.0, 1.0]]),
    ],
)
def test_numbers_may_have_commas(tmp_path, name, text, numbers):
    (tmp_path / name).write_text(text)
    found = rows.read(files("table", str(tmp_path / name))).frame
    assert np.allclose(found[["a", "b"]].to_numpy(float).T, numbers, equal_nan=True)
    assert lab.look(f"table:{tmp_path / name}").facts["  a"].startswith("number: ")


def test_texts_with_commas_stay_texts(tmp_path):
    (tmp_path / "t.csv").write_text("a;b;y\n1,5;2;k\nx,2;4;l\n1,2,3;1;k\n1,5;2;k\n")
    assert lab.look(f"table:{tmp_path / 't.csv'}").facts["  a"].startswith("category: ")


def test_two_columns_of_one_name_are_refused(tmp_path):
    import pyarrow
    from pyarrow import parquet

    made = pyarrow.Table.from_arrays([pyarrow.array([1.0, 2.0, 3.0])] * 2 + [["k", "l", "k"]], names=["a", "a", "y"])
    parquet.write_table(made, tmp_path / "t.parquet")
    for kind, what in (("table", "t.parquet has two columns called 'a'"), ("shards", "has two columns called 'a'")):
        with pytest.raises(lab.SpecError) as error:
            lab.look(f"{kind}:{tmp_path / 't.parquet'}")
        assert what in sentence(error)


def test_missing_values_are_told_filled_dropped_or_refused(tmp_path):
    lines = write_houses(tmp_path / "houses.csv").read_text().splitlines()
    lines[5] = ",".join("" if place == 2 else cell for place, cell in enumerate(lines[5].split(",")))
    path = tmp_path / "holes.csv"
    path.write_text("\n".join(lines))
    name = f"table:{path}"
    assert "1 missing" in str(lab.look(name))
    count = lambda data: sum(datasets.length(part) for part in (data.train, data.val, data.test))  # noqa: E731
    assert count(load(name)) == 60 and count(load(name, missing="drop")) == 59
    assert not load(name).train[0].isnan().any()
    with pytest.raises(lab.SpecError) as error:
        load(name, missing="refuse")
    assert "values are missing in size (1)" in sentence(error)
    lines[7] = lines[7].rsplit(",", 1)[0] + ","
    path.write_text("\n".join(lines))
    with pytest.raises(lab.SpecError) as error:
        load(name)
    assert "1 row has no 'price', which is to be predicted, such as line 8" in sentence(error)
    assert count(load(name, missing="drop")) == 58


@pytest.mark.parametrize(
    "text, options, words",
    [
        ("a,b\n1,2\n", {"target": "c"}, "there is no such column"),
        ("a,b\n1,2\n", {"target": "B"}, "did you mean 'b'?"),
        ("a,b\n1,2\n2,3\n3\n4,5,6\n", {}, "line 5 has 3 columns, its first 2"),
        ("age,y\n1,0\n2,1\nunknown,0\n4,1\n", {}, "column 'age' holds numbers and 1 texts: unknown (line 4); mend"),
        ("a,b\n", {}, "a line of names, and no rows"),
        ("5.1,3.5,setosa\n4.9,3,setosa\n", {}, "holds numbers, such as 5.1, and no names of columns"),
        ("", {}, "is empty"),
        ("a\n1\n2\n", {}, "one column, 'a'"),
        ("a,y\n1,x\n2,x\n", {}, "the target 'y' is always x, which leaves nothing to learn"),
        ("a,y\n1,x\n1,z\n", {}, "every other column is left out"),
        ("a,y\n1,x\n2,z\n", {"answer": "number"}, "the target 'y' is no number"),
        ("a,y\n1,2,x\n2,3,z\n", {}, "rows of t.csv have more columns than its first line"),
        ("a,y\n1,0\n2,1\ninf,0\n4,1\n", {}, "column 'a' holds numbers and 1 texts: inf (line 4)"),
    ],
)
def test_tables_that_are_none_are_refused_in_a_sentence(tmp_path, text, options, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(lab.SpecError) as error:
        lab.look(f"table:{tmp_path / 't.csv'}", **options)
    assert words in sentence(error)
    (tmp_path / "t.csv").write_bytes(b"a,b\n\xff\xfe,2\n")
    with pytest.raises(lab.SpecError, match="not text in UTF-8"):
        lab.look(f"table:{tmp_path / 't.csv'}")


def test_columns_of_times_with_zones_of_lists_and_of_what_is_infinite(tmp_path):
    import pandas

    times = [f"2024-01-{1 + i}T00:00:00+0{i % 3}:00" for i in range(30)]
    frame = pandas.DataFrame({"a": range(30), "when": times, "words": [[i] for i in range(30)], "y": [0, 1] * 15})
    frame["zoned"] = pandas.to_datetime(frame["when"], utc=True)
    frame["odd"] = [float("inf"), *range(29)]
    (tmp_path / "notes.txt").write_text("No table, but a note beside one.")
    frame.to_parquet(tmp_path / "train.parquet")
    data = load(f"table:{tmp_path}", target="y", mixed="missing")
    assert data.shape == (4,) and data.train[0].abs().max() < 3
    assert "lists or records" in str(lab.look(f"table:{tmp_path}", target="y", mixed="missing"))


@pytest.mark.parametrize("kind", ["table", "lines"])
def test_a_line_of_two_gigabytes_is_refused_unread(tmp_path, kind):
    path = tmp_path / "long.csv"
    with path.open("wb") as file:
        file.write(b"a\tb\n1\t2\n")
        os.truncate(file.fileno(), 2**31)  # a hole in the file, which takes no room
    with pytest.raises(lab.SpecError) as error:
        lab.look(f"{kind}:{path}")
    assert f"line 3 of long.csv is longer than {plain.LONGEST // 2**20} MiB" in sentence(error)


# --- texts ------------------------------------------------------------------------------------------------------------


def test_lines_have_their_label_in_a_column(tmp_path):
    rows = [f"{['spam', 'ham', 'ham'][i % 3]}\tmessage {i} of a friend" for i in range(40)]
    path = tmp_path / "mails.tsv"
    path.write_text("label\ttext\n" + "\n".join(rows) + "\n")
    data = load(f"lines:{path}", length=24)
    x = data.train[0]
    assert data.classes == ["ham", "spam"] and x.shape == (32, 24) and data.vocabulary == int(x.max()) + 1
    assert data.sample == ((24,), 2, data.vocabulary) == datasets.outline(f"lines:{path}", {"length": 24})
    words = load(f"lines:{path}", tokens="words", most=5)
    assert words.vocabulary == 7 and load(f"lines:{path}", tokens="bytes").vocabulary == 257
    assert lab.look(f"lines:{path}").classes == {"ham": 26, "spam": 14}
    alone = path.rename(tmp_path / "test.tsv")
    assert lab.look(f"lines:{alone}").splits == {"train": 40}, "a file alone is trained on, whatever it is called"


def test_marks_within_a_text_end_no_line_and_names_are_in_order(tmp_path):
    (tmp_path / "t.txt").write_text("".join(f"a\u2028b\x0c{i}\t{['10', '9', '²'][i % 3]}\n" for i in range(30)))
    data = load(f"lines:{tmp_path / 't.txt'}")
    assert data.classes == ["9", "10", "²"] and len(data.train[1]) == 24


def test_files_are_samples_of_their_folder_s_class(tmp_path):
    for label in ("ham", "spam"):
        (tmp_path / label).mkdir()
        for i in range(10):
            (tmp_path / label / f"{i}.txt").write_text(f"{label} {i}\nsecond line\n")
    assert lab.look(f"lines:{tmp_path}", each="file").splits == {"train": 20}
    assert lab.look(f"lines:{tmp_path}").splits == {"train": 40}
    assert "repeated" in lab.look(f"lines:{tmp_path}").told


@pytest.mark.parametrize(
    "text, words",
    [
        ("no label here\nnor here\n", "have no tab, and so no label"),
        ("a\tx\nb\tx\n", "all samples have the label"),
        ("a\tx\nb\ty\nc\n", "line 3 of t.txt has 1 columns, others have 2"),
        ("", "no tab"),
        ("\n\n", "no tab"),
        ("text\tlabel\na\t1\nb\t2\nc\n", "line 4 of t.txt has 1 columns"),
        ("a\t1\nb\t\nc\t1\n", "1 samples of train have no label"),
    ],
)
def test_lines_without_two_labels_are_refused(tmp_path, text, words):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(lab.SpecError) as error:
        lab.look(f"lines:{tmp_path / 't.txt'}", column=2 if "x\n" in text else 0)
    assert words in sentence(error)


def test_a_text_that_is_too_short_is_refused(tmp_path):
    (tmp_path / "short.txt").write_text("abc")
    with pytest.raises(lab.SpecError, match="its text has 3 tokens, too few for its parts"):
        load(f"text:{tmp_path / 'short.txt'}")


def test_running_text_has_the_parts_of_its_files(tmp_path):
    (tmp_path / "train.txt").write_text("abcdefgh" * 100)
    (tmp_path / "test.txt").write_text("hgfedcbaz" * 10)
    data = load(f"text:{tmp_path}", context=8)
    assert data.vocabulary == 9 and len(data.train[0]) == 89 and len(data.val[0]) == 9 and len(data.test[0]) == 11
    assert torch.equal(data.train[0][:, 1:], data.train[1][:, :-1])
    whole = load(f"text:{tmp_path / 'train.txt'}", context=8)
    assert [len(part[0]) for part in (whole.train, whole.val, whole.test)] == [79, 9, 9]
    with pytest.raises(lab.SpecError, match="must be from 1 to 79"):
        load(f"text:{tmp_path}", context=1000)


# --- sounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["u1", "i2", "i3", "i4", "f4", "f8"])
def test_every_coding_of_wav_gives_its_samples(tmp_path, coding):
    wave = np.sin(np.arange(800) / 7) * 0.8
    write_wav(tmp_path / "x.wav", wave, coding=coding, channels=2)
    head = waves.head(tmp_path / "x.wav")
    assert (head.rate, head.channels, head.length) == (8000, 2, 800)
    assert np.abs(waves.read(tmp_path / "x.wav", 8000, 0.1) - wave).max() < (0.02 if coding == "u1" else 1e-4)


def test_flac_is_read_by_soundfile(tmp_path):
    import soundfile

    wave = np.sin(np.arange(800) / 7).astype(np.float32) * 0.5
    soundfile.write(tmp_path / "x.flac", wave, 8000)
    assert np.abs(waves.read(tmp_path / "x.flac", 8000, 0.1) - wave).max() < 1e-3


def test_sounds_are_resampled_cut_and_filled(tmp_path, monkeypatch):
    tone = lambda rate, seconds: np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)  # noqa: E731
    for i in range(12):
        write_wav(tmp_path / "yes" / f"{i}.wav", tone(8000, 0.2))
        rate = 16000 if i < 3 else 8000
        write_wav(tmp_path / "no" / f"{i}.wav", tone(rate, 0.1), rate)
    name = f"audio:{tmp_path}"
    data = load(name)
    assert data.sample_rate == 8000 and data.shape == (1600,) and data.classes == ["no", "yes"]
    assert data.train[0].dtype == torch.float32 and len(data.train[0]) == 20
    assert data.remarks == ("3 of 24 sounds: 8,000 (21), 16,000 (3) samples a second; resampled to 8,000",)
    with_silence = data.train[0][data.train[1] == 0]
    assert (with_silence[:, 900:].abs() < 1e-6).all()
    for wave in with_silence:  # a tone of 440 Hz, whatever rate it came at
        assert wave[:800].abs().mean() == pytest.approx(2 / np.pi, abs=0.05)
        assert torch.fft.rfft(wave[:800]).abs().argmax() == 44
    assert "16,000 (3) samples a second; resampled to 8,000" in str(lab.look(name))
    assert lab.look(name)._repr_html_().count("<audio") == 5
    monkeypatch.setattr(reading, "HELD", 0)
    assert torch.equal(load(name).train[3][0], data.train[0][3])


def test_sounds_are_of_a_class_by_their_name_and_broken_ones_told(tmp_path):
    for i in range(6):
        write_wav(tmp_path / f"{i % 2}_jackson_{i}.wav", np.zeros(80) + 0.1)
    name = f"audio:{tmp_path}"
    with pytest.raises(lab.SpecError) as error:
        lab.look(name)
    assert "take options={'label': 'name'}" in sentence(error)
    assert lab.look(name, label="name").classes == {"0": 3, "1": 3}
    path = tmp_path / "1_jackson_1.wav"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(lab.SpecError) as error:
        load(name, label="name")
    assert "1 file can't be read: 1_jackson_1.wav (cut short)" in sentence(error)
    assert load(name, label="name", unreadable="skip").remarks


def test_less_than_one_sample_of_a_sound_is_refused(tmp_path):
    for name in ("yes_1", "no_1"):
        write_wav(tmp_path / f"{name}.wav", [0.5] * 100)
    with pytest.raises(
        lab.SpecError, match=r"'seconds': 1e-09}: is less than one sample at 8,000 a second; take 0.0001"
    ):
        lab.look(f"audio:{tmp_path}", label="name", seconds=1e-9)


def test_what_macos_puts_into_archives_is_no_class(tmp_path):
    write_photos(tmp_path / "photos")
    (tmp_path / "photos" / "__MACOSX" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "__MACOSX" / "cat" / "1.jpg").write_bytes(b"no picture")
    assert load(f"images:{tmp_path / 'photos'}", unreadable="skip").classes == ["cat", "dog"]


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=80))
def test_whatever_bytes_are_no_sound_in_one_error(tmp_path_factory, body):
    path = tmp_path_factory.getbasetemp() / "any.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + body)
    with contextlib.suppress(ValueError):
        waves.head(path)


# --- arrays, and sets of Hugging Face ---------------------------------------------------------------------------------


def test_arrays_by_their_names(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)
    y = np.arange(30)[:, None] % 3
    path = tmp_path / "a.npz"
    names = np.array(["a", "b", "c"])
    np.savez(path, x_train=x, y_train=y, x_test=x[:6], y_test=y[:6], classes=names, note=np.zeros(2))
    data = load(f"npz:{path}")
    assert data.shape == (3, 8, 8) and data.classes == ["a", "b", "c"] and len(data.train[1]) == 27
    assert torch.equal(data.test[0][2], torch.from_numpy(x[2].transpose(2, 0, 1)))
    assert lab.look(f"npz:{path}").facts["left out"] == "note"
    for pictures in (
        x / 255,
        np.concatenate([x, x[..., :1]], 3),
        x[..., :1].astype("f4"),
    ):  # floats, four channels, one
        np.savez(path, x=pictures, y=y)
        assert load(f"npz:{path}").shape == (pictures.shape[3], 8, 8)
    np.savez(path, x=x[..., 0], y=y[:, 0] / 2)
    assert load(f"npz:{path}").shape == (1, 8, 8) and load(f"npz:{path}").classes == []


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"x": np.zeros(3)}, "train has no y"),
        ({"a": np.zeros(3)}, "it holds a: arrays x and y are needed"),
        ({"x": np.array([{}, {}]), "y": np.zeros(2)}, "it holds objects of Python, which could run code"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(4)}, "must be as many"),
        ({"x": np.array(3), "y": np.array(1)}, "they need a row for each sample"),
        (b"PK\3\4 and then nothing", "it is no .npz"),
        (b"a,b\n1,2\n", "it is no .npz, as numpy.savez writes them"),
    ],
)
def test_arrays_that_can_t_be_used(tmp_path, arrays, words):
    path = tmp_path / "a.npz"
    if isinstance(arrays, bytes):
        path.write_bytes(arrays)
    else:
        np.savez(path, **arrays)
    with pytest.raises(lab.SpecError) as error:
        lab.look(f"npz:{path}")
    assert words in sentence(error)


def save_set(folder, columns, features):
    """A set as `datasets` saves it, written by hand: a stream of Arrow and two records."""
    import pyarrow

    folder.mkdir(parents=True)
    table = pyarrow.table(columns)
    with pyarrow.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file:
        with pyarrow.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


LABEL = {"names": ["neg", "pos"], "_type": "ClassLabel"}


def test_saved_sets_of_images(tmp_path, photos):
    files = sorted(photos.glob("*/*"))
    columns = {"image": [{"bytes": file.read_bytes(), "path": None} for file in files]}
    columns["label"] = [int(file.parent.name == "dog") for file in files]
    for part in ("train", "test"):
        save_set(tmp_path / part, columns, {"image": {"_type": "Image"}, "label": LABEL})
    data = load(f"hf:{tmp_path}")
    assert data.shape == (3, 10, 10) and data.classes == ["neg", "pos"] and len(data.train[1]) == 36
    assert torch.equal(data.train[1], (data.train[0][:, 0, 0, 0] > 100).long())
    assert lab.look(f"hf:{tmp_path}").classes == {"neg": 40, "pos": 40}


def test_saved_sets_of_texts_and_of_columns(tmp_path):
    text = {"dtype": "string", "_type": "Value"}
    save_set(tmp_path / "t", {"text": [f"text {i}" for i in range(20)], "label": [i % 2 for i in range(20)]},
             {"text": text, "label": LABEL})  # fmt: skip
    assert load(f"hf:{tmp_path / 't'}", length=8).sample[:2] == ((8,), 2)
    number = {"dtype": "float64", "_type": "Value"}
    save_set(tmp_path / "n", {"a": [i / 3 for i in range(20)], "label": [i % 2 for i in range(20)]},
             {"a": number, "label": LABEL})  # fmt: skip
    assert load(f"hf:{tmp_path / 'n'}").classes == ["neg", "pos"]
    with pytest.raises(lab.SpecError, match="no state.json"):
        load(f"hf:{tmp_path}/t/..")
    save_set(tmp_path / "l", {"more": [["a"]] * 33, "text": ["b"] * 33, "label": [i % 11 for i in range(33)]},
             {"more": [text], "text": text, "label": {"dtype": "int64", "_type": "Value"}})  # fmt: skip
    assert load(f"hf:{tmp_path / 'l'}").classes == [str(number) for number in range(11)]
    info = tmp_path / "l" / "dataset_info.json"
    info.write_text(json.dumps({"features": json.loads(info.read_text())["features"] | {"gone": text}}))
    with pytest.raises(lab.SpecError, match="l has no column 'gone', which its dataset_info.json names; save it anew"):
        load(f"hf:{tmp_path / 'l'}")
    info.unlink()
    with pytest.raises(lab.SpecError, match=r"no dataset_info\.json that names its columns"):
        load(f"hf:{tmp_path / 'l'}")
