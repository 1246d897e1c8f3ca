"""A chart is described once and drawn twice: plotly where someone can point at it, a PNG everywhere else."""

from __future__ import annotations

import base64
import html
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LabError, SpecError, needs
from ..files import absolute, why, write_bytes

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

# After Okabe and Ito, told apart with any kind of colour vision; darker where theirs are pale: at least 3:1 on white
# and on Lab's dark. The live view has the same (base.js).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#B8558F", "#B97A00", "#2E8FC9", "#6A4FC0", "#5B6B80")

INK, GREY, GRID = "#24292f", "#57606a", "#e4e7eb"  # of the PNG, on white
GREY_ANYWHERE = "#7b818a"  # of plotly, whose background is the page's: 4:1 on white and on Lab's dark
FONT = "'DejaVu Sans', Verdana, system-ui, sans-serif"  # the PNG's, so that a chart is itself when it is pointed at
DPI = 200
LETTER = 0.62  # width of a bold letter, of its size
WIDTH = 120  # CSS pixels an inch of PNG is shown at
PAGE = 912  # CSS pixels of a figure that takes a page's width
Ends = tuple[float, float]
PICTURE = "lepton-picture"
DARK = f'<style>[data-jp-theme-light="false"] .{PICTURE} {{ filter: invert(0.92) hue-rotate(180deg) }}</style>'
"""A picture is drawn on white; on a dark page of JupyterLab or nbconvert it is turned over, with its hues kept."""
MARKERS = (("o", "circle"), ("s", "square"), ("^", "triangle-up"), ("D", "diamond"), ("v", "triangle-down"))
SAVED = {".png": "png", ".svg": "_svg", ".html": "_page"}
"""Ending of a file -> what makes it."""
AXIS = {"gridcolor": "rgba(128,128,128,0.22)", "linecolor": "rgba(128,128,128,0.5)", "zeroline": False}
AXIS |= {"automargin": True}
CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "responsive": False,  # JupyterLab resizes by itself; both together fold a chart up when the theme changes
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}


@dataclass(frozen=True)
class Chart:
    """
    A finished figure.

    Last in a cell it is shown: interactive where plotly is known, as a PNG in saved notebooks, HTML and papermill.
    """

    title: str
    """What it shows."""
    text: str
    """The same in words: the alternative text of the picture."""

    def figure(self) -> go.Figure:
        """The chart as a plotly figure, to change or to save as one likes."""
        needs("a chart to point at", "plotly")
        import plotly.graph_objects as go

        described = self.plotly()
        return go.Figure(data=described["data"], layout=described["layout"])

    def plotly(self) -> dict[str, Any]:
        """The chart as plotly.js takes it: data, layout and config; no part of it needs the network."""
        shared = layout(self.title, self._size()[1])
        return {"data": self._traces(shared), "layout": shared, "config": CONFIG}

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        """Plotly's traces; what they need of the layout is put into it."""
        raise NotImplementedError

    def png(self, dpi: int = DPI) -> bytes:
        """The chart as a PNG on white; as it comes, for paper and screens of high density."""
        canvas = self._drawn(dpi)
        from PIL import Image  # which matplotlib brings

        image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
        image = image.quantize(255, dither=Image.Dither.NONE)
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        return file.getvalue()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """
        Write the chart to a file.

        Parameters
        ----------
        path
            Its ending says what is written: `.png` and `.svg` a picture, `.html` a page of its own to point at, which
            needs no network (5 MB).

        Raises
        ------
        SpecError
            If the ending is another.
        LabError
            If the file can't be written.
        """
        file = absolute(path, "path")
        if file.suffix not in SAVED:
            raise SpecError(f"path={str(path)!r}: must end in {', '.join(SAVED)}")
        try:
            write_bytes(file, getattr(self, SAVED[file.suffix])())
        except OSError as error:
            raise LabError(
                f"the chart {str(path)!r} can't be written ({why(error, file)}): name another file"
            ) from None
        return file

    def _svg(self) -> bytes:
        file = io.BytesIO()
        self._drawn(DPI).figure.savefig(file, format="svg")
        return file.getvalue()

    def _page(self) -> bytes:
        return self.figure().to_html(include_plotlyjs=True, config=CONFIG).encode()

    def _drawn(self, dpi: int) -> FigureCanvasAgg:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a run's name may hold letters that the font lacks
            canvas = self._laid_out(dpi)
            canvas.draw()
        return canvas

    def _laid_out(self, dpi: int) -> FigureCanvasAgg:
        needs("a chart as a picture", "matplotlib")
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=self._size(), dpi=dpi, layout="constrained", facecolor="white")
        canvas = FigureCanvasAgg(figure)  # of our own: pyplot would keep it, and the notebook show it twice
        self._draw(figure)
        return canvas

    @property
    def html(self) -> str:
        """The chart in HTML: a sharp PNG within, and its words."""
        return self.image(PAGE, DPI)

    def image(self, width: int, dpi: int) -> str:
        """The chart in HTML, `width` CSS pixels wide: a PNG within, and its words as the alternative text."""
        picture = base64.b64encode(self.png(dpi)).decode()
        source = f"data:image/png;base64,{picture}"
        return f'{DARK}<img class="{PICTURE}" width="{width}" alt="{html.escape(self.text)}" src="{source}">'

    def _size(self) -> Ends:
        """Width and height in inches."""
        return 6.0, 3.5

    def _draw(self, figure: Figure) -> None:
        raise NotImplementedError

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        described, (width, height) = self.plotly(), (int(inches * WIDTH) for inches in self._size())
        described["layout"] |= {"width": width, "height": height}  # as large as the picture, whose place it takes
        data = {
            "application/vnd.plotly.v1+json": described,
            # JupyterLab shows it until someone points at it, pixel for pixel: more would be cut off.
            "image/png": base64.b64encode(self.png(WIDTH)).decode(),
            "text/html": self.image(width, WIDTH),  # nbconvert's pages know no words of a PNG
            "text/plain": self.text,
        }
        return data, {"image/png": {"alt": self.text, "width": width}}


