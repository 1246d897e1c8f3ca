"""What in a picture a model's answer depends on, as colours; models side by side."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

from .drawing import COLORS, GREY, GREY_ANYWHERE, INK, Chart, Ends, head, panel, plain

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIGNED = ((0.0, COLORS[1]), (0.5, "#ffffff"), (1.0, COLORS[0]))
"""From what speaks against an answer to what speaks for it."""
AMOUNT = ((0.0, "#ffffff"), (0.5, COLORS[5]), (1.0, "#08305c"))
NAME = 16  # letters of a label
LINE = 58  # letters of the note's lines: what a narrow page shows
CELL = 1.5  # inches of a picture
MOST = 0.98  # of a map's pixels are told apart; the few beyond look like the strongest of these


@dataclass(frozen=True)
class Sample:
    """One picture, and what each model makes of it."""

    number: int
    """Its place in the split."""
    label: str
    """What it is."""
    image: np.ndarray
    """(H, W) or (H, W, 3), 0 to 1."""
    maps: tuple[np.ndarray, ...]
    """(H, W) of each model: what each pixel counts for the class that the first model names."""
    said: tuple[tuple[str, float], ...]
    """What each model names, and how sure it is of it, 0 to 1."""
    alike: float | None = None
    """Rank correlation of the first two maps; None where there is one model, or a map without differences."""


@dataclass(frozen=True)
class Maps(Chart):
    """Pictures in rows: each as it is, and what of it counts for each model."""

    heads: tuple[str, ...]
    """Names of the models."""
    samples: tuple[Sample, ...]
    """The rows, with all numbers."""
    signed: bool
    """Whether a map also tells what speaks against the answer."""
    note: str
    """How the colours are read."""

    @property
    def alike(self) -> float | None:
        """Mean rank correlation of both models' maps; None where there is one model."""
        correlations = [sample.alike for sample in self.samples if sample.alike is not None]
        return mean(correlations) if correlations else None

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        rows, columns = len(self.samples), 1 + len(self.heads)
        note = [line for part in self.note.split("; ") for line in textwrap.wrap(part, LINE)]
        layout["margin"] |= {"l": 12, "r": 12, "b": 28 + 15 * len(note)}
        frame = {"showgrid": False, "constrain": "domain", "showticklabels": False, "automargin": False}
        frame |= {"showline": True, "mirror": True}
        data = []
        for i, sample in enumerate(self.samples):
            for j, words in enumerate(self._words(i)):
                k = i * columns + j
                key = str(k + 1) if k else ""
                top = 1 - i / rows
                across, up = (j / columns, (j + 0.94) / columns), (top - 0.98 / rows, top - 0.18 / rows)
                panel(layout, key, frame, frame | {"scaleanchor": f"x{key}", "autorange": "reversed"}, across, up)
                layout["annotations"].append(
                    {"xref": f"x{key} domain", "yref": f"y{key} domain", "x": 0.5, "y": 1, "showarrow": False}
                    | {"yanchor": "bottom", "text": "<br>".join(map(html.escape, words)), "font": {"size": 11}}
                )
                picture = sample.image if j == 0 else sample.maps[j - 1]
                data.append(self._trace(picture, j > 0) | {"xaxis": f"x{key}", "yaxis": f"y{key}"})
        layout["annotations"].append(
            {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "yshift": -12, "yanchor": "top", "xanchor": "left"}
            | {"text": "<br>".join(map(html.escape, note)), "showarrow": False, "align": "left"}
            | {"font": {"size": 11, "color": GREY_ANYWHERE}}
        )
        return data

    def _trace(self, picture: np.ndarray, drawn: bool) -> dict[str, Any]:
        """A picture, or a map of one, as a plotly trace."""
        if not drawn and picture.ndim == 3:
            return {"type": "image", "z": (picture * 255).round().astype(int).tolist(), "hoverinfo": "skip"}
        values = self._scaled(picture) if drawn else picture
        scale = (SIGNED if self.signed else AMOUNT) if drawn else ((0.0, "#000000"), (1.0, "#ffffff"))
        hover = {"hovertemplate": "row %{y}, column %{x}: %{z:.2f} of the strongest<extra></extra>"}
        return {
            "type": "heatmap",
            "z": [[round(float(value), 3) for value in row] for row in values],
            "zmin": -1 if drawn and self.signed else 0,
            "zmax": 1,
            "showscale": False,
            "colorscale": [list(stop) for stop in scale],
        } | (hover if drawn else {"hoverinfo": "skip"})

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """A map by its own strongest pixels: -1 to 1."""
        import numpy as np

        top = float(np.quantile(np.abs(values), MOST)) or float(np.abs(values).max()) or 1.0
        return np.clip(values / top, -1, 1)

    def _words(self, row: int) -> list[tuple[str, ...]]:
        """Above each picture of a row: which it is, and what a model says of it."""
        sample = self.samples[row]
        words: list[tuple[str, ...]] = [(f"sample {sample.number}", f"is {_short(sample.label)}")]
        for name, (answer, sure) in zip(self.heads, sample.said, strict=True):
            words.append((name, f"says {_short(answer)} ({sure:.0%})"))
        if sample.alike is not None:
            words[-1] = (f"{self.heads[-1]}, {sample.alike:.2f} alike", words[-1][1])
        return words

    def _size(self) -> Ends:
        return 0.3 + (CELL + 0.3) * (1 + len(self.heads)), 0.9 + (CELL + 0.42) * len(self.samples)

    def _draw(self, figure: Figure) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        colors = LinearSegmentedColormap.from_list("counts", [*(SIGNED if self.signed else AMOUNT)])
        grid = figure.subplots(len(self.samples), 1 + len(self.heads), squeeze=False)
        for i, (sample, cells) in enumerate(zip(self.samples, grid, strict=True)):
            words = self._words(i)
            cells[0].imshow(sample.image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            for axes, values in zip(cells[1:], sample.maps, strict=True):
                low = -1 if self.signed else 0
                axes.imshow(self._scaled(values), cmap=colors, vmin=low, vmax=1, interpolation="nearest")
            for axes, lines in zip(cells, words, strict=True):
                _frame(axes, "\n".join(map(plain, lines)))
        head(figure, self.title)
        figure.supxlabel(plain(self.note.replace("; ", ";\n")), x=0.012, ha="left", fontsize=7.5, color=GREY)


def _frame(axes: Axes, words: str) -> None:
    axes.set_title(words, fontsize=8, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="#d0d7de", linewidth=0.7)


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"
