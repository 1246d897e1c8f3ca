import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lepton_lab.errors import SpecError
from lepton_lab.optimizers import OPTIMIZERS, SCHEDULES, factor
from lepton_lab.optimizers.muon import Muon, hidden_first, orthogonal
from lepton_lab.spec import Spec

pytestmark = pytest.mark.usefixtures("one_thread")


def spec(**fields) -> Spec:
    return Spec(strategy="single", **fields)


def network() -> nn.Module:
    convolution = [nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten()]
    return nn.Sequential(*convolution, nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))


def loss_of(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, 16, generator=generator).to(next(model.parameters()).dtype)
    return nn.functional.cross_entropy(model(x), torch.arange(30) % 3)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


# --- every optimizer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_conformance_lowers_the_loss(name):
    model = network()
    before = loss_of(model).item()
    lr = {"gd": 0.1, "sgd": 0.1, "momentum": 0.03, "nesterov": 0.03, "adagrad": 0.03}.get(name, 0.01)
    optimizer = OPTIMIZERS[name](list(model.parameters()), spec(optimizer=name, lr=lr))
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert all(group["lr"] == lr for group in optimizer.param_groups)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    train(model, optimizer, 40)
    assert loss_of(model).item() < 0.9 * before
    assert OPTIMIZERS[name].__doc__.strip().splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_conformance_resumes_bit_for_bit(name):
    model = network()
    fields = spec(optimizer=name, lr=0.01, weight_decay=0.1)
    optimizer = OPTIMIZERS[name](list(model.parameters()), fields)
    train(model, optimizer, 3)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(model, optimizer, 3)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = network()
    resumed.load_state_dict(saved["model"])
    again = OPTIMIZERS[name](list(resumed.parameters()), fields)
    again.load_state_dict(saved["optimizer"])
    train(resumed, again, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_conformance_follows_a_changed_rate_and_decay(name):
    model = network()
    optimizer = OPTIMIZERS[name](list(model.parameters()), spec(optimizer=name, lr=0.01))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(model.state_dict())
    train(model, optimizer, 1)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())

    plain, decayed = network(), network()
    decayed.load_state_dict(plain.state_dict())
    for m, decay in ((plain, 0.0), (decayed, 1.0)):
        train(m, OPTIMIZERS[name](list(m.parameters()), spec(optimizer=name, lr=0.01, weight_decay=decay)), 3)
    assert any(not torch.equal(a, b) for a, b in zip(plain.parameters(), decayed.parameters(), strict=True))


def gradient(w: torch.Tensor) -> torch.Tensor:
    """Of a bowl that is steep one way and flat another; by hand, so that no autograd stands between."""
    return torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64) * w + torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)