@dataclass(frozen=True)
class Nothing(Chart):
    """A chart with nothing to draw yet: `text` says why."""

    @property
    def html(self) -> str:
        """The sentence."""
        return f'<p class="nothing">{html.escape(self.text)}</p>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"text/html": self.html, "text/plain": self.text}, {}

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["title"]["text"] = html.escape(self.text)
        return []

    def _draw(self, figure: Figure) -> None:
        figure.text(0.5, 0.5, plain(self.text), ha="center", va="center", color=GREY, wrap=True)


def color(index: int) -> str:
    """The colour of a run, a series or a row."""
    return COLORS[index % len(COLORS)]


def layout(title: str, height: float) -> dict[str, Any]:
    """What all plotly charts share, `height` inches high; the background is the page's."""
    return {
        "title": {
            "text": html.escape(title).replace("\n", "<br>"),
            "x": 0.01,
            "xanchor": "left",
            "font": {"size": 17, "weight": 700},
        },
        "font": {"family": FONT, "size": 13, "color": GREY_ANYWHERE},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": INK, "bordercolor": INK, "font": {"color": "#ffffff"}},
        "autosize": True,
        "height": round(height * WIDTH),
        "margin": {"l": 64, "r": 20, "t": 48, "b": 48},
        "legend": {"orientation": "h", "x": 0, "y": -0.24, "yanchor": "top"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY_ANYWHERE, "activecolor": COLORS[0]},
        "xaxis": {**AXIS},
        "yaxis": {**AXIS},
        "shapes": [],
        "annotations": [],
    }


def panel(
    layout: dict[str, Any], key: str, x: dict[str, Any], y: dict[str, Any], across: Ends = (0, 1), up: Ends = (0, 1)
) -> None:
    """Put a pair of axes with a key such as "2" into a plotly layout, on a part of its width and height."""
    layout[f"xaxis{key}"] = {**AXIS, "domain": across, "anchor": f"y{key}", **x}
    layout[f"yaxis{key}"] = {**AXIS, "domain": up, "anchor": f"x{key}", **y}


def dress(axes: Axes, x: str, y: str) -> None:
    """What all PNGs share: labels of the axes, quiet lines."""
    axes.set_xlabel(x, color=GREY, fontsize=9)
    axes.set_ylabel(y, color=GREY, fontsize=9)
    axes.tick_params(which="both", colors=GREY, labelsize=8.5, length=3, width=0.7)
    axes.tick_params(which="minor", length=1.5)
    axes.grid(True, color=GRID, lw=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color="#afb8c1", linewidth=0.7)


def log_axis(axes: Axes) -> None:
    """A log scale upright, with few labels."""
    from matplotlib.ticker import LogFormatterMathtext, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatterMathtext())
    axes.yaxis.set_minor_formatter(NullFormatter())


def head(figure: Figure, title: str, size: float = 10.5) -> None:
    """The title above a PNG, in as many lines as its width asks for."""
    import textwrap

    letters = int(figure.get_figwidth() * 72 / (LETTER * size))
    lines = [line for part in title.split("\n") for line in textwrap.wrap(part, letters)]
    figure.suptitle(plain("\n".join(lines)), x=0.012, ha="left", fontsize=size, fontweight="bold", color=INK)


def legend(figure: Figure, columns: int, size: float = 8.5, **which: Any) -> None:
    """The legend below a PNG, in line with its left edge; `which`: handles and names, if not all there are."""
    figure.legend(loc="outside lower left", ncols=columns, fontsize=size, frameon=False, labelcolor=INK, **which)


def plain(text: str) -> str:
    """Text that matplotlib takes as it is: no formula between dollars, no label hidden by an underscore."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
