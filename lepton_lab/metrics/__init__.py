"""
METRICS: what is counted of a model's answers. A member is a class in a file of its own, and a line in the table.

Nothing else spells a metric's name: rows of events carry it, and every view asks the run's `metrics` what it means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import watched
from ..errors import SpecError
from ..watched import EMA
from .accuracy import Accuracy
from .areas import AveragePrecision, RocAuc
from .base import KINDS, WORDS, Metric, described, kind
from .bits import BitsPerByte
from .boxes import MeanAveragePrecision, MeanAveragePrecision50
from .classes import F1, BalancedAccuracy, Precision, Recall, TopK
from .confusion import Confusion
from .frechet import Frechet
from .loss import Loss
from .own import check, looks, members
from .perplexity import Perplexity
from .probabilities import CalibrationError, LogLoss
from .regression import MAE, MSE, R2, RMSE
from .retrieval import HitRate, Ndcg
from .signals import SiSdr
from .texts import Bleu, CharacterErrorRate, ExactMatch, TokenAccuracy, WordErrorRate

if TYPE_CHECKING:
    from ..datasets import Data
    from ..objectives import Criterion, Objective
    from ..spec import Spec

__all__ = ["BESIDE", "KINDS", "MEASURED", "METRICS", "MINIMISED", "SPLITS", "Figure", "Known", "Metric", "check_own"]
__all__ += [
    "counted",
    "curves",
    "described",
    "drawn",
    "figures",
    "joined",
    "judges",
    "known",
    "leading",
    "looks",
    "main",
]
__all__ += ["meaningless", "members", "numbers", "of", "steps", "summarised", "tables", "telling", "told"]
__all__ += ["with_following"]

METRICS: dict[str, type[Metric]] = {
    "loss": Loss,
    "accuracy": Accuracy,
    "bits_per_byte": BitsPerByte,
    "confusion": Confusion,
    "top_k_accuracy": TopK,
    "balanced_accuracy": BalancedAccuracy,
    "precision": Precision,
    "recall": Recall,
    "f1": F1,
    "roc_auc": RocAuc,
    "average_precision": AveragePrecision,
    "log_loss": LogLoss,
    "calibration_error": CalibrationError,
    "mse": MSE,
    "rmse": RMSE,
    "mae": MAE,
    "r2": R2,
    "perplexity": Perplexity,
    "token_accuracy": TokenAccuracy,
    "exact_match": ExactMatch,
    "word_error_rate": WordErrorRate,
    "character_error_rate": CharacterErrorRate,
    "bleu": Bleu,
    "map50": MeanAveragePrecision50,
    "map50_95": MeanAveragePrecision,
    "si_sdr": SiSdr,
    "hit_rate": HitRate,
    "ndcg": Ndcg,
    "frechet_distance": Frechet,
}
MINIMISED = "loss"
"""What training minimises."""
MEASURED = "accuracy"
"""What the answers of a file are judged by: a field of `Measured`, and of what is kept of it."""
BESIDE = frozenset({"kind", "t", "rank", "ranks", "step", "epoch", "split", "samples", "seconds", "lr"})
"""What rows of steps and evaluations hold beside metrics."""
SPLITS = {"train": "training", "val": "validation", "test": "test"}
"""What people call each split."""
SPLITS |= {f"{split}{EMA}": f"EMA {SPLITS[split]}" for split in ("val", "test")}


class Figure(NamedTuple):
    """A metric of a split, or of the newest batch."""

    name: str
    split: str = ""
    """One of SPLITS, of which those that end in EMA are of the averaged weights; or "" for the newest batch."""
    of: type[Metric] | None = None
    """The metric, where the table has none of this name."""

    @property
    def key(self) -> str:
        """What summaries and curves call it, such as `val_loss`."""
        return f"{self.split}_{self.name}" if self.split else self.name

    @property
    def metric(self) -> type[Metric]:
        """What it is a figure of."""
        return self.of or METRICS[self.name]

    @property
    def averaged(self) -> bool:
        """Whether it is one of the averaged weights."""
        return self.split.endswith(EMA)

    @property
    def label(self) -> str:
        """What people call it, such as `validation loss`."""
        return f"{SPLITS[self.split or 'train']} {self.metric.word()}"


Known = Mapping[str, type[Metric]]
"""Metrics that views have room for, by name: see `known`."""


def of(
    data: Data,
    criterion: Criterion,
    spec: Spec | None = None,
    own: Mapping[str, type[Metric]] | None = None,
    usual: Iterable[str] = (),
) -> dict[str, Metric]:
    """
    The metrics of a run, by name: the usual ones that have a meaning for its data and loss, those that its spec asks
    for or watches, and the user's own; `usual` are its task's.

    Raises
    ------
    SpecError
        If one that the spec asks for has no meaning.
    """
    asked = spec.metrics if spec else ()
    watches = [watched.divided(key)[1] for key in watched.named(spec).values()] if spec else []
    metrics = {}
    for name, member in METRICS.items():
        if name in (*asked, *watches, *usual) or member.usual:
            options = spec.options_of(member) if spec else {}
            metrics[name] = member.of(data, criterion, **options)
    for name in asked:
        if metrics[name] is None:
            raise SpecError(f"metrics: {meaningless(name, data, criterion)}")
    metrics |= {name: member.of(data, criterion) for name, member in (own or {}).items()}
    return {name: metric for name, metric in metrics.items() if metric is not None}


def telling(data: Data, criterion: Criterion, first: Iterable[str] = ()) -> list[str]:
    """Names of those that tell how good answers are, the most telling first; `first` are a task's own."""
    answers = kind(data, criterion)
    suited = [name for name, member in METRICS.items() if answers in member.telling]
    return [*dict.fromkeys([*first, *suited, MEASURED, MINIMISED])]


