"""Ways down a loss of two weights, moving: plotly with a button, elsewhere a PNG that moves."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import needs
from .drawing import GREY_ANYWHERE, Chart, Ends, color, dress, head, legend
from .series import number
from .traces import MARKER, Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from torch import Tensor

GRID = 61  # points of the surface along each weight
MARGIN = 0.15  # of what the ways cover: left free around them
LONGEST = 240  # points of a way, at most
FRAMES = 30
PAUSE = 130  # milliseconds a frame
LOOPS = 3  # then it stands still: what moves for ever distracts from the text beside it
LEVELS = 14  # contour lines
WIDTH, DOT = 1.4, 6.5  # points: of a way's line, and of the dot at its end
DPI = 120
SHADES = 128  # colours of the moving PNG


@dataclass(frozen=True)
class Way:
    """Points (a, b) that an optimizer passed through, from its start on."""

    name: str
    a: list[float]
    b: list[float]

    def until(self, share: float) -> tuple[list[float], list[float]]:
        """The part of the way that is done at a share of the time, which is the same for all ways."""
        count = 1 + math.floor(share * (len(self.a) - 1))
        return self.a[:count], self.b[:count]


@dataclass(frozen=True)
class Descent(Chart):
    """Contour lines of a loss, and the ways down it: all begin and end at the same time."""

    a: list[float]
    b: list[float]
    """The grid's values of either weight."""
    heights: list[list[float]]
    """Loss by b (rows) and a (columns), above its lowest."""
    ways: tuple[Way, ...]

    @property
    def levels(self) -> list[float]:
        """Heights of the contour lines: dense at the bottom, where ways differ."""
        top = max(map(max, self.heights))
        return [top * ((i + 0.5) / LEVELS) ** 2 for i in range(LEVELS)]

    def plotly(self) -> dict[str, Any]:
        """The chart as plotly.js takes it, with a button that plays it."""
        moving = list(range(1, len(self.ways) + 1))
        frames = [
            {"name": str(i), "data": [_points(way, i / (FRAMES - 1)) for way in self.ways], "traces": moving}
            for i in range(FRAMES)
        ]
        return super().plotly() | {"frames": frames}

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["xaxis"] |= {"title": {"text": "first weight"}, "range": [self.a[0], self.a[-1]], "showgrid": False}
        layout["yaxis"] |= {"title": {"text": "second weight"}, "range": [self.b[0], self.b[-1]], "showgrid": False}
        timing = {"frame": {"duration": PAUSE, "redraw": False}, "transition": {"duration": 0}}
        layout["updatemenus"] = [
            {"type": "buttons", "x": 1, "xanchor": "right", "y": -0.14, "yanchor": "top", "showactive": False}
            | {"buttons": [{"label": "Play", "method": "animate", "args": [None, timing]}]}
        ]
        return [self._contours(), *(_trace(i, way) for i, way in enumerate(self.ways))]

    def _contours(self) -> dict[str, Any]:
        """Contour lines as one plain line with gaps: plotly drops contours of its own while it plays."""
        needs("a chart of a descent", "matplotlib")
        from contourpy import contour_generator  # which matplotlib brings

        generator = contour_generator(self.a, self.b, self.heights)
        x: list[float | None] = []
        y: list[float | None] = []
        for level in self.levels:
            lines: Any = generator.lines(level)  # arrays (N, 2), as contourpy gives them unless asked otherwise
            for line in lines:
                x += [*(float(f"{a:.4g}") for a, _ in line), None]
                y += [*(float(f"{b:.4g}") for _, b in line), None]
        style = {"color": "rgba(128,128,128,0.4)", "width": 1}  # seen on white and on black
        return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": style, "hoverinfo": "skip"} | {
            "showlegend": False
        }

    def png(self, dpi: int = DPI) -> bytes:
        """A PNG that moves where such are known, and is the whole picture where not."""
        images = self._frames(dpi)
        file = io.BytesIO()
        timing = {"duration": [PAUSE] * (FRAMES - 1) + [3000], "loop": LOOPS}
        # The first image is what is shown where PNGs don't move; the last of the moving ones is the same.
        images[-1].save(file, "PNG", save_all=True, default_image=True, append_images=images, optimize=True, **timing)
        return file.getvalue()

    def _frames(self, dpi: int) -> list[Image]:
        """Pictures from the start to the end, in the same few colours."""
        canvas = self._laid_out(dpi)
        from PIL import Image  # which matplotlib brings

        figure = canvas.figure
        axes = figure.axes[0]
        lines = list(axes.lines)
        for line in lines:
            line.set_animated(True)  # drawn by us alone, over a ground that is drawn once
        canvas.draw()
        ground = canvas.copy_from_bbox(figure.bbox)
        drawn = []
        for i in range(FRAMES):
            canvas.restore_region(ground)
            for way, line, end in zip(self.ways, lines[::2], lines[1::2], strict=True):
                x, y = way.until(i / (FRAMES - 1))
                line.set_data(x, y)
                end.set_data(x[-1:], y[-1:])
            for line in lines:
                axes.draw_artist(line)
            drawn.append(Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB"))
        palette = Image.new("P", (1, 1))
        shades = drawn[-1].quantize(SHADES, Image.Quantize.MAXCOVERAGE).getpalette()
        palette.putpalette([255, 255, 255, *(shades or [])])  # a ground that is quite white
        return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in drawn]

    def _size(self) -> Ends:
        return 6.0, 4.0

    def _draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.contour(self.a, self.b, self.heights, levels=self.levels, colors="#c4cad1", linewidths=0.7)
        for i, way in enumerate(self.ways):
            Trace(way.a, way.b, color(i), way.name, width=WIDTH).draw(axes)
            Trace(way.a[-1:], way.b[-1:], color(i), marker=0, size=DOT).draw(axes)
        axes.set_xlim(self.a[0], self.a[-1])
        axes.set_ylim(self.b[0], self.b[-1])
        dress(axes, "first weight", "second weight")
        axes.grid(False)
        head(figure, self.title, size=11)
        legend(figure, 3)


