"""Real sets by name: how their files are had, and what their readers make of them."""

import base64
import errno
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path

import published
import pytest
import torch
from click.testing import CliRunner
from helpers import ROOT, until

import lepton_lab as lab
from lepton_lab.cli import main
from lepton_lab.datasets import DATASETS, SOURCES, cutouts, files, origin, packages, unpacking
from lepton_lab.datasets.dialogues import alike, exchanges
from lepton_lab.datasets.files import fetch, missing
from lepton_lab.datasets.glosses import read as read_glosses
from lepton_lab.datasets.grouping import dealt, groups
from lepton_lab.datasets.movielens import read as read_ratings
from lepton_lab.datasets.movielens import titles
from lepton_lab.datasets.pretrained import WEIGHTS
from lepton_lab.datasets.reviews import runs
from lepton_lab.datasets.sources import Archive, Package, Source
from lepton_lab.datasets.verses import pairs
from lepton_lab.errors import SpecError
from lepton_lab.host import ASKED
from lepton_lab.losses import IGNORED
from lepton_lab.tasks.seeing import inputs

SHARED = ROOT.parent / "shared" / "data"
WHEEL = "carrier-1.0-py3-none-any.whl"
INSIDE = {
    "carrier/model/config.json": b"the right one",
    "carrier/model/1_Pooling/config.json": b"another",
    "carrier/model/weights.bin": bytes(range(256)) * 40,
    "carrier/topics/a.yml": b"a",
    "carrier/topics/deep/b.yml": b"b",
    "carrier/topics/c.ogg": b"c",
    "carrier/__init__.py": b"raise SystemExit('the package was run')",
}
MEMBERS = {"config.json": "carrier/model/config.json", "weights.bin": "carrier/model/weights.bin"}


def sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 700
    return text


