"""LeptonModel: a Transformer for texts whose four stages are methods, each of them a run."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..compressors import Work
from ..compressors.lora import Lora
from ..errors import LabError, SpecError, shown, unknown
from ..losses import IGNORED
from ..measures.candidates import source
from ..models.staged import PARTS, Staged
from ..run.exporting import export
from ..run.launching import compress, launch
from ..run.trainer import finished
from ..serving import serve
from ..spec import Spec
from ..transforms.tokenising import byte_pairs
from .samples import Labels, named, rows

if TYPE_CHECKING:
    from ..run.handle import Run
    from ..serving import Server

PAD, MASK, START, END = range(4)
SPECIAL = ["<pad>", "<mask>", "<start>", "<end>"]
ADAPTERS = ("lora",)
MOST = 65_536  # kinds of tokens
SET = ("dataset", "model", "task", "parent", "compress")  # fields of a run that its stage says
LEFT_OUT = 0.3  # of a text's tokens, which both parts together learn to fill in; as many as BART's


class LeptonModel(nn.Module):
    """
    A Transformer for texts, an encoder, a decoder or both, with the stages of its life as methods.

    `pretrain` learns language from texts alone, `finetune` what labels ask, `optimize` makes it smaller, and `deploy`
    puts it behind HTTP. The first three are runs, which are waited for, and whose weights it then has. It is a module
    as any: called with tokens (B, T), such as `tokens(texts)`, it gives scores of tokens (B, T, V), or where it has
    heads of classes (B, K), and can be trained in a loop of one's own.

    Parameters
    ----------
    parts
        "encoder" (see `lepton_lab.models.bert`), "decoder" (`gpt`), or "both" (`encoder_decoder`).
    classes
        How many a text may be of: a number, or of several tasks by name, {"topic": 5, "mood": 2}, each with a head of
        its own; 0 for no head yet, which `finetune` puts on.
    vocabulary
        V, kinds of tokens, from 300 to 65,536; they are learned from the first texts that it is given.
    context
        Most tokens of a text, of which longer ones are cut.
    width, heads, depth
        Numbers that a token is described by; heads of each attention; blocks.
    dropout
        Fraction of what each layer adds that a training step leaves out.
    **fields
        Fields of `Spec` for all its runs, such as `world=2`; each stage takes more.

    Attributes
    ----------
    runs : dict
        The last run of each stage, by the name of its method.

    Raises
    ------
    SpecError
        If parts or sizes are refused.
    """

    def __init__(
        self,
        parts: str = "encoder",
        classes: int | Mapping[str, int] = 0,
        *,
        vocabulary: int = 2000,
        context: int = 64,
        width: int = 128,
        heads: int = 4,
        depth: int = 2,
        dropout: float = 0.1,
        **fields: Any,
    ) -> None:
        super().__init__()
        if parts not in PARTS:
            raise SpecError(f"parts={parts!r}: {unknown('kind of Transformer', str(parts), PARTS)}")
        sizes = {"vocabulary": (vocabulary, 300), "context": (context, 2), "depth": (depth, 1)}
        for name, (value, least) in (sizes | {"width": (width, 1), "heads": (heads, 1)}).items():
            if type(value) is not int or value < least:
                raise SpecError(f"{name}={value!r}: must be a whole number, at least {least}")
        if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise SpecError(f"dropout={dropout!r}: must be from 0 to below 1")
        if vocabulary > MOST:
            raise SpecError(f"vocabulary={vocabulary}: must be at most {MOST}")
        _asked(fields)
        if width % (2 * heads):
            raise SpecError(f"heads={heads}: must give each head an even part of width={width}; take 4 heads of 128")
        self.network = Staged(parts, vocabulary, context, width, heads, depth, dropout)
        self.vocabulary, self.context, self.fields = vocabulary, context, fields
        self.tokenizer: Any = None
        self.labels: Labels = named(classes)
        self.runs: dict[str, Run] = {}
        self.network.ask({name: len(told) for name, told in self.labels.items()})

    def forward(self, tokens: Tensor, before: Tensor | None = None) -> Any:
        """Tokens (B, T), and of both parts those before each place of what is written (B, S): see `Staged`."""
        writes = self.network.parts == "both" and self.network.speaks
        if writes and before is None:
            raise SpecError("before: both parts write, and need what stands before each place: model(tokens, before)")
        if not writes and before is not None:
            raise SpecError(f"before={shown(before)}: a model that does not write is called with tokens alone")
        for given in (tokens, before) if writes else (tokens,):
            self._reads(given)
        return self.network(tokens, before)

    def _reads(self, tokens: Any) -> None:
        """Refuse what are no tokens of its own."""
        fit = isinstance(tokens, Tensor) and tokens.dim() == 2 and tokens.numel() and not tokens.is_floating_point()
        if fit and not (tokens.is_meta or torch.compiler.is_compiling()):
            fit = tokens.min() >= 0 and tokens.max() < self.vocabulary
        if not fit:
            raise SpecError(
                f"tokens={shown(tokens)}: must be a tensor (B, T) of whole numbers from 0 to {self.vocabulary - 1}; "
                "model.tokens(texts) makes one"
            )

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Texts as tokens (N, context), filled up with 0; the first texts are those by which it learns the pieces."""
        if not _texts(texts):
            raise SpecError(f"texts={shown(texts)}: must be a list of texts, one or more")
        if self.tokenizer is None:
            self.tokenizer, trainer = byte_pairs("LeptonModel", self.vocabulary, SPECIAL)
            self.tokenizer.train_from_iterator(texts, trainer)
        found = torch.zeros(len(texts), self.context, dtype=torch.long)
        for row, text in zip(found, texts, strict=True):
            numbers = self.tokenizer.encode(text).ids[: self.context]
            row[: len(numbers)] = torch.tensor(numbers, dtype=torch.long)
        return found

    def pretrain(self, texts: Sequence[str], **fields: Any) -> Run:
        """
        Learn language from texts alone, which takes heads off again.

        An encoder finds tokens that are masked, a decoder says which comes next, and both together write a text again
        of which a part is masked (BART, arXiv:1910.13461). `fields` are those of `Spec`, such as `epochs`.
        """
        _asked(fields)
        with self._pieces():
            tokens = self.tokens(texts)
            counted = tokens.where(tokens != PAD, IGNORED)
            if self.network.parts == "encoder":
                return self._learn("pretrain", (tokens, counted), "masked_language_model", {"mask_token": MASK}, fields)
            if self.network.parts == "decoder":
                return self._learn("pretrain", (tokens[:, :-1], counted[:, 1:]), "language_model", {}, fields)
            generator = torch.Generator().manual_seed(0)
            left_out = torch.rand(tokens.shape, generator=generator) < LEFT_OUT
            masked = tokens.masked_fill(left_out & (tokens != PAD), MASK)
            return self._write("pretrain", (masked, self._ended(tokens)), fields)

    def finetune(self, data: Any, adapter: str | None = None, **fields: Any) -> Run:
        """
        Learn what labels ask, with a head for each task.

        Parameters
        ----------
        data
            Texts and labels, (texts, labels), or (train, test) of such pairs. Labels are whole numbers from 0 or names,
            a list of one a text, or several by task, {"topic": [...], "mood": [...]}. Of both parts they may be texts,
            which are written then.
        adapter
            None trains the whole body; "lora" thin layers beside its own, of rank 8, merged with them at the end.
        **fields
            Of `Spec`.
        """
        if adapter not in (None, *ADAPTERS):
            raise SpecError(f"adapter={adapter!r}: {unknown('adapter', str(adapter), ADAPTERS)}")
        _asked(fields)
        splits = _splits(data)
        with self._pieces():
            return self._finetuned(splits, Lora() if adapter else None, fields)

    def _finetuned(self, splits: list[tuple[Any, Any]], lora: Lora | None, fields: dict[str, Any]) -> Run:
        tokens = [self.tokens(texts) for texts, _ in splits]
        targets = [target for _, target in splits]
        if self.network.parts == "both" and _texts(targets[0]):
            pairs = [(x, self._ended(self.tokens(texts))) for x, texts in zip(tokens, targets, strict=True)]
            learn = lambda: self._write("finetune", _one(pairs), fields)  # noqa: E731
        else:
            found, labels = rows(tokens, targets, self.labels)
            task = "multitask" if len(labels) > 1 else "classification"
            learn = lambda: self._learn("finetune", _one(found), task, {}, fields, labels)  # noqa: E731
        try:
            if lora:
                work = Work(Spec(), (self.context,), 0, self.vocabulary, None)
                self.network.body = lora.apply(self.network.body, work)
            return learn()
        finally:
            if lora:
                self.network.body = lora.finish(self.network.body)

    def optimize(self, *, prune: Any = None, distil: Any = None, quantize: Any = None, **fields: Any) -> Run:
        """
        Make what the last stage left smaller or faster: `lab.compress` with a chain of these, in this order.

        Parameters
        ----------
        distil
            Blocks that stay, taught by the whole; or options of the compressor `distill`.
        prune
            Fraction of the weights that goes; or options of `prune`.
        quantize
            How its file stores numbers, such as "int8_dynamic"; or options of `quantize`.
        **fields
            Of `Spec`, such as `epochs` of each link that trains.
        """
        asked = (("distill", "depth", distil), ("prune", "ratio", prune), ("quantize", "scheme", quantize))
        chain = [
            {name: dict(value) if isinstance(value, Mapping) else {option: value}}
            for name, option, value in asked
            if value is not None
        ]
        if not chain:
            raise SpecError("optimize() asks for nothing: give prune=0.5, distil=1, quantize='int8_dynamic' or several")
        self.runs["optimize"] = run = finished(compress(self._last(), chain, **fields))
        smaller: Any = run.model()  # which may have fewer blocks
        self.network = smaller
        return run

    def deploy(self, **options: Any) -> Server:
        """Serve what the last stage left, as `lab.serve` takes `options`; the file lies in the run's folder."""
        known = inspect.signature(serve).parameters
        if name := next((name for name in options if name not in [*known][1:]), ""):
            raise SpecError(f"{name}={options[name]!r}: {unknown('option', name, [*known][1:], 'of lab.serve')}")
        run = self._last()
        about = source(run).about
        assert about is not None, "a run knows its data"
        pieces = [self.tokenizer.id_to_token(token) or "" for token in range(self.vocabulary)]
        pieces[: len(SPECIAL)] = [""] * len(SPECIAL)
        told = {"names": pieces, "kind": "byte_level", "tokenizer": self.tokenizer.to_str()}
        alone = next(iter(self.labels.values())) if len(self.labels) == 1 else about.labels
        names = pieces if self.network.speaks else alone
        about = dataclasses.replace(about, labels=names, answer={**about.answer, "text": told})
        schemes = [link["quantize"].get("scheme", "int8") for link in run.spec.compress if "quantize" in link]
        path = run.folder / "deployed.lepton"
        export(run, path, scheme=schemes[0] if schemes else "fp32", about=about)
        return serve(path, **options)

    @contextlib.contextmanager
    def _pieces(self) -> Iterator[None]:
        """Keep the pieces that are learnt in here, unless the stage is refused: then other texts may be first."""
        before = self.tokenizer
        try:
            yield
        except SpecError:  # before anything starts; a run that failed later has its texts in these pieces
            self.tokenizer = before
            raise

    def _learn(
        self,
        stage: str,
        data: Any,
        task: str,
        options: dict[str, Any],
        fields: dict[str, Any],
        labels: Labels | None = None,
    ) -> Run:
        asked = self.fields | fields
        spec = Spec(**{"name": stage, **asked, "task": task, "options": {**asked.get("options", {}), **options}})
        heads = {name: len(told) for name, told in (labels or {}).items()}
        learner = copy.deepcopy(self.network)  # so that this one keeps its heads where the run is refused, or fails
        learner.ask(heads)
        run = finished(launch(spec, model=learner, data=data))
        self.network.ask(heads)
        self.network.load_state_dict(run.model().state_dict())
        self.labels = labels or self.labels
        self.runs.pop(stage, None)  # the last stage comes last
        self.runs[stage] = run
        return run

    def _write(self, stage: str, data: Any, fields: dict[str, Any]) -> Run:
        return self._learn(stage, data, "sequence_to_sequence", {"start_token": START, "end_token": END}, fields)

    def _ended(self, tokens: Tensor) -> Tensor:
        """What is to be written, (N, context + 1): tokens and their end; -100 behind it does not count."""
        longer = nn.functional.pad(tokens, (0, 1))
        ends = (longer == PAD).int().argmax(1, keepdim=True)
        return longer.where(longer != PAD, IGNORED).scatter(1, ends, END)

    def _last(self) -> Run:
        if not self.runs:
            raise LabError("this model has no run yet: call pretrain(texts) or finetune((texts, labels)) first")
        return [*self.runs.values()][-1]