def descent(title: str, loss: Callable[[Tensor], Any], ways: Mapping[str, Sequence[Tensor]]) -> Chart:
    """
    Ways down the surface of a loss, moving: each from its first to its last point in the same time.

    Parameters
    ----------
    title
        What it shows.
    loss
        Loss of two weights, a tensor (2,) -> a number.
    ways
        Name of each way -> its points, each a tensor (2,).
    """
    import torch

    thin = {name: _thinned([w.tolist() for w in way]) for name, way in ways.items()}
    points = [point for way in thin.values() for point in way]
    axes = []
    for k in (0, 1):
        low, high = (f(point[k] for point in points) for f in (min, max))
        free = MARGIN * (high - low or 1.0)
        axes.append(torch.linspace(low - free, high + free, GRID).tolist())
    like = next(iter(ways.values()))[0]
    rows = [[float(loss(like.new_tensor([a, b]))) for a in axes[0]] for b in axes[1]]
    lowest = min(map(min, rows))
    words = [
        f"{name}: {len(way) - 1} steps, loss {number(float(loss(way[0])))} to {number(float(loss(way[-1])))}"
        for name, way in ways.items()
    ]
    drawn = tuple(Way(name, [a for a, _ in way], [b for _, b in way]) for name, way in thin.items())
    heights = [[value - lowest for value in row] for row in rows]
    text = f"{title}: contour lines of a loss, and ways down. {'. '.join(words)}."
    return Descent(title, text, axes[0], axes[1], heights, drawn)


def _thinned(way: list[list[float]]) -> list[list[float]]:
    """Points that are enough to see a way by, with both ends."""
    return [*way[: -1 : -(-len(way) // LONGEST)], way[-1]]


def _points(way: Way, share: float) -> dict[str, Any]:
    """What of a way is seen at a share of the time: its line, and a dot at its end."""
    a, b = way.until(share)
    return {
        "x": [float(f"{value:.4g}") for value in a],
        "y": [float(f"{value:.4g}") for value in b],
        "marker": {"size": [0] * (len(a) - 1) + [MARKER * DOT]},
    }


def _trace(index: int, way: Way) -> dict[str, Any]:
    trace = Trace(way.a, way.b, color(index), way.name, width=WIDTH, marker=0, hover="%{x:.3f}, %{y:.3f}").plotly()
    points = _points(way, 1.0)
    edge = {"line": {"width": 1, "color": GREY_ANYWHERE}, "opacity": 1}
    return trace | points | {"marker": trace["marker"] | points["marker"] | edge}
