"""Figures that a spec names: by which the best state is kept, and a run ends early."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from .errors import SpecError, fitted, nearest, shown
from .tables import keywords, table
from .values import parsed

if TYPE_CHECKING:
    from .spec import Spec

EMA = "_ema"  # end of the name of a split whose figures are those of the averaged weights
SPLITS = ("val", f"val{EMA}", "train")
"""Splits whose figures come while a run trains."""
FEW, NEAR = 12, 3  # names that a refusal lists, all of a run's or the nearest of many
FORM = '{"metric": "val_loss", "patience": 3}'


def early(
    *,
    metric: str = "val_loss",
    patience: Annotated[int, Field(ge=1)] = 3,
    min_delta: Annotated[float, Field(ge=0)] = 0.0,
) -> dict[str, Any]:
    """
    When a run ends before its last epoch, as one record.

    Parameters
    ----------
    metric
        Figure that is to get better, such as val_loss.
    patience
        Evaluations in a row without a better figure at which the run ends, 1 or more.
    min_delta
        By how much a figure must be better than the best so far to count, 0 or more.
    """
    return {"metric": metric, "patience": patience, "min_delta": min_delta}


def canonical(value: Any) -> dict[str, Any]:
    """`stop_early` as a record of all that `early` takes, from a mapping or its text; {} for never."""
    try:
        record = _parsed(value) if isinstance(value, str) else value
    except ValueError:
        record = value
    if not record and not isinstance(record, bool | int | float):
        return {}
    if not isinstance(record, Mapping):
        raise SpecError(f"stop_early={shown(value)}: must be a record such as {FORM}")
    rules = {name: (rule, (rule.description or "").rstrip(".")) for name, rule in keywords(early).items()}
    record = fitted(record, rules, lambda name, value: f"stop_early={{{name!r}: {shown(value)}}}", "of stop_early")
    return early(**record)


def _parsed(text: str) -> Any:
    """A record in JSON or YAML; its braces may be left out."""
    bare = ":" in text and not text.strip().startswith("{") and "\n" not in text.strip()
    return parsed(f"{{{text}}}" if bare else text)


def named(spec: Spec) -> dict[str, str]:
    """The figures that a spec names, by the field that does."""
    keys = {"keep_best": spec.keep_best, "stop_early": str(spec.stop_early.get("metric", ""))}
    return {field: key for field, key in keys.items() if key}


def divided(key: str) -> tuple[str, str]:
    """Split and metric of a figure's key; ("", key) where no split that is watched begins it."""
    split = max((split for split in SPLITS if key.startswith(f"{split}_")), key=len, default="")
    return split, key.removeprefix(f"{split}_") if split else key


def said(field: str, key: str) -> str:
    """A field and the figure that it names, as a sentence on it begins."""
    return f"{field}={key!r}" if field == "keep_best" else f"{field}={{'metric': {key!r}}}"


def refuse(spec: Spec) -> str:
    """Why a figure can't be watched, or an average kept, under a spec, as one sentence; "" where it can."""
    if spec.compress and (fields := [name for name in ("keep_best", "stop_early", "ema") if getattr(spec, name)]):
        return (
            f"{fields[0]}={getattr(spec, fields[0])!r}: a run that compresses keeps what each link of its chain ends "
            f"with; leave {fields[0]} out"
        )
    for field, key in named(spec).items():
        if why := _unwatched(spec, key):
            return f"{said(field, key)}: {why}"
    return ""


def _unwatched(spec: Spec, key: str) -> str:
    split, _ = divided(key)
    if not split and key.startswith("test_"):
        return f"the test set is looked at once, at the end; take 'val{key.removeprefix('test')}'"
    if not split:
        names = table("metric")
        if key in names:
            return f"must be a figure of {', '.join(SPLITS)}, such as 'val_{key}'"
        begins = ", ".join(f"{split}_" for split in SPLITS)
        near = nearest(key, names).replace("you mean '", "you mean 'val_") or ", such as 'val_loss'"
        return f"must be one of {begins} and a metric that the run has{near}"
    if split.endswith(EMA) and not spec.ema:
        return f"no average of the weights is kept; take ema=0.999 too, or '{key.replace(EMA, '', 1)}'"
    if split != "train" and not spec.eval_every:
        return "eval_every=0 evaluates only at the end; take eval_every=1"
    return ""


def check(spec: Spec, names: list[str], splits: Collection[str]) -> None:
    """Refuse, with a SpecError, figures that a run of these metrics and of splits with samples does not have."""
    for field, key in named(spec).items():
        split, name = divided(key)
        if split.removesuffix(EMA) not in splits:
            raise SpecError(f"{said(field, key)}: there are no validation samples; take 'train_{name}'")
        if name not in names:
            raise unknown(field, key, names)


def unknown(field: str, key: str, names: list[str]) -> SpecError:
    """The refusal of a figure of a metric that a run does not have; `names` are those that it has."""
    split, name = divided(key)
    if len(names) <= FEW:
        hint = nearest(name, names).replace("you mean '", f"you mean '{split}_")
        keys = ", ".join(f"{split}_{other}" for other in names) or "none"
        return SpecError(f"{said(field, key)}: the run has no such figure{hint} (it has: {keys})")
    near = difflib.get_close_matches(name.lower(), names, NEAR, 0.5)
    keys = " or ".join(repr(f"{split}_{other}") for other in near or names[:2])
    hint = f"; did you mean {keys}?" if near else f", such as {keys}"
    return SpecError(
        f"{said(field, key)}: the run has no such figure{hint} (lepton_lab.metrics.METRICS lists them, and a task or "
        "metrics={...} of your own may add some)"
    )
