"""Sets past memory: shards as tars and Parquet, read block by block; each sample once, in one order for any world."""

import contextlib
import io
import itertools
import tarfile
import threading
import wave
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Late, call
from hypothesis import given
from hypothesis import strategies as st

import lepton_lab as lab
from lepton_lab import datasets
from lepton_lab.datasets import Data
from lepton_lab.datasets.sharded import index, ordering, sources, tars, writing
from lepton_lab.datasets.sharded.opening import look, shards
from lepton_lab.datasets.sharded.places import expanded
from lepton_lab.engine.feed import Feed
from lepton_lab.strategies.base import Single
from lepton_lab.strategies.group import Group
from lepton_lab.tasks import called, make

webdataset, arrow = Late("webdataset"), Late("pyarrow.parquet")
KINDS = [".tar", ".parquet"]


class Part(Single):
    """A rank of several, whose batches are cut as those of any group are."""

    shard = Group.shard


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks of a few samples, a window of some blocks."""
    monkeypatch.setattr(index, "BLOCK", 4096)
    monkeypatch.setattr(writing, "BLOCK", 4096)
    monkeypatch.setattr("lepton_lab.datasets.sharded.dataset.WINDOW", 16384)
    monkeypatch.setattr(sources, "PAUSES", (0.01, 0.01))


def numbered(count, begin=0):
    """Pictures that say in their first pixels which they are, and a label."""
    x = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    numbers = torch.arange(begin, begin + count)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = numbers % 256, numbers // 256
    return x, numbers % 7


def number(x):
    return (x[..., 0, 0, 0].int() + 256 * x[..., 0, 0, 1].int()).tolist()


def made(folder, count=200, columns=False, **about):
    data = Data(numbered(count), numbered(30, 1000), None, (1, 8, 8), [f"class {i}" for i in range(7)], **about)
    writing.write(data, str(folder), megabytes=1, columns=columns, told=lambda line: None)
    return folder


def plain(folder, count=200, extension="npy", name="train-0.tar"):
    """A tar of pictures as other tools make it, with no index."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / name, "w") as tar:
        for i, (x, y) in enumerate(zip(*numbered(count), strict=True)):
            for part, body in ((extension, encoded(x.numpy(), extension)), ("cls", str(int(y)).encode())):
                entry = tarfile.TarInfo(f"pictures/{i:05d}.{part}")
                entry.size = len(body)
                tar.addfile(entry, io.BytesIO(body))
    return folder


def encoded(x, extension):
    file = io.BytesIO()
    if extension == "npy":
        np.save(file, x)
    else:
        from PIL import Image

        Image.fromarray(x[0]).save(file, extension)
    return file.getvalue()


def feed(data, part=0, parts=1, batch=16, workers=0):
    spec = lab.Spec(batch_size=batch, workers=workers)
    strategy = Part(spec)
    strategy.start(0, 1, Path(), torch.device("cpu"))
    strategy.part, strategy.parts = part, parts
    return Feed(data.train, data, spec, strategy, make(spec, data))


def flat(lists):
    return [*itertools.chain.from_iterable(lists)]


def seen(feed, epoch=0, skip=0, end=0):
    """The numbers of the samples of each step."""
    scaled = [torch.cat([b.x for b in batches if b.share]) for batches, _ in feed.epoch(epoch, skip, end)]
    return [number((x * 255).round()) for x in scaled]


@pytest.fixture(params=KINDS)
def tenfold(request, tmp_path):
    """A set of either format."""
    return shards(str(made(tmp_path / "set", columns=request.param == ".parquet")), tmp_path, 0)


def test_an_epoch_has_each_sample_once_in_the_same_steps_whatever_the_world_and_workers(tenfold):
    alone = seen(feed(tenfold))
    assert sorted(flat(alone)) == [*range(200)] and len(tenfold.train._counts) > 3
    assert seen(feed(tenfold), epoch=1) != alone != sorted(alone)
    for parts in (2, 3):
        ranks = [seen(feed(tenfold, part, parts)) for part in range(parts)]
        assert [sorted(flat(step)) for step in zip(*ranks, strict=True)] == [sorted(step) for step in alone]
    epochs, beside = [seen(feed(tenfold), epoch=epoch) for epoch in range(3)], feed(tenfold, workers=2)
    assert [seen(beside, epoch, end=3) for epoch in range(3)] == epochs
    assert [len(next(batches).x) for batches, _ in itertools.islice(beside.epoch(0, end=3), 2)] == [16, 16]
    assert [seen(beside, epoch, end=3) for epoch in (1, 2)] == epochs[1:]
    beside.close()


