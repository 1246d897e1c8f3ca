"""Samples as a model answered them, drawn as HTML of what tasks say is to be seen: pictures, texts, sounds, ratings."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from ..pictures import unpacked
from ..section import escaped
from ..store.media import audio, png
from .drawing import COLORS
from .samples import Card, figure
from .series import number

SHOWN, BOXED = 144, 224  # CSS pixels of a picture's longer side, and of one with boxes
COARSE = 32  # pixels of a longer side up to which each is a square
WIDE, HIGH = 200, 90  # CSS pixels of a curve
RIGHT, WRONG = COLORS[2], COLORS[1]
TRUE, FOUND = COLORS[2], COLORS[1]  # boxes
MARKS = {True: f"background:{RIGHT}40", False: f"background:{WRONG}40;text-decoration:underline"}  # 25 % of a colour
CARD = (
    "display:inline-block;vertical-align:top;box-sizing:border-box;min-width:10rem;max-width:17rem;"
    "margin:0 .9rem .9rem 0;font-size:.8rem;line-height:1.5;overflow:hidden"
)
CELL = "vertical-align:top;text-align:left"
EDGE = "-webkit-text-stroke:.5px #7b818a"  # so that black is seen on a dark page
WORDS = "white-space:pre-wrap;overflow-wrap:anywhere"
SMALL = "font-size:.8rem;opacity:.8;margin:.3rem 0 .6rem"
DASHED, DOT = "4 2", "●"
SIGNS = {
    MARKS[True]: "Green is right.",
    MARKS[False]: "Orange, underlined, is wrong.",
    f'stroke-dasharray="{DASHED}"': "Solid boxes are the truth, dashed ones are the model's, with how sure it is.",
    f" {DOT}": f"{DOT} is the truth.",
}
"""Of what is drawn: what it means."""


def drawn(cards: list[Card], most: float = math.inf) -> str:
    """What their signs mean, and samples side by side as HTML, as many as come to `most` characters."""
    whole = [piece for card in cards if (piece := _card(card))]
    shown = [piece for piece, sum_ in zip(whole, accumulate(map(len, whole)), strict=True) if sum_ <= most]
    shown = shown or whole[:1]
    notes = [f"{len(whole) - len(shown)} more are not shown, so that the page stays small."] * (len(shown) < len(whole))
    if damaged := len(cards) - len(whole):
        notes.append(f"{damaged} of {len(cards)} samples can't be drawn: their file is damaged.")
    return _explained("".join(shown)) + "".join(f"<p>{note}</p>" for note in notes)


def tabled(cards: list[Card]) -> str:
    """What their signs mean, and samples as an HTML table, one a row; damaged ones are left out."""
    rows = [cells for card in cards if (cells := _cells(card))]
    columns = dict.fromkeys(name for row in rows for name in row)
    head = "".join(f'<th scope="col" style="{CELL}">{escaped(name)}</th>' for name in columns)
    lines = ("".join(f'<td style="{CELL}">{row.get(name, "")}</td>' for name in columns) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return _explained(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>") if rows else ""


def _explained(text: str) -> str:
    """Drawn samples below what the signs in them mean."""
    signs = " ".join(words for sign, words in SIGNS.items() if sign in text)
    return (f'<p style="{SMALL}">{signs}</p>' if signs else "") + text


def _cells(card: Card) -> dict[str, str]:
    """One sample as cells of a row by the names of their columns; none of a damaged one."""
    try:
        figures = figure(card)
        seen = {str(view["name"]): VIEWS[view["kind"]](view) for view in card["seen"]}
        return {"sample": str(int(card["sample"])), **({figures[0]: escaped(figures[1])} if figures else {}), **seen}
    except Exception:  # a file that others wrote may hold anything
        return {}


def _card(card: Card) -> str:
    """One sample: which, its loss, and what is seen of it; "" of a damaged one."""
    try:
        figures = figure(card)
        seen = "".join(_named(view) for view in card["seen"])
        head = escaped(f"Sample {int(card['sample'])}" + (f", {' '.join(figures)}" if figures else ""))
    except Exception:  # a file that others wrote may hold anything
        return ""
    return f'<figure style="{CARD}"><b>{head}</b>{seen}</figure>'


def _named(view: Mapping[str, Any]) -> str:
    name = str(view["name"])
    body = VIEWS[view["kind"]](view)
    inline = view["kind"] == "text" and len("".join(piece[0] for piece in view["pieces"])) < 40
    head = f'<span style="opacity:.75">{escaped(name)}</span>{" " if inline else "<br>"}' if name else ""
    return f"<div>{head}{body}</div>"


def _text(view: Mapping[str, Any]) -> str:
    spans = (
        f'<span style="{MARKS[right]}">{escaped(words)}</span>' if right is not None else escaped(words)
        for words, right in view["pieces"]
    )
    return f'<span style="{WORDS}">{"".join(spans)}</span>{_verdict(view["pieces"])}'


def _verdict(pieces: list[Any]) -> str:
    """A sign beside one answer, which does not rest on its colour."""
    return {True: " ✓", False: " ✗", None: ""}[pieces[0][1]] if len(pieces) == 1 else ""


def _img(pixels: np.ndarray, words: str, over: str = "") -> str:
    """Pixels (H, W, C) as large as can be well seen, few of them in whole steps, with an SVG over them."""
    height, width = pixels.shape[:2]
    side, longer = BOXED if over else SHOWN, max(height, width)
    larger = side // longer if longer <= COARSE else side / longer
    look = "pixelated" if longer <= COARSE else "auto"
    across, down = round(width * larger), round(height * larger)
    source = base64.b64encode(png(pixels)).decode()
    image = (
        f'<img class="own sample" alt="{escaped(words)}" src="data:image/png;base64,{source}" width="{across}" '
        f'height="{down}" style="image-rendering:{look};width:{across}px;max-width:100%">'
    )
    return f'<span style="position:relative;display:inline-block;line-height:0">{image}{over}</span>'


def _image(view: Mapping[str, Any]) -> str:
    true, found = view.get("boxes", []), view.get("found", [])
    over = "".join(_boxes(many, color, dash) for many, color, dash in ((true, TRUE, ""), (found, FOUND, DASHED)))
    svg = (
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true" '
        f'style="position:absolute;inset:0;width:100%;height:100%">{over}</svg>'
    )
    labels = ", ".join(str(words) for _, words in found) or "nothing"
    words = f"truth: {', '.join(str(words) for _, words in true) or 'nothing'}; found: {labels}"
    image = _img(unpacked(view, "uint8"), words if true or found else view["name"] or "sample", svg if over else "")
    if not (true or found):
        return image
    marks = (f'<span style="color:{TRUE}">▭</span> {escaped(words.split("; ")[0])}', escaped(labels))
    return f'{image}<br>{marks[0]}<br><span style="color:{FOUND}">▭</span> found: {marks[1]}'


def _boxes(boxes: list[Any], color: str, dash: str) -> str:
    pieces = []
    for corners, _ in boxes:
        left, top, right, bottom = (100 * min(1.0, max(0.0, float(at))) for at in corners)
        pieces.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(0, right - left):.1f}" '
            f'height="{max(0, bottom - top):.1f}" fill="none" stroke="{color}" stroke-width="2" '
            f'stroke-dasharray="{dash}" vector-effect="non-scaling-stroke"/>'
        )
    return "".join(pieces)


def _mask(view: Mapping[str, Any]) -> str:
    """A colour a class: the first is black, and what is none of them is white."""
    values = unpacked(view, "uint8")
    colors = np.array([tuple(bytes.fromhex(_of_class(number)[1:])) for number in range(256)], np.uint8)
    seen = np.unique(values[values < 255])[:12]
    names = {int(number): str(name) for number, name in view.get("names", {}).items()}
    image = _img(colors[values], f"{view['name']}: {', '.join(names.get(int(i), f'class {i}') for i in seen)}")
    signs = (
        f'<span style="color:{_of_class(number)};{EDGE}">■</span> {escaped(name)}' for number, name in names.items()
    )
    return f"{image}<br>{' '.join(signs)}" if names else image


def _of_class(number: int) -> str:
    return {0: "#000000", 255: "#ffffff"}.get(number, COLORS[(number - 1) % len(COLORS)])


def _sound(view: Mapping[str, Any]) -> str:
    wave = unpacked(view, "int16")
    body, _ = audio(wave, int(view["rate"]))
    source = base64.b64encode(body).decode()
    every = -(-len(wave) // 100)
    peaks = [float(np.abs(wave[i : i + every].astype(float)).max()) / 32768 for i in range(0, len(wave), every)]
    reach = [19 * math.sqrt(peak) for peak in peaks]  # the root, so that what is quiet is seen too
    lines = "".join(f"M{i} {20 - high:.1f}V{20 + high + 0.5:.1f}" for i, high in enumerate(reach))
    svg = (
        f'<svg viewBox="0 0 {len(peaks)} 40" width="{WIDE}" height="40" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{lines}" stroke="{COLORS[0]}" fill="none"/></svg>'
    )
    player = f'<audio controls src="data:audio/wav;base64,{source}" style="width:{WIDE}px;height:32px"'
    return f'{svg}<br>{player} aria-label="{escaped(view["name"])}"></audio>'


def _curves(view: Mapping[str, Any]) -> str:
    lines = {str(name): [_finite(value) for value in values] for name, values in view["lines"].items()}
    seen = [value for values in lines.values() for value in values if value is not None]
    low, high = min(seen, default=0.0), max(seen, default=1.0)
    scale = (HIGH - 4) / ((high - low) or 1)
    paths, names = "", []
    for i, (name, values) in enumerate(lines.items()):
        points = " ".join(
            f"{WIDE * at / max(1, len(values) - 1):.1f},{HIGH - 2 - scale * (value - low):.1f}"
            for at, value in enumerate(values)
            if value is not None
        )
        color = COLORS[i % len(COLORS)]
        paths += f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.3"/>'
        names += [f'<span style="color:{color}">▬</span> {escaped(name)}'] if name else []
    ends = escaped(f"{view['name']} from {number(low)} to {number(high)}".strip())
    svg = (
        f'<svg viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}" role="img" aria-label="{ends}">{paths}</svg>'
    )
    return f"{svg}<br>{' '.join(names)}"


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _bars(view: Mapping[str, Any]) -> str:
    rows = ""
    for name, value, true in view["bars"]:
        wide = 90 * min(1.0, max(0.0, float(value)))
        color = RIGHT if true else COLORS[7]
        rows += (
            f'<div style="display:flex;gap:.4rem;align-items:center"><span style="flex:0 0 4.5rem">{escaped(name)}'
            f"{f' {DOT}' if true else ''}</span>"
            f'<span style="flex:0 0 90px"><span style="display:block;width:{wide:.0f}px;height:.6rem;'
            f'background:{color}"></span></span>'
            f"<span>{float(value):.0%}</span></div>"
        )
    return rows


VIEWS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "text": _text,
    "image": _image,
    "mask": _mask,
    "sound": _sound,
    "curves": _curves,
    "bars": _bars,
}
"""By the kind of a view of `lepton_lab.pictures`, how it is drawn."""