def _texts(texts: Any) -> bool:
    """Whether these are texts, one or more, in a row."""
    several = hasattr(texts, "__len__") and not isinstance(texts, (str, Mapping)) and len(texts)
    return bool(several) and all(isinstance(text, str) for text in texts)


def _asked(fields: Mapping[str, Any]) -> None:
    """Refuse fields of a Spec that there are none of, whose values are refused, or that a stage says itself."""
    if name := next((name for name in fields if name not in Spec.model_fields), ""):
        raise SpecError(f"{name}={fields[name]!r}: {unknown('field', name, Spec.model_fields)}")
    if name := next((name for name in SET if name in fields), ""):
        raise SpecError(f"{name}={fields[name]!r}: a stage has its own; leave it out")
    Spec(**{name: value for name, value in fields.items() if name != "options"})


def _splits(data: Any) -> list[tuple[Any, Any]]:
    """Pairs of texts and what belongs to them: one, or those of train and test."""
    several = isinstance(data, (tuple, list)) and len(data) in (2, 3)
    apart = several and isinstance(data[0], tuple) and len(data[0]) == 2 and not isinstance(data[0][0], str)
    if not several or (apart and not all(isinstance(pair, tuple) and len(pair) == 2 for pair in data)):
        raise SpecError(f"data={shown(data)}: must be (texts, labels), or (train, test) of such pairs")
    return [tuple(pair) for pair in data] if apart else [(data[0], data[1])]


def _one(splits: list[Any]) -> Any:
    return splits[0] if len(splits) == 1 else tuple(splits)