def check_own(given: Any) -> None:
    """Refuse what is no metric of a user's own, by name: a SpecError says why in a sentence."""
    check(given, BESIDE, METRICS)


def told(metrics: Mapping[str, Metric]) -> dict[str, dict[str, Any]]:
    """What a run tells of its metrics, by name: of those that no table has, how views show them."""
    usual = METRICS[MINIMISED].title  # which a loss beside it is not called, too
    unlisted = {name: metric for name, metric in metrics.items() if name not in METRICS}
    shown = {
        name: {key: value for key, value in look.items() if not (metrics[name].title == usual and key in WORDS)}
        for name, look in looks(unlisted).items()
    }
    return {name: shown.get(name, {}) for name in metrics}


def meaningless(name: str, data: Data, criterion: Criterion) -> str:
    """Why a metric of the table has no meaning for some data and a loss, and which have."""
    needs = " or ".join(KINDS[one] for one in METRICS[name].kinds) or "other data"
    answers = KINDS.get(kind(data, criterion), "others")
    suited = ", ".join(other for other, member in METRICS.items() if member.of(data, criterion) is not None)
    why = f"needs {needs} as answers, and those of this run are {answers}"
    if answers in needs:
        why = "needs another loss, such as torch's cross entropy as it is"
    return f"{name!r} {why}; what suits it: {suited}"


def steps() -> list[str]:
    """Names of the metrics that each training step reports: what is minimised, then what is counted beside it."""
    return [MINIMISED, *(name for name, member in METRICS.items() if member.training and name != MINIMISED)]


def counted(data: Data, objective: Objective) -> Objective:
    """An objective that counts, beside its loss, what `steps` names."""
    metrics = [METRICS[name].of(data, objective.criterion) for name in steps()[1:]]
    objective.counted = [metric.share if metric else lambda output, target: None for metric in metrics]
    return objective


def known(names: Iterable[str] = (), own: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, type[Metric]]:
    """
    The metrics that views of a run have room for: those of each step, then `names`, then a user's own.

    Parameters
    ----------
    names
        Names of the table; what is no curve is passed over.
    own
        Name -> what is known of it, of LOOK.
    """
    wanted = {*names, *steps()}
    tabled = {name: member for name, member in curves().items() if name in wanted}
    return tabled | {name: described(name, about) for name, about in (own or {}).items()}


def curves() -> dict[str, type[Metric]]:
    """Those of which a figure is one number, which can be drawn over steps."""
    return {name: member for name, member in METRICS.items() if member.curve}


def joined(several: Iterable[Known]) -> dict[str, type[Metric]]:
    """The metrics of several runs together, as `known` gives those of each: in the order of the table, then others."""
    together = {name: member for of in (known(), *several) for name, member in of.items()}
    return {name: together[name] for name in (*METRICS, *together) if name in together}


def numbers(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an evaluation's figures that are one number, which can be drawn over steps; None where one has none."""
    return {
        name: figure
        for name, figure in figures.items()
        if name not in BESIDE and (figure is None or isinstance(figure, (int, float)))
    }


def drawn(names: Iterable[str], asked: Iterable[str] = ()) -> list[str]:
    """Of the names in a row those of metrics that views draw over steps, and have a column for."""
    return [
        name for name in names if name not in BESIDE and (name not in METRICS or METRICS[name].shown or name in asked)
    ]


def tables() -> list[str]:
    """Names of those of which a figure is a table."""
    return [name for name, member in METRICS.items() if not member.curve]


def judges(of: Mapping[str, type[Metric] | Metric] | None = None) -> list[str]:
    """Names of those that tell which model is better, the most telling first."""
    of = known() if of is None else of
    return sorted(of, key=lambda name: not of[name].higher)


def main(of: Mapping[str, type[Metric] | Metric] | None = None) -> str:
    """The one that a view with room for one shows: the first of the table of which more is better."""
    return judges(of)[0]


def leading(of: Mapping[str, type[Metric] | Metric], first: Iterable[str] = ()) -> list[str]:
    """What a view draws before someone chooses: what is minimised, and the first of `first`, or the most telling."""
    known = {name: metric for name, metric in of.items() if metric.curve}
    return [MINIMISED, next((name for name in first if name in known), None) or main(known)]


def figures(*splits: str, names: Iterable[str] | None = None, of: Known | None = None) -> dict[str, Figure]:
    """Figures of some splits by key; of all of the metrics, where no names are given."""
    of = known() if of is None else of
    chosen = [Figure(name, split, of.get(name)) for split in splits for name in (of if names is None else names)]
    return {figure.key: figure for figure in chosen}


def summarised(of: Known | None = None) -> dict[str, Figure]:
    """
    Figures in a table of runs: the newest batch's, the last validation's, the test's but for what is minimised.

    The same of the averaged weights come last, which few runs have.
    """
    of = known() if of is None else of
    tested = [name for name in of if name != MINIMISED]
    averaged = figures(f"val{EMA}", of=of) | figures(f"test{EMA}", names=tested, of=of)
    whole = figures("", names=steps(), of=of) | figures("val", of=of) | figures("test", names=tested, of=of)
    return whole | averaged


def with_following(metrics: dict[str, Metric], split: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Figures of a split, and those that follow from them."""
    following = {name: metric.follow(split, figures) for name, metric in metrics.items()}
    return figures | {name: figure for name, figure in following.items() if figure is not None}
