"""Small files in the form in which data sets are published, for tests."""

import io
import struct
import tarfile
import wave
import zlib

import numpy as np
import yaml

WORDS = ("film", "plot", "scene", "actor", "story", "light", "dark", "long", "dull", "bright", "warm", "cold", "slow")
SPEAKERS = ("george", "jackson")


def tar_gz(files):
    """A .tar.gz of names and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, contents in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(contents)
            tar.addfile(entry, io.BytesIO(contents))
    return buffer.getvalue()


def deb(files):
    """A Debian package with these files, its data packed by xz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for name, contents in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(contents)
            tar.addfile(entry, io.BytesIO(contents))
    body = b"!<arch>\n"
    for name, contents in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", buffer.getvalue())):
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(contents):<10}`\n"
        body += head.encode() + contents + b"\n" * (len(contents) % 2)
    return body


def text(random, words):
    return " ".join(random.choice(WORDS, words))


def write_sst2(root):
    random = np.random.default_rng(0)
    (root / "sst2").mkdir(parents=True)
    for part, count in (("train", 200), ("test", 40)):
        lines = [f"{text(random, 5 + i % 3)} \t{i % 2}" for i in range(count)]
        (root / "sst2" / f"{part}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")


def mails(count=60):
    """Files of the package, each mail twice, of which every tenth nearly equals the one before."""
    random = np.random.default_rng(0)
    files = {"package/README.md": b"mails"}
    body = ""
    for i in range(count):
        body = body + " again" if i % 10 == 9 else text(random, 40)
        folder = "spam-1" if i % 3 == 0 else "easy-ham-1"
        mail = f"From: a{i}@b.c\nSubject: number {i}\n\twhich goes on\nX-Host: h{i}\n\n<b>{body}</b>\n".encode()
        files |= {f"package/data/{folder}/{i:05}.{end}": mail for end in ("txt", "json")}
    return files


def write_spam(root):
    (root / "spamassassin").mkdir(parents=True)
    (root / "spamassassin" / "mails.tgz").write_bytes(tar_gz(mails()))


def topics():
    """Files of the corpus by name: three topics of twelve questions, the first of them twice, and a torn one."""
    random = np.random.default_rng(0)
    files = {}
    for topic in ("ai", "food", "money"):
        talks = [[f"{text(random, 4)} {topic} {i}?", f"Answer {i}."] for i in range(12)]
        talks = [*talks, [talks[0][0], "Another answer."], "torn"]
        files[f"{topic}.yml"] = yaml.safe_dump({"categories": [topic], "conversations": talks}).encode()
    return files


def write_chatterbot(root):
    (root / "chatterbot" / "english").mkdir(parents=True)
    for name, contents in topics().items():
        (root / "chatterbot" / "english" / name).write_bytes(contents)


def module(texts):
    """Files of a module in Sword's zText, in blocks of five verses, half of them in each testament."""
    files = {}
    for testament, part in (("ot", texts[: len(texts) // 2]), ("nt", texts[len(texts) // 2 :])):
        blocks, verses, packed = b"", b"", b""
        for begin in range(0, len(part), 5):
            raw = b""
            for verse in (verse.encode() for verse in part[begin : begin + 5]):
                verses += struct.pack("<IIH", begin // 5, len(raw), len(verse))
                raw += verse
            body = zlib.compress(raw)
            blocks += struct.pack("<III", len(packed), len(body), len(raw))
            packed += body
        files |= {f"{testament}.bzs": blocks, f"{testament}.bzv": verses, f"{testament}.bzz": packed}
    return files


def write_verses(root, count=60):
    random = np.random.default_rng(0)
    for side in ("english", "spanish"):
        folder = root / "verses" / side
        folder.mkdir(parents=True)
        verses = [f'<w lemma="x">{text(random, 6)}</w><note n="1">left out</note> {side}' for _ in range(count)]
        verses[3] = ""
        for name, contents in module(verses).items():
            (folder / name).write_bytes(contents)


def write_glosses(root, count=60):
    """WordNet's file of nouns: each is of one of two kinds, which most definitions name."""
    random = np.random.default_rng(0)
    lines = [
        "  1 This is its licence.",
        "00000001 03 n 01 light_bulb 0 000 | a kind",
        "00000002 03 n 01 story 0 000 | one",
    ]
    for i in range(3, count + 3):
        kind, named = 2 - i % 2, ("a story", "old light bulbs")[i % 2] if i % 5 else "nothing"
        begun = f"{i:08} 03 n 02 thing_{i} 0 item 1 002 {'@' if i % 3 else '@i'} {kind:08} n 0000 ~ 00000002 n 0000"
        lines.append(f'{begun} | the {text(random, 3)} {named} of {text(random, 2)}; "as said here"  ')
    (root / "wordnet").mkdir(parents=True)
    (root / "wordnet" / "data.noun").write_text("\n".join(lines) + "\n")


def wav(samples, rate=8000):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def recordings(takes=8):
    """Files by name: ten digits of two speakers, of unequal length."""
    random = np.random.default_rng(0)
    return {
        f"{digit}_{speaker}_{take}.wav": wav(random.integers(-9000, 9000, 100 + 10 * take))
        for digit in range(10)
        for speaker in SPEAKERS
        for take in range(takes)
    }


def write_fsdd(root):
    (root / "fsdd").mkdir(parents=True)
    files = {f"recordings/{name}": contents for name, contents in recordings().items()}
    (root / "fsdd" / "recordings.tar.gz").write_bytes(tar_gz(files))


def ratings():
    """u.data: 100,000 lines, whose order is not that of time."""
    rows = np.arange(100_000)
    columns = rows % 943 + 1, rows * 7 % 1682 + 1, rows % 5 + 1, 880_000_000 + rows * 31 % 99_991
    return "".join(f"{user}\t{film}\t{stars}\t{time}\n" for user, film, stars, time in zip(*columns, strict=True))


def write_movielens(root):
    (root / "ml-100k").mkdir(parents=True)
    (root / "ml-100k" / "u.data").write_text(ratings())
    lines = [f"{film}|Film number {film} (1995)|01-Jan-1995||url|0" for film in range(1, 1683)]
    (root / "ml-100k" / "u.item").write_text("\n".join(lines) + "\n", "latin-1")


def write_tuxpaint(root):
    """Two topics of twelve pictures, wide and of any opacity, and one that has too few."""
    from PIL import Image

    random = np.random.default_rng(0)
    for topic, count in (("animals", 12), ("food", 12), ("people", 2)):
        (root / "tuxpaint" / "stamps" / topic / "deep").mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = random.integers(0, 256, (10, 20, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "tuxpaint" / "stamps" / topic / "deep" / f"{i}.png")


WRITERS = {
    "sst2": write_sst2,
    "spam": write_spam,
    "chatterbot": write_chatterbot,
    "verses": write_verses,
    "glosses": write_glosses,
    "fsdd": write_fsdd,
    "movielens_100k": write_movielens,
    "tuxpaint": write_tuxpaint,
    "cutout_scenes": write_tuxpaint,
}
"""By data set, what writes small files of it into a data root."""