def test_what_was_written_is_read_with_what_was_known_of_it(tmp_path):
    made(tmp_path / "set", mean=(0.1,), std=(0.3,), unit=1, pieces=["a", "b"], tokenizer="{}")
    data = shards(str(tmp_path / "set"), tmp_path, 0)
    assert (data.unit, data.pieces, data.tokenizer) == (1, ["a", "b"], "{}")
    assert (data.shape, data.classes[1], data.mean, data.std) == ((1, 8, 8), "class 1", (0.1,), (0.3,))
    x, y = datasets.rows(data.val, range(len(data.val)))
    assert x.equal(numbered(30, 1000)[0]) and y.tolist() == numbered(30, 1000)[1].tolist() and data.test is None
    assert x.dtype == torch.uint8 and [data.train[i][1] for i in (0, -1)] == [data.train[i][1] for i in (0, 199)]


@pytest.mark.parametrize("val", [True, False])
def test_what_is_known_of_each_sample_and_the_task_come_along(tmp_path, val):
    """Of a tenth that is held out, too."""
    known = {"train": {"speaker": [f"s{i}" for i in range(200)]}, "val": {"speaker": np.arange(30)}}
    parts = numbered(200), numbered(30, 1000) if val else None
    steps = ({"normalise": {"case": "lower"}},)
    data = Data(
        *parts, None, (1, 8, 8), [f"class {i}" for i in range(7)], task="contrastive", about=known, reworded=steps
    )
    writing.write(data, str(tmp_path / "set"), megabytes=1, told=lambda line: None)
    found = datasets.load(lab.Spec(dataset=f"shards:{tmp_path / 'set'}", task="contrastive"))
    assert found.task == "contrastive" and found.reworded == steps
    for part, begin in (("train", "s"), ("val", "" if val else "s")):
        samples = getattr(found, part)
        numbers = [number(samples[place][0]) - (1000 if part == "val" and val else 0) for place in range(len(samples))]
        assert [f"{begin}{one}" for one in numbers] == [str(one) for one in found.about[part]["speaker"]]
    assert len(found.val) == (30 if val else 20)


@pytest.mark.parametrize("kind", [*KINDS, "tenth"])
def test_a_batch_of_arrays_is_what_its_samples_are(tmp_path, kind):
    if kind == "tenth":
        data = shards(str(plain(tmp_path / "set")), tmp_path, 0)
    else:
        data = shards(str(made(tmp_path / "set", columns=kind == ".parquet")), tmp_path, 0)
    for part in (data.train, data.val):
        places = torch.randperm(len(part))[:50].tolist()
        batch = part.batch([*places, places[0]])
        alone = torch.utils.data.default_collate(part.__getitems__([*places, places[0]]))
        assert [(one.dtype, one.tolist()) for one in batch] == [(one.dtype, one.tolist()) for one in alone]


def test_an_epoch_goes_on_where_it_was_left(tenfold):
    whole = seen(feed(tenfold), epoch=3)
    assert seen(feed(tenfold), epoch=3, skip=5) == whole[5:]


def test_a_tenth_is_held_out_where_there_is_no_validation_and_it_is_the_seed_s(tmp_path):
    folder = plain(tmp_path / "set", 150)
    first, again, other = (shards(str(folder), tmp_path, seed) for seed in (0, 0, 1))
    parts = [[number(part[i][0]) for i in range(len(part))] for part in (first.train, first.val)]
    assert sorted(flat(parts)) == [*range(150)] and len(parts[1]) == 15
    held = [[number(d.val[i][0]) for i in range(15)] for d in (again, other)]
    assert held[0] == parts[1] != held[1]
    assert sorted(flat(seen(feed(first)))) == parts[0]