def wheel_bytes() -> bytes:
    """A wheel that pip takes, and that would end whoever imports it."""
    info = "carrier-1.0.dist-info"
    contents = INSIDE | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for name, body in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(body)}")
    contents[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in contents.items():
            archive.writestr(zipfile.ZipInfo(name), body)
    return buffer.getvalue()


BODY = wheel_bytes()


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder that pip takes packages from."""
    folder = tmp_path_factory.mktemp("index")
    (folder / WHEEL).write_bytes(BODY)
    return folder


@pytest.fixture
def patch(index):
    """pip asks the local folder alone, and a row `carried` names the package in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LEPTON_LAB_DATA", raising=False)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(index))
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        put(patch)
        yield patch


def put(patch, **changes):
    """Let a row of SOURCES be of the package, with changes of its archive."""
    archive = Archive(
        WHEEL, MEMBERS | {"topics": "carrier/topics/"}, hashlib.sha256(BODY).hexdigest(), endings=(".yml",)
    )
    archive = replace(archive, package=Package("pip", "carrier", "1.0"))
    row = Source("carried", licence="to be tried", size=len(BODY), others=(replace(archive, **changes),))
    patch.setitem(SOURCES, "carried", row)


def left(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


# --- how files are had ------------------------------------------------------------------------------------------------


def test_a_package_is_downloaded_by_pip_checked_read_and_not_kept(tmp_path, patch, capsys):
    paths = fetch("carried", tmp_path)
    assert left(tmp_path) == [
        "carried/config.json",
        "carried/topics/a.yml",
        "carried/topics/deep/b.yml",
        "carried/weights.bin",
    ]
    assert paths["config.json"].read_bytes() == b"the right one"
    told = capsys.readouterr().err
    assert told.count("licence: to be tried") == 1
    assert "python -m pip download --no-deps carrier==1.0" in told
    patch.setattr(files, "download", None)  # what is there is not asked for again, and its licence is told once
    assert fetch("carried", tmp_path) == paths and not capsys.readouterr().err


def lay(root: Path, body: bytes = BODY) -> None:
    """Put the package's archive into the data root."""
    (root / "carried").mkdir(exist_ok=True)
    (root / "carried" / WHEEL).write_bytes(body)


def test_what_a_package_lacks_or_has_otherwise_is_said_and_nothing_is_left(tmp_path, patch):
    lay(tmp_path)
    for changes, words in (
        ({"digest": "0" * 64}, f"{WHEEL} has SHA-256 {hashlib.sha256(BODY).hexdigest()[:16]}"),
        ({"members": {"other.bin": "carrier/other.bin"}}, "holds no carrier/other.bin"),
        ({"trees": {"topics": "0" * 64}}, "holds other topics"),
    ):
        put(patch, **changes, package=None)
        with pytest.raises(SpecError) as error:
            fetch("carried", tmp_path)
        assert words in sentence(error) and str(tmp_path) in str(error.value)
        assert left(tmp_path) == [f"carried/{WHEEL}"] and not [*tmp_path.glob(".fetch-*")]


def test_a_package_that_is_withdrawn_is_said_with_the_one_command(tmp_path, patch):
    put(patch, package=Package("pip", "carrier", "2.0"))
    with pytest.raises(SpecError) as error:
        fetch("carried", tmp_path)
    text = sentence(error)
    assert "pip: the index that it asks has no carrier 2.0" in text
    folder = tmp_path / "carried"
    assert f"`mkdir -p {folder} && cd {folder} && python -m pip download --no-deps carrier==2.0`" in text
    assert not [*tmp_path.iterdir()]


def test_pip_that_reaches_nothing_or_is_missing_is_said(tmp_path, patch):
    patch.delenv("PIP_NO_INDEX")
    patch.delenv("PIP_FIND_LINKS")
    patch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(SpecError, match="pip: it reaches no package index"):
        fetch("carried", tmp_path)
    patch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match="has no pip .python -m ensurepip brings it"):
        fetch("carried", tmp_path)
    put(patch, package=Package("npm", "carrier", "1.0"))
    patch.setenv("PATH", "")
    with pytest.raises(SpecError, match="npm is not installed"):
        fetch("carried", tmp_path)


@pytest.mark.skipif(not shutil.which("npm"), reason="no npm")
def test_npm_that_reaches_nothing_says_so_at_once(tmp_path, patch):
    put(patch, package=Package("npm", "carrier", "1.0"))
    patch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    patch.setenv("npm_config_cache", str(tmp_path / "cache"))
    with pytest.raises(SpecError, match="npm: it reaches no package index.*npm pack --ignore-scripts carrier@1.0`"):
        fetch("carried", tmp_path / "root")


SLOW = """#!/bin/sh
sleep 60 &
echo $! > "$LEPTON_LAB_DATA/child"
wait
"""


@pytest.fixture
def slow_npm(tmp_path, monkeypatch):
    """An npm that takes a minute, and has a child of its own, whose number it leaves in the data root."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text(SLOW)
    (tmp_path / "bin" / "npm").chmod(0o755)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("LEPTON_LAB_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "child"


def gone(child: Path) -> bool:
    """Whether the process is no more, or waits to be buried."""
    state = Path(f"/proc/{int(child.read_text())}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_wait_for_a_download_can_be_broken_off_and_nothing_goes_on(slow_npm):
    def asked():
        if slow_npm.exists() and slow_npm.read_text().strip():
            raise TimeoutError("enough")

    context = copy_context()
    context.run(ASKED.set, asked)
    with pytest.raises(SpecError, match="enough"):
        context.run(fetch, "spam", slow_npm.parent)
    until(lambda: gone(slow_npm))


def test_a_stop_is_heard_after_each_little_of_what_a_mirror_gives(tmp_path):
    (tmp_path / "given").write_bytes(bytes(1_000_000))
    asked, context = [], copy_context()
    context.run(ASKED.set, lambda: asked.append(1))
    with (tmp_path / "taken").open("w+b") as taken:
        context.run(files._copy, (tmp_path / "given").as_uri(), taken, "given")
        assert len(asked) >= 10 and len(taken.read()) == 1_000_000


@pytest.mark.slow
def test_a_stop_ends_a_download_and_all_that_it_started(slow_npm):
    run = lab.launch(lab.Spec(dataset="spam", model="transformer", strategy="single"))
    until(lambda: slow_npm.exists() and slow_npm.read_text().strip())
    run.stop()
    assert run.wait(10) == "stopped" and "download of its data" in run.facts["reason"]
    until(lambda: gone(slow_npm))


def test_a_program_that_downloads_dies_with_the_process_that_asked(slow_npm, tmp_path):
    code = f"from lepton_lab.host import bound\nfrom pathlib import Path\nbound(['npm'], Path({str(tmp_path)!r}))"
    asking = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: slow_npm.exists() and slow_npm.read_text().strip())
    npm = Path(f"/proc/{int(slow_npm.read_text())}/stat").read_text().rpartition(")")[2].split()[1]
    asking.kill()
    asking.wait()
    until(lambda: not Path(f"/proc/{npm}").exists())
    os.kill(int(slow_npm.read_text()), signal.SIGKILL)  # of a real npm nothing is left: it has no such child


def test_an_archive_in_the_data_root_is_taken_without_a_network(tmp_path, patch):
    patch.setattr(files, "download", None)
    lay(tmp_path)
    fetch("carried", tmp_path)
    assert not missing("carried", tmp_path) and (tmp_path / "carried" / WHEEL).exists()


def test_an_archive_that_is_cut_short_is_said_and_the_package_is_asked_for(tmp_path, patch, capsys):
    lay(tmp_path, BODY[:-100])
    put(patch, digest="", package=None)  # where no digest tells, the archive does
    with pytest.raises(SpecError, match=r"zip"):
        fetch("carried", tmp_path)
    assert left(tmp_path) == [f"carried/{WHEEL}"]
    put(patch)
    fetch("carried", tmp_path)
    assert "pip download" in capsys.readouterr().err and not missing("carried", tmp_path)


def test_of_several_at_once_one_downloads(tmp_path, patch):
    calls = []
    patch.setattr(files, "download", lambda *args: (calls.append(args), packages.download(*args))[1])
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: fetch("carried", tmp_path), range(4))]
    assert len(calls) == 1 and all(paths == found[0] for paths in found)


def test_what_a_killed_download_left_is_swept(tmp_path, patch):
    (tmp_path / ".fetch-killed" / "members").mkdir(parents=True)
    (tmp_path / ".fetch-killed" / "members" / "config.json").write_bytes(b"half")
    lay(tmp_path)
    fetch("carried", tmp_path)
    assert not [*tmp_path.glob(".fetch-*")]


def test_a_disk_that_takes_no_more_is_said_and_nothing_is_left(tmp_path, patch):
    lay(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(SpecError) as error:
            fetch("carried", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "no file may be larger than 4.88 KiB" in sentence(error) and "raise that limit" in str(error.value)
    assert left(tmp_path) == [f"carried/{WHEEL}"]


def test_a_data_root_that_can_t_be_written_is_said(tmp_path, patch):
    patch.setattr(files.tempfile, "TemporaryDirectory", denied)  # root may write anywhere
    with pytest.raises(SpecError, match=r"does not take it .Permission denied.: put that right, or"):
        fetch("carried", tmp_path)


def denied(*args, **kwargs):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_member_stays_below_its_folder(tmp_path, patch):
    for name in ("carrier/topics/../../../up.yml", "/carrier/topics/../up.yml"):
        assert not unpacking._place(name, "topics", "carrier/topics/")
    assert unpacking._place("top-1.0/topics/a.yml", "topics", "topics/") == "topics/a.yml"
    assert not unpacking._place("other_config.json", "config.json", "config.json")


def test_a_debian_package_is_read_without_root_s_rights(tmp_path, patch):
    verses = ["<w>In</w> the beginning", "And there was light"]
    archives = []
    (tmp_path / "verses").mkdir()
    for archive, side in zip(SOURCES["verses"].others, ("english", "spanish"), strict=True):
        prefix = archive.members[side]
        body = published.deb({f"{prefix}{name}": part for name, part in published.module(verses).items()})
        (tmp_path / "verses" / archive.file).write_bytes(body)
        archives.append(replace(archive, digest=hashlib.sha256(body).hexdigest()))
    patch.setitem(SOURCES, "verses", replace(SOURCES["verses"], others=tuple(archives)))
    patch.setattr(files, "download", None)
    assert pairs(tmp_path) == [("In the beginning",) * 2, ("And there was light",) * 2]
    (tmp_path / "verses" / "cut.deb").write_bytes(published.deb({"a": b"b"})[:90])
    with pytest.raises(files.FAILURES):
        unpacking.unpack(tmp_path / "verses" / "cut.deb", Archive("cut.deb", {"a": "a"}), tmp_path / "out")


def test_every_row_tells_its_licence_and_a_way():
    for name, source in (SOURCES | WEIGHTS).items():
        assert source.licence and source.size > 1000, name
        assert source.mirrors or all(archive.urls or archive.package for archive in source.others), name
        for archive in source.others:
            assert len(archive.digest) in (32, 64) or archive.trees
            assert {*archive.trees} <= {*archive.members}
            assert archive.package is None or archive.package.registry in packages.COMMANDS


# --- what readers make of them ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data root with small files of every set."""
    folder = tmp_path_factory.mktemp("data")
    for write in published.WRITERS.values():
        write(folder)
    return folder


def texts(data, split):
    return [" ".join(filter(None, (data.pieces[token] for token in row))) for row in getattr(data, split)[0].tolist()]


def test_validation_of_sst2_shares_no_four_words_with_training(root):
    data = DATASETS["sst2"](root, 0)
    known = {run for text in texts(data, "train") for run in runs(text)}
    assert not [text for text in texts(data, "val") if known.intersection(runs(text))]
    assert len(data.test[1]) == 40 and len(data.val[1]) >= 20
    rows = (root / "sst2" / "test.tsv").read_text().splitlines()[1:]
    assert [f"{text} \t{label}" for text, label in zip(texts(data, "test"), data.test[1].tolist(), strict=True)] == rows


def test_words_that_were_not_trained_on_are_unknown_and_bytes_know_all(root):
    data = DATASETS["sst2"](root, 0, words=3, length=4)
    assert data.vocabulary == len(data.pieces) == 5 and data.shape == (4,)
    assert data.pieces[:2] == ["", "<unk>"] and (data.train[0] == 1).any()
    data = DATASETS["sst2"](root, 0, tokens="bytes", length=20)
    assert data.vocabulary == 256
    text = (root / "sst2" / "test.tsv").read_text().splitlines()[1].split("\t")[0].strip()
    assert bytes(data.test[0][0].tolist()).rstrip(b"\0").decode() == text[:20]


def test_a_text_is_seen_as_its_words(root):
    data = DATASETS["sst2"](root, 0)
    first = (root / "sst2" / "test.tsv").read_text().splitlines()[1].split("\t")[0].strip()
    assert inputs(data.test[0][:1], data)["given"].pieces == [(first, None)]


def test_mails_that_nearly_equal_each_other_are_in_one_split(root):
    data = DATASETS["spam"](root, 0)
    assert sum(len(y) for _, y in (data.train, data.val, data.test)) == 60  # each is in the archive twice
    assert data.classes == ["ham", "spam"] and int(data.train[1].sum()) > 0
    splits = [texts(data, split) for split in ("train", "val", "test")]
    ends = [{text.removesuffix(" again").split(" ", 3)[3] for text in split} for split in splits]
    assert not ends[0] & ends[1] and not ends[0] & ends[2] and not ends[1] & ends[2]


def test_a_mail_s_parts_are_told_apart(root):
    subject, text, whole = (
        texts(DATASETS["spam"](root, 0, part=part), "train")[1] for part in ("subject", "text", "all")
    )
    assert subject.startswith("number") and subject.endswith("which goes on")
    assert text.startswith(subject) and len(text) > len(subject) and " b " not in text
    assert "from : " in whole and "x - host" in whole


def test_questions_that_come_again_are_left_out(root):
    assert len(exchanges(root)) == 39
    data, all_of_them = (DATASETS["chatterbot"](root, 0, distinct=distinct) for distinct in (True, False))
    assert data.classes == ["ai", "food", "money"]
    assert [sum(len(y) for _, y in (d.train, d.val, d.test)) for d in (data, all_of_them)] == [36, 39]
    assert exchanges(root)[0].answer == "Answer 0." and alike("Will you die") == alike("will you, die?") != alike("Die")


def test_texts_are_those_of_the_data_in_the_same_splits(root, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_DATA", str(root))
    for name in ("sst2", "spam", "chatterbot"):
        data, told = DATASETS[name](root, 3, tokens="bytes", length=30), lab.texts(name, 3)
        assert told.classes == data.classes
        for split in ("train", "val", "test"):
            lines, labels = getattr(told, split)
            x, y = getattr(data, split)
            assert y.tolist() == labels
            assert [bytes(row).rstrip(b"\0") for row in x.tolist()] == [line.encode()[:30] for line in lines]
    with pytest.raises(SpecError, match="did you mean 'sst2'"):
        lab.texts("sst")


def test_verses_are_pairs_of_words_with_an_end(root):
    data = DATASETS["verses"](root, 0, length=8)
    x, y = data.train
    assert len(pairs(root)) == 59  # one has no text
    assert x.shape[1] == 8 and y.shape[1] <= 9 and data.vocabulary == len(data.pieces)
    for english, spanish in zip(x.tolist(), y.tolist(), strict=True):
        words = [data.classes[token] for token in spanish if token != IGNORED]
        assert words[-2:] == ["spanish", "<end>"] and "left" not in words
        assert [data.pieces[token] for token in english if token][-1] == "english"
    few = DATASETS["verses"](root, 0, length=8, words=2)
    assert (
        few.classes[:4] == ["", "<start>", "<end>", "<unk>"] and (few.train[1] == 3).any() and (few.train[0] == 1).any()
    )
    with pytest.raises(SpecError, match="verses are so short"):
        DATASETS["verses"](root, 0, length=1)


def test_glosses_are_questions_with_the_place_of_their_answer(root, tmp_path):
    data = DATASETS["glosses"](root, 0)
    x, y = (torch.cat([split[i] for split in (data.train, data.val, data.test)]).tolist() for i in (0, 1))
    assert len(x) == 50 and data.vocabulary == len(data.pieces)  # the others don't name their kind
    for tokens, (first, last) in zip(x, y, strict=True):
        words = [data.pieces[token] for token in tokens if token]
        assert words[2] == "<sep>" and words[:1] == ["thing"] and words[-1] != "here" and "of" in words[4:]
        assert words[first : last + 1] in (["story"], ["light", "bulbs"])
    gloss = read_glosses(root / "wordnet" / "data.noun")[0]
    assert gloss.word == "thing 3" and gloss.text[gloss.first : gloss.last + 1] == ["light", "bulbs"]
    assert (DATASETS["glosses"](root, 0, words=2).train[0] == 1).any()
    with pytest.raises(SpecError, match="0 definitions are so short"):
        DATASETS["glosses"](root, 0, length=8)
    (tmp_path / "data.noun").write_text("00000001 03 n 01 a 0 001 @ 00000009 n 0000 | of it\n")
    with pytest.raises(SpecError, match="can't be used: '00000009'"):
        read_glosses(tmp_path / "data.noun")


def test_spoken_digits_are_split_by_take_or_by_voice(root):
    data = DATASETS["fsdd"](root, 0)
    assert len(data.test[1]) == 100 and len(data.train[1]) + len(data.val[1]) == 60 and data.sample_rate == 8000
    assert data.train[0].abs().max() <= 1 and data.train[0][:, 200:].abs().max() == 0
    assert torch.bincount(data.test[1]).tolist() == [10] * 10
    alone = DATASETS["fsdd"](root, 0, speaker="george", seconds=0.01)
    assert len(alone.test[1]) == 80 == len(alone.train[1]) + len(alone.val[1]) and alone.shape == (80,)


def test_spoken_digits_are_alike_in_a_folder(root, tmp_path):
    (tmp_path / "fsdd" / "recordings").mkdir(parents=True)
    for name, contents in published.recordings().items():
        (tmp_path / "fsdd" / "recordings" / name).write_bytes(contents)
    assert torch.equal(DATASETS["fsdd"](tmp_path, 0).train[0], DATASETS["fsdd"](root, 0).train[0])
    (tmp_path / "fsdd" / "recordings" / "3_theo_1.wav").write_bytes(published.wav(torch.ones(9).numpy(), rate=16000))
    with pytest.raises(SpecError, match="at 16000 Hz"):
        DATASETS["fsdd"](tmp_path, 0)


def test_the_last_film_of_each_user_is_tested(root):
    data = DATASETS["movielens_100k"](root, 0)
    table = read_ratings(root / "ml-100k" / "u.data")
    assert [len(y) for _, y in (data.train, data.val, data.test)] == [98_114, 943, 943]
    assert data.test[0][:, 0].unique().numel() == 943
    times = {tuple(row[:2] - 1): row[3] for row in table}
    for user, film in data.test[0][:50].tolist():
        assert times[user, film] == table[table[:, 0] == user + 1, 3].max()
    assert len(DATASETS["movielens_100k"](root, 0, split="random").test[1]) == 10_000
    assert titles(root)[6] == "Film number 7 (1995)"


def test_ratings_are_read_as_either_file_has_them(root, tmp_path):
    path = tmp_path / "u.data"
    path.write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + published.ratings())
    assert (read_ratings(path) == read_ratings(root / "ml-100k" / "u.data")).all()
    path.write_text(published.ratings()[:-40])
    with pytest.raises(SpecError, match="100,000 are published"):
        read_ratings(path)


def test_cut_outs_are_scaled_into_a_transparent_square(root):
    data = DATASETS["tuxpaint"](root, 0, size=16)
    x, y = data.train
    assert data.classes == ["animals", "food"] and data.shape == (4, 16, 16) and len(y) + 4 == 24
    assert not x[:, 3, :4].any() and not x[:, 3, 12:].any() and x[:, 3, 4:12].float().mean() > 50


def test_cut_outs_of_test_scenes_are_in_no_other(root, monkeypatch):
    with pytest.raises(SpecError, match="0 pictures in folders named birds, chess"):
        DATASETS["cutout_scenes"](root, 0)
    monkeypatch.setattr("lepton_lab.datasets.cutouts.KINDS", ["deep"])
    seen, made = [], cutouts._scenes
    monkeypatch.setattr(
        cutouts, "_scenes", lambda things, *more: seen.append({*map(bytes, things)}) or made(things, *more)
    )
    data = DATASETS["cutout_scenes"](root, 0, samples=50)
    assert seen[0] == seen[1] and len(seen[2]) == 6 and not seen[0] & seen[2]
    picture, target = data.test[0]
    assert picture.shape == data.shape == (3, 96, 96) and data.classes == ["background", "deep"]
    assert {*target["labels"].tolist()} == {1} and (target["boxes"][:, 2:] - target["boxes"][:, :2]).min() > 10


def test_groups_stay_whole_and_parts_have_their_share():
    assert groups([[1, 2], [3], [2, 4], [4], []]) == [0, 1, 0, 0, 4]
    numbers = [i // 7 for i in range(700)]
    parts = dealt(numbers, 3, 0.1, 0.2)
    assert sorted(torch.cat(parts).tolist()) == [*range(700)]
    assert [len(part) for part in parts] == [490, 70, 140]
    owners = [{numbers[place] for place in part.tolist()} for part in parts]
    assert not owners[0] & owners[1] and not owners[0] & owners[2] and not owners[1] & owners[2]
    assert not torch.equal(parts[1], dealt(numbers, 4, 0.1, 0.2)[1])


@pytest.mark.parametrize("name", published.WRITERS)
def test_files_that_hold_something_else_are_one_sentence(name, tmp_path):
    published.WRITERS[name](tmp_path)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        body = path.read_bytes()
        path.write_bytes(body[: len(body) // 2] + b"\xff\xfe\x00{[" if path.name != "u.item" else b"1|one\n")
    with pytest.raises(SpecError, match="can't be used"):
        titles(tmp_path) if name == "movielens_100k" else DATASETS[name](tmp_path, 0)


# --- what people see --------------------------------------------------------------------------------------------------


def call(*words):
    done = CliRunner().invoke(main, ["data", *words])
    return done.exit_code, done.output


def test_the_list_fits_a_terminal_and_tells_what_is_here(root, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_DATA", str(root))
    status, text = call("list")
    lines = text.splitlines()
    assert status == 0 and max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:]] == [*DATASETS, *WEIGHTS]
    assert next(line for line in lines if line.startswith("fsdd")).split()[1:5] == ["sound", "3,000", "15.3", "MiB"]
    records = {record["name"]: record for record in json.loads(call("list", "--json")[1])}
    assert records["sst2"]["here"] and records["digits"]["here"] and not records["minilm"]["here"]


def test_a_set_is_shown_and_an_unknown_one_refused(root, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_DATA", str(root))
    status, text = call("show", "movielens_100k")
    assert status == 0 and "no redistribution" in text and "pip download --no-deps recbole==1.2.1" in text
    assert "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407" in text and "Raises" not in text
    assert "train 98,114" in text and "pip" not in call("show", "digits")[1]
    assert "weights_only=True" in call("show", "efficientnet_lite0")[1]
    about = json.loads(call("show", "sst2", "--json", "--option", "tokens=bytes")[1])
    assert about["folder"] == str(root / "sst2") and len(about["look"]["examples"]) == 5
    words = (root / "sst2" / "train.tsv").read_text()
    assert all(line.split("  [")[0][:30] in words for line in about["look"]["examples"])
    assert "<end>" in call("show", "verses")[1] and "4 x 32 x 32  [food]" in call("show", "tuxpaint")[1]
    status, text = call("get", "movielens")
    assert status == 2 and "did you mean 'movielens_100k'?" in text and "minilm" in text
    assert call("get", "digits") == (0, "digits: there is nothing to download.\n")
    assert call("get", "sst2") == (0, f"{root / 'sst2'}\n")
    with pytest.raises(SpecError, match="did you mean 'minilm'"):
        lab.weights("minillm")


def test_what_a_run_keeps_of_its_data_s_origin():
    kept = origin("chatterbot")
    assert kept["licence"] == "BSD-3-Clause" and kept["from"] == [
        "python -m pip download --no-deps chatterbot-corpus==1.3.3"
    ]
    assert kept["digests"] == {SOURCES["chatterbot"].others[0].file: SOURCES["chatterbot"].others[0].digest}
    assert origin("digits") == origin("images:photos") == {}


# --- the real ones ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (SHARED / "sst2").is_dir(), reason="no SST-2 in ../shared/data")
def test_the_real_sentences():
    data = DATASETS["sst2"](SHARED, 0)
    assert len(data.test[1]) == 872 and int(data.test[1].sum()) == 444
    assert len(data.train[1]) + len(data.val[1]) in (60_614, 67_349) and len(data.pieces) == 8002


@pytest.mark.skipif(not (SHARED / "fsdd").is_dir(), reason="no FSDD in ../shared/data")
def test_the_real_digits():
    data = DATASETS["fsdd"](SHARED, 0, speaker="theo")
    assert len(data.test[1]) == 500 and len(data.train[1]) + len(data.val[1]) == 2500
    assert torch.bincount(data.test[1]).tolist() == [50] * 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["movielens_100k", "chatterbot"])
def test_the_real_packages(name, tmp_path):
    try:
        fetch(name, tmp_path)
    except SpecError as error:
        pytest.skip(f"no package index answers: {error}")
    data = DATASETS[name](tmp_path, 0)
    counts = {"movielens_100k": 100_000, "chatterbot": 721}
    assert sum(len(y) for _, y in (data.train, data.val, data.test)) == counts[name]
    if name == "chatterbot":
        found = exchanges(tmp_path)
        assert len(found) == 2025 and len({alike(one.question) for one in found}) == 747
    else:
        assert titles(tmp_path)[0].startswith("Toy Story")