def by_hand(name: str, w: torch.Tensor, steps: int, lr: float, decay: float, mu: float = 0.9) -> torch.Tensor:
    """The formulas of the docstrings, written out."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, steps + 1):
        g = gradient(w) + (0 if name in ("adamw", "muon") else decay * w)
        if name in ("gd", "sgd"):
            w = w - lr * g
        elif name in ("momentum", "nesterov"):
            m = mu * m + g
            w = w - lr * (m if name == "momentum" else g + mu * m)
        elif name in ("adam", "adamw", "muon"):  # muon: a vector is no matrix
            w = w - (0 if name == "adam" else lr * decay * w)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            w = w - lr * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        elif name == "rmsprop":
            v = 0.99 * v + 0.01 * g**2
            w = w - lr * g / (v.sqrt() + 1e-8)
        elif name == "adagrad":
            v = v + g**2
            w = w - lr * g / (v.sqrt() + 1e-10)
        elif name == "adamax":
            m, v = 0.9 * m + 0.1 * g, torch.maximum(0.999 * v, g.abs() + 1e-8)
            w = w - lr / (1 - 0.9**t) * m / v
    return w


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "nadam"])
def test_equals_the_formula_by_hand(name, decay):
    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    w = nn.Parameter(start.clone())
    optimizer = OPTIMIZERS[name]([w], spec(optimizer=name, lr=0.02, weight_decay=decay))
    for _ in range(20):
        w.grad = gradient(w.detach())
        optimizer.step()
    assert torch.allclose(w.detach(), by_hand(name, start, 20, 0.02, decay), rtol=0, atol=1e-6)


def test_nesterov_needs_momentum():
    with pytest.raises(SpecError, match=r"momentum=0\.0"):
        OPTIMIZERS["nesterov"]([nn.Parameter(torch.ones(2))], spec(optimizer="nesterov", momentum=0.0))


# --- muon -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 6), (1, 5)])
def test_orthogonal_is_near_the_polar_factor(shape):
    g = torch.randn(*shape, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    o = orthogonal(g)
    assert o.shape == g.shape and o.dtype == g.dtype
    inner = u.T @ o @ vh.T  # diagonal, with the new singular values on it
    values = inner.diagonal()
    assert torch.allclose(inner, values.diag(), atol=1e-8)
    assert values.min() > 0.5 and values.max() < 1.3


def test_orthogonal_of_nothing_is_nothing():
    assert torch.equal(orthogonal(torch.zeros(3, 2)), torch.zeros(3, 2))


def test_muon_equals_torch_on_matrices():
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3)) for _ in range(2))
    start = ours.detach().clone()
    a = Muon([ours], [], lr=0.2, momentum=0.9, weight_decay=0.1)
    b = torch.optim.Muon([theirs], 0.2, 0.1, 0.9, adjust_lr_fn="match_rms_adamw")
    for i in range(5):
        ours.grad = theirs.grad = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
        a.step()
        b.step()
    assert (ours - theirs).norm() < 0.03 * (ours - start).norm()  # torch iterates in bfloat16, of eight bits


def test_muon_takes_hidden_matrices_and_kernels_only():
    model = network()
    matrices, rest = hidden_first(model.parameters())
    assert [tuple(p.shape) for p in matrices] == [(4, 1, 3, 3), (8, 16)]
    assert [tuple(p.shape) for p in rest] == [(4,), (8,), (3, 8), (3,)]
    optimizer = OPTIMIZERS["muon"](list(model.parameters()), spec(optimizer="muon"))
    assert [group["muon"] for group in optimizer.param_groups] == [True, False]


def test_muon_steps_at_the_size_of_adamw():
    w = nn.Parameter(torch.zeros(32, 20))
    optimizer = Muon([w], [], lr=1.0, momentum=0.0)
    w.grad = 1e-4 * torch.randn(32, 20)
    optimizer.step()
    assert 0.1 < w.square().mean().sqrt() < 0.3


@given(
    shapes=st.lists(st.sampled_from([(3,), (2, 3), (4, 1, 2, 2), (5, 5), (1,)]), min_size=1, max_size=5),
    decay=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 99),
)
def test_muon_state_round_trip(shapes, decay, seed):
    def make():
        generator = torch.Generator().manual_seed(seed)
        params = [nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
        return params, OPTIMIZERS["muon"](params, spec(optimizer="muon", weight_decay=decay))

    def steps(params, optimizer, start):
        for t in range(start, start + 2):
            generator = torch.Generator().manual_seed(seed + t)
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator)
            optimizer.step()

    params, optimizer = make()
    steps(params, optimizer, 0)
    weights, state = [p.detach().clone() for p in params], copy.deepcopy(optimizer.state_dict())
    steps(params, optimizer, 2)
    others, other = make()
    with torch.no_grad():
        for p, w in zip(others, weights, strict=True):
            p.copy_(w)
    other.load_state_dict(state)
    steps(others, other, 2)
    assert all(torch.equal(a, b) for a, b in zip(params, others, strict=True))


def test_muon_leaves_what_has_no_gradient_and_calls_its_closure():
    a, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = Muon([a], [b], lr=0.1, weight_decay=0.5)
    b.grad = torch.ones(2)
    assert optimizer.step(lambda: 7) == 7
    assert torch.equal(a, torch.ones(2, 2)) and not torch.equal(b, torch.ones(2))


# --- schedules --------------------------------------------------------------------------------------------------------

runs = st.tuples(st.integers(1, 400), st.integers(0, 500)).flatmap(
    lambda run: st.tuples(st.integers(0, run[0] - 1), st.just(run[0]), st.just(run[1]))
)


@pytest.mark.parametrize("name", SCHEDULES)
@given(run=runs)
def test_schedules_stay_within_bounds(name, run):
    step, total, warmup = run
    value = SCHEDULES[name](step, total, warmup)
    assert isinstance(value, float) and 0 <= value <= 1
    assert value == SCHEDULES[name](step, total, warmup) == factor(spec(schedule=name, warmup=warmup))(step, total)


@pytest.mark.parametrize("name", SCHEDULES)
@given(total=st.integers(2, 300), share=st.floats(0.05, 0.9))
def test_warm_up_rises_evenly_and_without_a_jump(name, total, share):
    warmup = max(1, int(share * total))
    values = [SCHEDULES[name](step, total, warmup) for step in range(total)]
    start = values[warmup - 1]  # where the schedule's own course starts
    for step in range(warmup):
        assert math.isclose(values[step], start * (step + 1) / warmup)
    assert values[0] > 0
    assert math.isclose(values[warmup], start) if warmup < total else True


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_conformance(name):
    assert SCHEDULES[name].__doc__.strip().splitlines()[0].endswith(".")
    assert max(SCHEDULES[name](step, 1000, 0) for step in range(1000)) > 0.99
    assert 0 < SCHEDULES[name](0, 1, 0) <= 1


def test_courses():
    def course(name, total=100, **options):
        return [SCHEDULES[name](step, total, 0, **options) for step in range(total)]

    assert set(course("constant")) == {1.0}
    assert course("warmup")[:10] == [(i + 1) / 10 for i in range(10)] and set(course("warmup")[10:]) == {1.0}
    assert course("warmup", share=0.5)[24] == 0.5
    steps = course("step", 90)
    assert [round(steps[i], 6) for i in (0, 29, 30, 59, 60, 89)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert course("step", drops=1, gamma=0.5)[-1] == 0.5
    wave = course("cosine")
    assert wave[0] == 1 and math.isclose(wave[50], 0.5) and wave[-1] < 0.001 and wave == sorted(wave, reverse=True)
    assert course("cosine", floor=0.2)[-1] >= 0.2
    teeth = course("cyclical", 400)
    assert [round(teeth[i], 6) for i in (0, 25, 50, 75, 100, 150)] == [0.1, 0.55, 1, 0.55, 0.1, 1]
    assert min(course("cyclical", low=0.0, cycles=1)) == 0
    cycle = course("one_cycle")
    assert cycle[0] == 1 / 25 and cycle[30] == 1 and cycle[-1] < 0.001
    assert cycle[:31] == sorted(cycle[:31]) and cycle[30:] == sorted(cycle[30:], reverse=True)
    assert course("one_cycle", rise=0.5)[50] == 1


def test_one_cycle_and_cosine_equal_torch():
    w = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([w], 1.0)
    for name, theirs in (
        ("one_cycle", torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, 101, cycle_momentum=False)),
        ("cosine", torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([w], 1.0), 100)),
    ):
        for step in range(100):
            tolerance = 0.05 if name == "one_cycle" else 1e-9  # torch's wave turns a step earlier
            assert math.isclose(SCHEDULES[name](step, 100, 0), theirs.get_last_lr()[0], abs_tol=tolerance)
            theirs.optimizer.step()
            theirs.step()


def test_factor_takes_its_own_options_only():
    chosen = spec(schedule="cosine", model="mlp", options={"floor": 0.5, "hidden": 7})
    assert math.isclose(factor(chosen)(50, 100), 0.75)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("warmup", "share", 0.0),
        ("step", "drops", -1),
        ("step", "gamma", 0.0),
        ("step", "gamma", 1.5),
        ("cosine", "floor", 1.1),
        ("cyclical", "cycles", 0),
        ("cyclical", "low", -0.1),
        ("one_cycle", "rise", 1.0),
    ],
)
def test_options_out_of_range(name, option, value):
    with pytest.raises(SpecError) as error:
        spec(schedule=name, options={option: value})
    assert option in str(error.value) and str(value) in str(error.value)