def test_samples_that_lie_alike_may_still_differ_in_shape(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(4):
            x = np.full((1, 8, 8) if i % 2 else (8, 8, 1), i, np.uint8)
            for part, body in (("npy", encoded(x, "npy")), ("cls", str(i).encode())):
                entry = tarfile.TarInfo(f"{i}.{part}")
                entry.size = len(body)
                tar.addfile(entry, io.BytesIO(body))
    data = shards(str(tmp_path / "a.tar"), tmp_path, 0)
    found = [(tuple(x.shape), int(x.max()), y) for x, y in data.train.__getitems__([0, 1, 2, 3])]
    assert found == [((1, 8, 8) if i % 2 else (8, 8, 1), i, i) for i in range(4)]
    assert data.train.batch([0, 1]) is None


def test_of_many_blocks_some_are_held_out_whole(tmp_path):
    data = shards(str(plain(tmp_path / "set", 1200)), tmp_path, 0)
    held = [number(x) for x, _ in data.val.__getitems__([*range(len(data.val))])]
    assert len(data.train._counts) >= 100 and 80 < len(held) < 160
    assert sorted(held + flat(seen(feed(data)))) == [*range(1200)]
    assert (data.val._counts > 0).sum() == len(data.train._counts) // 10


def test_few_blocks_are_in_memory_however_large_the_set_is(tmp_path):
    most = []
    for count in (200, 2000):
        data = shards(str(made(tmp_path / str(count), count)), tmp_path, 0)
        held = []
        for batches, _ in feed(data).epoch(0):
            next(batches)
            held.append(len(data.train._blocks))
        most.append(max(held))
        assert len(data.train._counts) > (1 if count == 200 else 10) * data.train._window
    assert most[0] == most[1] == data.train._window + 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 6), st.integers(1, 11))
def test_the_order_has_each_sample_once_and_uses_a_window_of_blocks(counts, window, batch):
    counts = torch.tensor(counts)
    of = torch.arange(len(counts)).repeat_interleave(counts)
    chunks = list(ordering.windowed(counts, window, torch.Generator().manual_seed(0)))
    order = torch.cat(chunks)
    assert sorted(order.tolist()) == [*range(int(counts.sum()))]
    blocks = of[order].tolist()
    first = {b: blocks.index(b) for b in set(blocks)}
    last = {b: len(blocks) - 1 - blocks[::-1].index(b) for b in set(blocks)}
    assert all(sum(first[b] <= i <= last[b] for b in first) <= window for i in range(len(blocks)))
    steps = list(ordering.cut(iter(chunks), batch))
    assert torch.cat(steps).equal(order) and {len(step) for step in steps[:-1]} <= {batch}


@pytest.mark.parametrize("extension", ["npy", "png"])
def test_a_tar_of_webdataset_s_opens_here(tmp_path, extension):
    folder = tmp_path / "test"  # whose name says nothing of shards that are named one by one
    folder.mkdir()
    with webdataset.ShardWriter(f"{folder}/cats-%06d.tar", maxcount=60, verbose=0) as sink:
        for i, (x, y) in enumerate(zip(*numbered(150), strict=True)):
            sample = x.numpy() if extension == "npy" else x[0].numpy()
            sink.write({"__key__": f"{i:06d}", extension: sample, "cls": int(y)})
    data = shards(f"{folder}/cats-{{000000..000002}}.tar", tmp_path, 0)
    assert data.shape == (1, 8, 8) and data.classes == [*"0123456"]
    pairs = [part[i] for part in (data.train, data.val) for i in range(len(part))]
    assert sorted((number(x), y) for x, y in pairs) == [(i, i % 7) for i in range(150)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its files to the collector
def test_ours_opens_in_webdataset(tmp_path):
    made(tmp_path / "set")
    urls = [str(path) for path in sorted((tmp_path / "set").glob("train-*.tar"))]
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert sorted((number(torch.from_numpy(s["npy"])), s["cls"]) for s in found) == [(i, i % 7) for i in range(200)]


def test_samples_of_other_parts_are_dicts_by_name(tmp_path):
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.array([0, 16384, -16384], np.int16).tobytes())
    parts = {
        "wav": sound.getvalue(),
        "txt": "grüße".encode(),
        "json": b'{"a": [1, 2]}',
        "y.npy": encoded(np.ones(2), "npy"),
    }
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for key in ("long" * 40, "b"):
            for part, body in parts.items():
                entry = tarfile.TarInfo(f"{key}.{part}")
                entry.size = len(body)
                tar.addfile(entry, io.BytesIO(body))
    data = shards(str(tmp_path / "a.tar"), tmp_path, 0)
    sample = data.train[1]
    assert sample["wav"].tolist() == [0, 0.5, -0.5] and sample["txt"] == "grüße" and sample["json"] == {"a": [1, 2]}
    assert data.example["y"].shape == (2, 2) and data.sample_rate == 8000 and data.val is None


