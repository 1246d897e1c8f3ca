"""Several players, each with its own parameters, loss and optimizer, who step in turn on each batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from ..errors import SpecError, unknown
from ..values import called
from .base import OwnLoss, Task
from .seeing import given, labelled

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..datasets import Data
    from ..pictures import Picture
    from ..spec import Spec

FIELDS = ("optimizer", "lr", "momentum", "clip", "weight_decay")
"""Fields of the Spec that a player may have its own of."""
STEPS = "steps"
"""The option that says how often a player steps."""


class Adversarial(Task):
    """
    Several players, such as a GAN's, who step in turn on each batch: each has its own parameters, loss and optimizer.

    A player is a part of the model, by name: `nn.ModuleDict({"generator": ..., "discriminator": ...})`. While one
    plays, the others' weights are held. Each player's loss is a curve of its own, such as `generator_loss`; `loss` is
    the sum of all. As it is, this is the GAN of Goodfellow and others (arXiv:1406.2661), whose generator maximises
    log D(G(z)). A subclass may give other `players`, the loss of each by `step(self, model, batch, player)`, and
    what is drawn for a batch by `prepare(self, batch, generator)`: the same for any world, in evaluations too.

    Parameters
    ----------
    data, loss
        As of `Task`; a loss given is refused, since `step` says it.
    noise
        Numbers that the generator makes a sample of, 1 or more.
    labels
        Whether each player is told the label of a sample beside it: `generator(noise, y)`, `discriminator(x, y)`.
    """

    players: ClassVar[Mapping[str, Mapping[str, Any]]] = {"discriminator": {}, "generator": {}}
    """
    In the order in which they step, with what each has in place of the Spec's: optimizer, lr, momentum, clip,
    weight_decay.

    The schedule and a new lr, by `run.set(lr=...)`, scale the rates of all in proportion. A new clip or weight_decay is
    for those without one of their own.

    `steps`, usually 1, says how often a player steps in a round, which is as many batches as the largest of them: with
    5 for a critic it steps on each batch, and a generator on every fifth, as of a WGAN (arXiv:1701.07875). The loss of
    a step is then the sum over those who step, and an epoch's the sum of the players' own.
    """
    answers = "samples"
    everywhere = True
    table_models = False

    def __init__(
        self, data: Data, loss: OwnLoss | None = None, *, noise: Annotated[int, Field(ge=1)] = 16, labels: bool = False
    ) -> None:
        super().__init__(data, loss)
        self.noise, self.told = noise, labelled(data, labels)
        if loss is not None:
            raise SpecError(f"loss={called(loss)}: task={called(type(self))} says the loss of each player by step()")

    def prepare(self, batch: Any, generator: torch.Generator) -> Any:
        """Real samples (B, ...), noise (B, noise) for as many that are made, and where they are told labels (B,)."""
        import torch

        real = batch[0] if isinstance(batch, (tuple, list)) else batch
        noise = torch.randn(len(real), self.noise, generator=generator, device=real.device)
        return (real, noise, batch[1]) if self.told else (real, noise)

    def step(self, model: nn.Module, batch: Any, player: str) -> Any:
        """The loss of a player, as a mean over samples."""
        from torch.nn.functional import softplus  # softplus(-x) is -log sigmoid(x)

        real, noise, *labels = batch
        discriminator, made = model.get_submodule("discriminator"), model.get_submodule("generator")(noise, *labels)
        if player == "generator":
            return softplus(-discriminator(made, *labels)).mean()
        return softplus(-discriminator(real, *labels)).mean() + softplus(discriminator(made.detach(), *labels)).mean()

    def made(self, parts: Mapping[str, Any], batch: Any) -> tuple[Any, Any] | None:
        """What the generator made, and as many real samples: compared as sets, by the Fréchet distance or your own."""
        made, real = parts.get("generator"), batch[0] if isinstance(batch, (tuple, list)) else batch
        return (made, real) if hasattr(made, "dim") and hasattr(real, "dim") else None

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """What the generator made, beside a real sample."""
        made = output.get("generator") if isinstance(output, Mapping) else None
        parts = {"made": made, "real": y[0] if isinstance(y, (tuple, list)) else y}
        views = {name: given(part[0], self.data) for name, part in parts.items() if getattr(part, "ndim", 0)}
        return {name: view for name, view in views.items() if view}

    def setup(self, model: nn.Module) -> None:
        """Refuse a model of which a player has no part, or two have the same, or nobody has some."""
        owners: dict[nn.Parameter, tuple[str, str]] = {}
        for player in self.players:
            for name, parameter in _part(model, player).named_parameters():
                if parameter in owners:
                    other, place = owners[parameter]
                    raise SpecError(
                        f"players {other!r} and {player!r} share a parameter, {other}.{place} and {player}.{name}; "
                        "give each a copy of its own"
                    )
                owners[parameter] = player, name
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter not in owners:
                raise SpecError(
                    f"parameter {name!r} belongs to none of the players {', '.join(self.players)}; move it into the "
                    "part of one, or freeze it"
                )

    @classmethod
    def spec_of(cls, player: str, spec: Spec) -> Spec:
        """The spec as a player has it."""
        for option in (options := cls.players[player]):
            if option not in (*FIELDS, STEPS):
                raise SpecError(f"players: {player!r}: {unknown('option of a player', option, (*FIELDS, STEPS))}")
        steps = options.get(STEPS, 1)
        if type(steps) is not int or steps < 1:
            raise SpecError(f"players: {player!r}: steps={steps!r}: give a whole number of steps in a round, 1 or more")
        try:
            return spec.replace(**{option: value for option, value in options.items() if option != STEPS})
        except SpecError as error:
            raise SpecError(f"players: {player!r}: {error}") from None


def _part(model: nn.Module, player: str) -> nn.Module:
    """A player's part of the model; a SpecError where there is none that could learn."""
    parts = [name for name, _ in model.named_modules() if name]
    if player not in parts:
        raise SpecError(f"model={called(model)} has no part {player!r}: {unknown('player', player, parts)}")
    part = model.get_submodule(player)
    if not any(p.requires_grad for p in part.parameters()):
        raise SpecError(f"player {player!r} has no parameter to train; leave it out of players")
    return part
