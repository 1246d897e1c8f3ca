"""Texts in pieces that occur often: byte pair encoding and WordPiece, learnt from the training part, or by others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..errors import needs
from ..spelling import TOKENIZERS
from ..tables import weights
from .base import once
from .texts import continued, read, written

if TYPE_CHECKING:
    from ..datasets import Data

Pieces = Annotated[int, Field(ge=300, le=65536)]
Length = Annotated[int, Field(ge=0, le=65536)]
NO_TEXT = ("<pad>", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
BETWEEN = 8192  # characters of a text that are given to the trainer at once


def _sees(
    shape: tuple[int, ...], classes: int, vocabulary: int, *, size: int = 1000, length: int = 0, pretrained: str = ""
) -> tuple[tuple[int, ...], int, int]:
    size = TOKENIZERS.get(pretrained, size)
    return (length or shape[0],), size if continued(shape, classes, vocabulary) else classes, size


@once("tokens", sees=_sees, fits=True)
def bpe(data: Data, seed: int, *, size: Pieces = 1000, length: Length = 0) -> Data:
    """
    Texts in pieces of bytes that occur often together in the training part: byte pair encoding (library `tokenizers`).

    It begins with the 256 bytes and joins the commonest neighbours, so that any text can be written. Source: R.
    Sennrich, B. Haddow and A. Birch, Neural Machine Translation of Rare Words with Subword Units, 2016.

    Parameters
    ----------
    size
        Kinds of pieces, from 300 to 65,536; 0 is padding.
    length
        Pieces of a sample, longer texts are cut; 0: as many as there were tokens.

    Raises
    ------
    SpecError
        If tokens are no bytes, characters or words.
    Missing
        If `tokenizers`, of the extra nlp, is not installed.
    """
    tokenizer, trainer = byte_pairs("transforms='bpe'", size, ["<pad>"])
    return _in_pieces(data, tokenizer, trainer, "byte_level", "bpe", size, length)


def byte_pairs(what: str, size: int, special: list[str]) -> tuple[Any, Any]:
    """A tokenizer of byte pairs that knows nothing yet, and what trains it; the `special` pieces come first."""
    needs(what, "tokenizers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    return tokenizer, trainer


@once("tokens", sees=_sees, fits=True)
def wordpiece(
    data: Data, seed: int, *, size: Pieces = 1000, length: Length = 0, pretrained: Literal["", "minilm"] = ""
) -> Data:
    """
    Texts in words and parts of words that occur often in the training part: WordPiece (library `tokenizers`).

    Words end at blanks and at punctuation; "##" marks pieces that go on with one. What can't be written is [UNK]. The
    pieces of `pretrained` weights are those that these were trained on; a text with a label then begins with [CLS] and
    ends with [SEP], also where it is cut.
    Source: M. Schuster and K. Nakajima, Japanese and Korean Voice Search, 2012.

    Parameters
    ----------
    size
        Kinds of pieces, from 300 to 65,536; 0 is padding, 1 is what can't be written.
    length
        Pieces of a sample, longer texts are cut; 0: as many as there were tokens.
    pretrained
        Name of weights whose pieces are taken, of which there are as many as they have; "" learns `size` of them.

    Raises
    ------
    SpecError
        If tokens are no bytes, characters or words, or weights are missing and can't be had.
    Missing
        If `tokenizers`, of the extra nlp, is not installed.
    """
    needs("transforms='wordpiece'", "tokenizers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if pretrained:
        tokenizer = Tokenizer.from_file(str(weights(pretrained) / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if continued(*data.sample):  # one long text, of which windows are cut
            tokenizer.post_processor = None
        else:
            tokenizer.enable_truncation(length or data.shape[0])
        return _written(data, read(data, "wordpiece"), tokenizer, "wordpiece", length, TOKENIZERS[pretrained])
    known = _commonest(read(data, "wordpiece")["train"], size // 4)
    first = ["[PAD]", "[UNK]", *known, *(f"##{letter}" for letter in known)]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    # Numbered beforehand, since the trainer takes them in the order of a hash table, which differs from run to run.
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False)

    def plain(trained: Any) -> Any:
        """The same without letters that are never cut."""
        made = Tokenizer(models.WordPiece(trained.get_vocab(), unk_token="[UNK]"))
        made.pre_tokenizer, made.decoder = trained.pre_tokenizer, trained.decoder
        return made

    return _in_pieces(data, tokenizer, trainer, "wordpiece", "wordpiece", size, length, set(known), plain)


def _commonest(texts: list[str], most: int) -> list[str]:
    """The commonest letters, of equally common ones the first by their number; in that order."""
    counts = Counter(letter for text in texts for letter in text if not letter.isspace())
    return sorted(sorted(counts, key=lambda letter: (-counts[letter], letter))[:most])


def _in_pieces(
    data: Data,
    tokenizer: Any,
    trainer: Any,
    kind: str,
    name: str,
    size: int,
    length: int,
    known: Container[str] | None = None,
    finish: Callable[[Any], Any] = lambda trained: trained,
) -> Data:
    """Data in the pieces that a trainer finds in the training texts, of which it sees the `known` letters."""
    texts = read(data, name)
    parts = (text[begin : begin + BETWEEN] for text in texts["train"] for begin in range(0, len(text), BETWEEN))
    if known is not None:
        parts = ("".join(letter if letter in known else " " for letter in part) for part in parts)
    tokenizer.train_from_iterator(parts, trainer)
    return _written(data, texts, finish(tokenizer), kind, length, size)


def _written(data: Data, texts: dict[str, list[str]], tokenizer: Any, kind: str, length: int, size: int) -> Data:
    """Data of texts in the pieces of a tokenizer, up to `size` kinds of them."""
    import torch

    names = [""] * size
    for piece, number in tokenizer.get_vocab().items():
        names[number] = "" if piece in NO_TEXT else piece
    fields: dict[str, Any] = {"vocabulary": size, "tokens": kind, "tokenizer": tokenizer.to_str()}
    fields |= {"classes": names} if continued(*data.sample) else {"pieces": names}

    def write(text: str) -> list[int]:
        return list(tokenizer.encode(text).ids)

    return written(data, texts, write, length or data.shape[0], torch.int16 if size <= 2**15 else torch.int32, **fields)