def served(folder, fault=lambda handler: False):
    """A server of a folder that knows ranges; `fault` answers a request in its own way."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            if fault(self):
                return
            body = Path(self.translate_path(self.path))
            if not body.is_file():
                self.send_error(404)
                return
            begin, end = (int(n) for n in self.headers["Range"].removeprefix("bytes=").split("-"))
            body = body.read_bytes()[begin : end + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):  # of who has gone, which the test is about
            pass

    server = Server(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    return server


@pytest.fixture
def serve():
    servers = []

    def begin(folder, fault=lambda handler: False):
        servers.append(served(folder, fault))
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("kind", KINDS)
def test_over_http_it_is_the_same_set_though_the_server_fails_now_and_then(tmp_path, serve, kind, monkeypatch):
    monkeypatch.setattr(sources, "PAUSES", (0.01,) * 50)
    folder, asked = made(tmp_path / "set", columns=kind == ".parquet"), []

    def fault(handler):
        asked.append(handler.path)
        if len(asked) % 3 == 1:
            handler.send_response(206)
            handler.send_header("Content-Length", "100000")  # and then nothing
            handler.end_headers()
        return len(asked) % 3 == 1

    far = shards(f"{serve(folder, fault)}/", tmp_path, 0)
    assert seen(feed(far)) == seen(feed(shards(str(folder), tmp_path, 0)))


def test_a_server_that_goes_away_or_has_no_ranges_is_told_by_the_shard_s_name(tmp_path, serve):
    away, folder = [], made(tmp_path / "set")

    def fault(handler):
        if away:
            handler.connection.close()
        return bool(away)

    far = shards(serve(folder, fault), tmp_path, 0)
    away.append(True)
    with pytest.raises(lab.SpecError, match=r"http://127.*train-000000.tar can't be read: .*see to the network"):
        far.train[199]

    whole = serve(folder, lambda handler: SimpleHTTPRequestHandler.do_GET(handler) is None)
    with pytest.raises(lab.SpecError, match="gives files whole alone"):
        shards(whole, tmp_path, 0)


def test_a_store_of_fsspec_s_takes_a_set_and_gives_it(tmp_path):
    address = f"file://{tmp_path}/store/set"
    made(address)
    with pytest.raises(lab.SpecError, match="holds objects already"):
        made(address)
    assert not (tmp_path / "store" / "set" / "unfinished").exists()
    far = shards(address, tmp_path, 0)
    assert sorted(flat(seen(feed(far, workers=2)))) == [*range(200)]
    (tmp_path / "store" / "set" / "index.json").unlink()
    (tmp_path / "store" / "set" / "unfinished").touch()
    with pytest.raises(lab.SpecError, match="not written to its end"):
        shards(address, tmp_path, 0)


@pytest.mark.parametrize("options", [(), ("--parquet",)])
def test_the_command_line_writes_a_set_that_holds_what_the_first_one_did(tmp_path, options):
    out, _ = call("data", "shard", "digits", tmp_path / "set", *options)
    assert out.splitlines()[-1] == f"{tmp_path}/set: train 1,439, val 179, test 179"
    given, found = datasets.load(lab.Spec()), shards(str(tmp_path / "set"), tmp_path, 0)
    assert (found.shape, found.classes, found.mean, found.std) == (given.shape, given.classes, given.mean, given.std)
    for ours, theirs in zip(datasets.rows(found.test, range(179)), given.test, strict=True):
        assert ours.equal(theirs)
    ours = {(*x.flatten().tolist(), y) for x, y in found.train.__getitems__([*range(1439)])}
    assert ours == {(*x.flatten().tolist(), int(y)) for x, y in zip(*given.train, strict=True)}
    _, error = call("data", "shard", "blobs", tmp_path / "set", "--option", "featurs=3", code=2)
    assert "did you mean 'features'" in error
    for name, sentence in (("minilm", "minilm are weights, which take no options"), ("sst2", "(known of sst2")):
        assert sentence in call("data", "show", name, "--option", "a=1", code=2)[1]
    _, error = call("data", "shard", "digits", tmp_path / "set", code=2)
    assert "is there already" in error and sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def cut(path, left):
    body = path.read_bytes()
    path.write_bytes(body[: int(len(body) * left)])


def test_a_shard_that_is_cut_short_is_told_before_training_with_the_first_sample_that_is_lost(tmp_path):
    path = made(tmp_path / "set") / "train-000000.tar"
    cut(path, 0.5)
    with pytest.raises(lab.SpecError, match=r"train-000000.tar is cut short: .* samples from number \d+ on") as told:
        lab.launch(lab.Spec(dataset=f"shards:{tmp_path}/set", model="mlp"))
    assert "\n" not in str(told.value)
    bare = plain(tmp_path / "bare") / "train-0.tar"
    cut(bare, 0.5)
    with pytest.raises(lab.SpecError, match=r"train-0.tar can't be used: it is cut short (in|after) pictures/00\d+"):
        shards(str(bare), tmp_path, 0)


def test_a_shard_that_is_cut_or_changed_while_it_is_read_is_told_with_the_sample(tmp_path):
    path = made(tmp_path / "set") / "train-000000.tar"
    data = shards(str(tmp_path / "set"), tmp_path, 0)
    body = path.read_bytes()
    cut(path, 0.5)
    with pytest.raises(lab.SpecError, match=r"train-000000.tar can't be used from sample 1\d\d on: "):
        data.train[199]
    path.write_bytes(body.replace(b"NUMPY", b"NUMPX"))
    with pytest.raises(lab.SpecError, match=r"sample 0 of the shard .*train-000000.tar .*is unreadable: its npy"):
        shards(str(tmp_path / "set"), tmp_path, 0)


def test_an_array_that_holds_objects_runs_no_code(tmp_path):
    file = io.BytesIO()
    np.save(file, np.array([print], object), allow_pickle=True)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, body in (("a.npy", file.getvalue()), ("a.cls", b"0")):
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    with pytest.raises(lab.SpecError, match="could run code"):
        shards(str(tmp_path / "a.tar"), tmp_path, 0)


def test_what_is_no_set_of_shards_is_refused_in_a_sentence(tmp_path):
    def refused(path, why):
        with pytest.raises(lab.SpecError, match=why) as told:
            shards(str(path), tmp_path, 0)
        assert "\n" not in str(told.value)

    refused(tmp_path / "none", "no such file or folder")
    refused(tmp_path, "neither an index.json nor")
    refused(tmp_path / "train-{0..2}.tar", "no shard .*train-0.tar")
    refused(tmp_path / "train-{2..0}.tar", "must count upwards")
    refused(tmp_path / "train-{x}.tar", "no span such as")
    refused(tmp_path / "a.tar.gz", "is packed")
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    refused(tmp_path / "a.tar", "is packed")
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    refused(tmp_path / "a.tar", "it is no tar")
    (tmp_path / "a.parquet").write_bytes(b"x" * 2000)
    refused(tmp_path / "a.parquet", "no whole Parquet file")
    refused("nowhere://a/b", "can't be opened")
    for text in ("[]", "{", '{"format": 9}', '{"format": 1}'):
        (tmp_path / "index.json").write_text(text)
        refused(tmp_path, "index")


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("a-{08..11}", ["a-08", "a-09", "a-10", "a-11"]),
        ("{a,b}-{1..2}", ["a-1", "a-2", "b-1", "b-2"]),
        ("s3://b/{train,val}.tar", ["s3://b/train.tar", "s3://b/val.tar"]),
    ],
)
def test_braces_are_those_of_shells(address, names):
    assert expanded(address) == names


@given(st.binary(max_size=3000), st.integers(0, 1535))
def test_no_bytes_make_reading_a_tar_go_on_for_ever_or_fail_otherwise(noise, at):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("ä.npy")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
    body = bytearray(file.getvalue())
    body[at : at + len(noise)] = noise
    with contextlib.suppress(tars.Damaged):
        list(tars.members(lambda at, count: body[at : at + count], 0, len(body)))


def test_a_part_of_shards_is_read_block_by_block_too(tmp_path):
    data = shards(str(made(tmp_path / "set", 2000)), tmp_path, 0)
    whole, some = data.train, [*range(1, 2000, 3)]
    wanted = sorted(number(whole[i][0]) for i in some)
    data.train = torch.utils.data.Subset(whole, some)
    reads, real = [], whole._read
    whole._blocks.clear()
    whole._read = lambda block: reads.append(block) or real(block)
    assert sorted(flat(seen(feed(data)))) == wanted
    assert len(reads) <= len(whole._counts) + 2 * whole._window  # each block once, but for what reading tries first


def test_the_index_of_shards_that_have_none_is_made_once_and_anew_when_they_change(tmp_path, monkeypatch):
    scans, real = [], index.scanned
    monkeypatch.setattr(index, "scanned", lambda *parts: scans.append(parts) or real(*parts))
    folder = plain(tmp_path / "set")
    assert len(shards(str(folder), tmp_path, 0).train) == len(shards(str(folder), tmp_path, 0).train) == 180
    assert len(scans) == 1
    plain(folder, count=100)
    assert len(shards(str(folder), tmp_path, 0).train) == 90 and len(scans) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_lists_texts_and_targets_of_a_regression_come_back(tmp_path, kind):
    samples = [{"input_ids": torch.arange(i + 1), "labels": i / 2, "text": f"t{i}"} for i in range(12)]
    writing.write(
        Data(samples, None, None, (), []), str(tmp_path / "set"), columns=kind == ".parquet", told=lambda line: None
    )
    data = shards(str(tmp_path / "set"), tmp_path, 0)
    found = {sample["text"]: sample for part in (data.train, data.val) for sample in part}
    assert (
        len(found) == 12 and found["t3"]["input_ids"].tolist() == [0, 1, 2, 3] and float(found["t3"]["labels"]) == 1.5
    )


@pytest.mark.parametrize("x", [torch.zeros(0, 3), torch.zeros(4, dtype=torch.complex64)])
def test_what_no_parquet_column_holds_is_refused_and_a_tar_takes_it(x, tmp_path):
    data = Data([(x, place % 2) for place in range(20)], None, None, tuple(x.shape), ["a", "b"])
    with pytest.raises(lab.SpecError, match="x is what no Parquet column holds .*; write tars"):
        writing.write(data, str(tmp_path / "columns"), columns=True, told=lambda line: None)
    writing.write(data, str(tmp_path / "tars"), told=lambda line: None)
    assert shards(str(tmp_path / "tars"), tmp_path, 0).train[0][0].equal(x)


def test_targets_that_are_dicts_come_back(tmp_path):
    """As those of a detector are, a number of boxes each."""
    boxes = [torch.rand(i % 3, 4) for i in range(40)]
    samples = [(x, {"boxes": b, "labels": torch.arange(len(b))}) for x, b in zip(numbered(40)[0], boxes, strict=True)]
    pad, known = datasets.Pad(bucket=False), {"shape": (1, 8, 8), "classes": ["a", "b"], "task": "detection"}
    data = Data(samples, samples[:4], None, **known, collate=pad, example=pad(samples[:2]))
    writing.write(data, str(tmp_path / "set"), told=lambda line: None)
    found = shards(str(tmp_path / "set"), tmp_path, 0)
    assert (found.shape, found.classes, found.task) == tuple(known.values())
    for x, y in found.train:
        assert y["boxes"].equal(boxes[number(x)]) and y["labels"].tolist() == [*range(len(y["boxes"]))]
    x, y = found.collate([found.val[place] for place in range(4)])
    assert x.equal(pad(samples[:4])[0]) and all(y[name].equal(pad(samples[:4])[1][name]) for name in y)
    assert "boxes (1, 4), labels (1,)" in [one.label for one in look(str(tmp_path / "set")).examples]
    assert found.example[0].shape == (2, 1, 8, 8) and called(make(lab.Spec(), found)) == "detection"


@pytest.mark.slow
def test_a_detector_trains_by_name_on_shards_of_scenes(tmp_path):
    call("data", "shard", "scenes", str(tmp_path / "set"))
    run = lab.launch(lab.Spec(dataset=f"shards:{tmp_path / 'set'}", model="detector", epochs=1))
    assert run.wait(120) == "done" and run.facts["task"] == "detection", run.failure
    with pytest.raises(lab.SpecError, match="detection"):
        lab.launch(run.spec.replace(model="mlp"))


@pytest.mark.parametrize("labels", [[0, -1], [0, None], [None, None]])
@pytest.mark.parametrize("statistics", [True, False])
def test_labels_that_are_none_are_refused_before_training(tmp_path, labels, statistics):
    import pyarrow

    table = pyarrow.table({"x": [1.0] * 20, "label": pyarrow.array(labels * 10, pyarrow.int64())})
    arrow.write_table(table, tmp_path / "train.parquet", write_statistics=statistics)
    with pytest.raises(lab.SpecError, match="labels are whole numbers from 0 up"):
        shards(str(tmp_path), tmp_path, 0)


def test_labels_that_are_texts_are_refused(tmp_path):
    import pandas as pd

    pd.DataFrame({"x": [1.0] * 20, "label": ["cat", "dog"] * 10}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(
        lab.SpecError, match="label in .*a.parquet holds texts; labels are whole numbers from 0 up: number"
    ):
        shards(str(tmp_path / "a.parquet"), tmp_path, 0)


def test_a_parquet_file_of_pandas_opens(tmp_path):
    import pandas as pd

    pd.DataFrame({"x": [float(i) for i in range(20)], "label": [i % 3 for i in range(20)]}).to_parquet(
        tmp_path / "a.parquet"
    )
    data = shards(str(tmp_path / "a.parquet"), tmp_path, 0)
    assert data.classes == ["0", "1", "2"] and (len(data.train), len(data.val)) == (18, 2)


def stops(moment):
    if moment.event == "step" and moment.step == 25:
        moment.stop()


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return f"shards:{made(tmp_path_factory.mktemp('shards') / 'set', 640)}"


def test_a_run_that_is_stopped_in_mid_epoch_and_resumed_is_the_one_that_went_on(long, one_core):
    spec = lab.Spec(dataset=long, model="mlp", batch_size=16, epochs=2, workers=1)
    whole, parted = lab.launch(spec), lab.launch(spec, hooks=[stops])
    assert parted.wait(120) == "stopped"
    parted.resume()
    assert parted.wait(120) == "done" == whole.wait(120)
    for a, b in zip(whole.model().state_dict().values(), parted.model().state_dict().values(), strict=True):
        assert a.equal(b)
    assert [row["loss"] for row in whole.rows("train")] == [row["loss"] for row in parted.rows("train")]


def test_two_ranks_have_the_curve_of_one(long, one_core):
    spec = lab.Spec(dataset=long, model="mlp", batch_size=16, epochs=1)
    curves = []
    for world in (1, 2):
        run = lab.launch(spec.replace(world=world))
        assert run.wait(120) == "done", run.failure
        curves.append(run.rows("eval"))
    assert curves[0][-1]["loss"] == pytest.approx(curves[1][-1]["loss"], rel=1e-4)
    assert curves[0][-1]["samples"] == curves[1][-1]["samples"] == 30


def test_what_there_is_is_seen_by_the_index_and_a_few_samples(long):
    look = lab.look(long)
    assert look.sample == ((1, 8, 8), 7, 0) and look.splits == {"train": 640, "val": 30}
    assert "3 of together" in str(look) and "[class " in str(look)
