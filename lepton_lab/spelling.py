"""How tokens are spelled: by their bytes, by names, or by the pieces of a tokenizer, in a form that a file can keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .errors import SpecError, needs

MARKS = {"##": "wordpiece", "▁": "metaspace", "Ġ": "byte_level"}
"""What stands in the pieces of a kind of tokenizer: before a piece that goes on, or in place of a space."""

TOKENIZERS = {"minilm": 30_522}
"""Kinds of pieces of the tokenizers that come with weights which others trained, by the weights' name."""


def spelled(tokens: Iterable[Any], names: Sequence[str], kind: str = "") -> str:
    """
    Tokens as text, without those below 0, which are none.

    Parameters
    ----------
    names
        Of tokens by number; what has none is written as its number, and what is called "" (padding) not at all.
    kind
        "bytes", where a token is one; one of MARKS' values, where names are a tokenizer's pieces; else names stand
        together or apart, as they look.
    """
    numbers = [int(token) for token in tokens if int(token) >= 0]
    numbers = [token for token in numbers if token >= len(names) or names[token]]
    if kind == "bytes":
        return bytes(token % 256 for token in numbers).decode(errors="replace")
    words = [names[token] if token < len(names) else str(token) for token in numbers]
    return _joined(words, kind) if kind in MARKS.values() else space(names).join(words)


def space(names: Sequence[str]) -> str:
    """What stands between tokens: nothing where each is a character, or nothing as a blank, but for numbers."""
    names = [name for name in names if name]
    single = names and all(len(name) == 1 or name.startswith("\\") for name in names)
    return "" if single and not all(name.isdigit() for name in names) else " "


def pieces(tokenizer: Any) -> dict[str, Any]:
    """Names and kind, as `spelled` takes them, of the pieces of a tokenizer such as Hugging Face's; {} of others."""
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    if convert is None or not hasattr(tokenizer, "__len__"):
        return {}
    special = {int(number) for number in getattr(tokenizer, "all_special_ids", ())}
    names = ["" if number in special else str(convert(number) or "") for number in range(len(tokenizer))]
    kind = next((kind for mark, kind in MARKS.items() if any(name.startswith(mark) for name in names)), "wordpiece")
    return {"names": names, "kind": kind}


def letters(collate: Any) -> dict[str, Any]:
    """The letters of the tokenizer that a collate has, such as one for CTC of Hugging Face, as `text`; {} of none."""
    tokenizer = getattr(collate, "tokenizer", None) or getattr(getattr(collate, "processor", None), "tokenizer", None)
    text = pieces(tokenizer)
    space = getattr(tokenizer, "word_delimiter_token_id", None)
    if not text or space is None:
        return {"text": text} if text else {}
    names = [" " if number == space else name for number, name in enumerate(text["names"])]
    return {"text": {"names": names, "kind": "characters"}}


def writer(content: Any, names: Sequence[str], kind: str) -> Callable[[str], list[int]]:
    """
    How a text becomes tokens, by what is known of them: see `of`; `content` may hold a `tokenizer`'s own JSON, too.

    A character that is none of the tokens is left out. A SpecError where nothing is known of them.
    """
    if isinstance(content, Mapping) and content.get("tokenizer"):
        return pieces_of(str(content["tokenizer"]))
    names, kind = of(content, names, kind)
    if kind == "bytes":
        return lambda text: list(text.encode())
    if kind != "characters":
        raise SpecError("samples: this model's file does not say how a text becomes tokens; give their numbers")
    numbers = {name: number for number, name in enumerate(names)}
    return lambda text: [numbers[letter] for letter in text if letter in numbers]


def pieces_of(tokenizer: str) -> Callable[[str], list[int]]:
    """How a text becomes the pieces of a tokenizer, given as JSON of the library `tokenizers`, and its marks."""
    needs("text in pieces", "tokenizers")
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(tokenizer)
    return lambda text: list(made.encode(text).ids)


def of(content: Any, names: Sequence[str], kind: str) -> tuple[Sequence[str], str]:
    """Names and kind from what `pieces` gave, which is not trusted; else those that are given."""
    if not isinstance(content, Mapping) or not isinstance(content.get("names"), list):
        return [str(name) for name in names], kind
    return [str(name) for name in content["names"]], str(content.get("kind", ""))


def _joined(words: list[str], kind: str) -> str:
    if kind == "wordpiece":
        return " ".join(words).replace(" ##", "")
    if kind == "metaspace":
        return "".join(words).replace("▁", " ").strip()
    table = _letters()
    return bytes(table[letter] for word in words for letter in word if letter in table).decode(errors="replace")


def _letters() -> dict[str, int]:
    """
    The byte that each letter of a byte-level tokenizer stands for.

    Source: `bytes_to_unicode` of GPT-2's encoder: what can be seen stands for itself, the others follow from 256 on.
    """
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + i): byte for i, byte in enumerate(others)}
