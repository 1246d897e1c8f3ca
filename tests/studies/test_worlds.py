"""Worlds that are not at hand: what steps would take, held to what is measured and to published figures."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import lepton_lab as lab
from lepton_lab.cli import main
from lepton_lab.errors import SpecError
from lepton_lab.strategies import STRATEGIES
from lepton_lab.strategies.work import Cost, Held, Workload
from lepton_lab.studies.advice.fitting import Timed, fit
from lepton_lab.studies.advice.worlds import LATENCY, LIFE, Network, forecast, interval, lost, slowest

SPEC = lab.Spec(dataset="digits", model="mlp", epochs=2, eval_every=0, checkpoint_every=0)
PAGE = Path(lab.__file__).parents[1] / "docs" / "worlds.md"
FACTOR = 1.2  # by which predictions may differ from what is published


def trained(strategy, world):
    options = {"threads": 1} if world == 1 else {}
    run = lab.launch(SPEC.replace(strategy=strategy, world=world, options=options))
    assert run.wait(60) == "done", run.failure
    return run


@pytest.fixture
def runs(once):
    return [once(trained, *pair) for pair in (("single", 1), ("ddp", 2), ("fsdp", 2))]


def test_worlds_of_any_size_are_judged_by_runs_that_ended(runs):
    outlook = lab.advise(SPEC, [1, 8, 10_000], network="10 Gb")
    assert {row.strategy for row in outlook.rows} == set(STRATEGIES)
    frame = outlook.table().set_index(["strategy", "world"])
    intervals = runs[0].store.story().intervals
    alone = sorted(step.seconds for step in intervals if step.samples == SPEC.batch_size)
    assert alone[0] <= frame.loc[("single", 1), "seconds"] <= alone[-1]
    single = frame.loc[("single", 1)]
    assert single.seconds == pytest.approx(outlook.fit.timed[0].seconds) == single.compute  # as measured
    assert single.samples_per_s == pytest.approx(SPEC.batch_size / single.seconds, rel=0.01)
    assert {(run.name, run.world) for run in outlook.fit.timed} == {("single", 1), ("ddp", 2), ("fsdp", 2)}
    ddp, far = frame.loc[("ddp", 8)], frame.loc[("ddp", 10_000)]
    assert ddp.sent == STRATEGIES["ddp"](SPEC.replace(strategy="ddp", world=8)).cost(lab_work()).sent
    assert 1 > ddp.efficiency > far.efficiency > 0 and far.lost > ddp.lost > 0
    assert far.samples_per_s == pytest.approx(10_000 * 64 * far.efficiency / far.compute)
    assert not frame.loc[("hogwild", 8), "fits"] and "memory of one machine" in frame.loc[("hogwild", 8), "why"]
    assert not frame.loc[("pipeline", 10_000), "fits"] and "layers" in frame.loc[("pipeline", 10_000), "why"]
    exact, fastest = outlook.best()[10_000], outlook.best(exact=False)[10_000]
    ahead = frame.loc[(fastest.strategy, 10_000), "seconds"]  # within a percent, by which the first wins
    assert exact.exact and ahead <= 1.011 * frame.loc[(exact.strategy, 10_000), "seconds"]


def lab_work():
    from lepton_lab.studies.advice import rehearsed

    return rehearsed(SPEC)


def test_a_run_is_looked_at_and_what_is_assumed_is_said(runs):
    outlook = lab.advise(runs[1], [2, 64], ["ddp", "diloco", "single"], network="1 Gb, 100 us")
    assert [row.world for row in outlook.rows] == [2, 64, 2, 64, 2, 64]
    text = outlook._repr_mimebundle_()["text/plain"]
    for said in ("Each rank computes 64 samples", "1 Gb/s and 100 µs a message", "ddp x 2", "world 64 diloco"):
        assert said in text
    assert "take strategy='ddp'" in text  # of single on 64 ranks
    chart = outlook.chart()
    assert [trace["name"] for trace in chart.plotly()["data"]] == ["ddp", "diloco"]
    assert chart.plotly()["layout"]["xaxis"]["type"] == "log" and chart.png(50).startswith(b"\x89PNG")
    assert "None of them" in lab.advise(SPEC, [64], ["single"], network="1 Gb").chart().text


def test_what_cannot_be_predicted_is_refused_in_a_sentence(runs):
    for network in ("fast", "10", "10 GB", "0 Gb", "", 10, "10 Gb, soon"):
        with pytest.raises(SpecError, match="^network=.*: must be the bandwidth of each rank's link in bits"):
            lab.advise(SPEC, [8], network=network)
    with pytest.raises(SpecError, match="^worlds=0: must be a whole number"):
        lab.advise(SPEC, [0], network="10 Gb")
    with pytest.raises(SpecError, match="^worlds=1000000000: advice is given for 100,000 ranks at most"):
        lab.advise(SPEC, [8, 10**9], network="10 Gb")
    with pytest.raises(SpecError, match="^world=1000000000: advice is given for 100,000 ranks at most"):
        lab.advise(SPEC, strategies=[{"strategy": "zero", "world": 10**9}])
    assert lab.advise(SPEC, strategies=[{"strategy": "zero", "world": "2x"}]).rows[0].why.startswith("world='2x'")
    with pytest.raises(SpecError, match="nothing has been measured of model='cnn' .* with one process"):
        lab.advise(SPEC.replace(model="cnn"), [8], network="10 Gb")
    with pytest.raises(SpecError, match="^optimizer='gd': takes all samples"):
        lab.advise(SPEC.replace(optimizer="gd"), [8], network="10 Gb")


def test_the_command_line_tells_of_worlds_too(runs):
    arguments = ["advise", "--like", runs[0].id, "--strategy", "ddp", "--world", "512", "--network", "100 Mb"]
    told = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert told.exit_code == 0 and "Fastest, to a percent: world 512 ddp." in told.output
    (row,) = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)
    assert row["world"] == 512 and row["seconds"] > row["network"] > 0
    told = CliRunner().invoke(main, [*arguments[:-1], "fast"])
    assert told.exit_code == 2 and "network='fast': must be" in told.output


@pytest.mark.parametrize(
    ("text", "bandwidth", "latency"),
    [
        ("10 Gb", 1.25e9, LATENCY),
        ("400Gbit/s, 5 us", 5e10, 5e-6),
        ("1.5 Tb 2 ms", 1.875e11, 2e-3),
        ("8 Mbps", 1e6, LATENCY),
    ],
)
def test_links_are_read_as_people_write_them(text, bandwidth, latency):
    assert Network.of(text) == Network(pytest.approx(bandwidth), pytest.approx(latency))


SECONDS = st.floats(1e-4, 10)
COSTS = st.builds(
    Cost,
    *(st.floats(0, 1e10) for _ in range(4)),
    why=st.just(""),
    sent=st.floats(0, 1e12),
    idle=st.floats(0, 0.9),
    hops=st.floats(0, 1e6),
    overlaps=st.booleans(),
    apart=st.integers(1, 500),
)
NETWORKS = st.builds(Network, st.floats(1e6, 1e12), st.floats(1e-7, 1e-1))


@given(COSTS, st.integers(1, 10_000), SECONDS, NETWORKS, st.floats(1, 100))
def test_a_better_link_or_a_smaller_world_is_never_slower(cost, world, compute, network, factor):
    now = forecast(cost, world, compute, network)
    wider = forecast(cost, world, compute, Network(network.bandwidth * factor, network.latency))
    quicker = forecast(cost, world, compute, Network(network.bandwidth, network.latency / factor))
    for better in (wider, quicker, forecast(cost, max(1, world // 2), compute, network)):
        assert better.seconds <= now.seconds * (1 + 1e-9) and better.lost <= now.lost * (1 + 1e-9)
        assert better.efficiency >= now.efficiency * (1 - 1e-9)
    assert min(now.bubble, now.network, now.stragglers, now.lost) >= 0 and 0 < now.efficiency <= 1
    assert now.seconds >= compute
    slower = forecast(cost, world, 2 * compute, Network(network.bandwidth / 2, 2 * network.latency))
    assert slower.seconds == pytest.approx(2 * now.seconds)  # of every second two


@given(SECONDS, st.floats(0, 0.5), st.floats(0, 1e-6), st.floats(0, 1e-3), st.integers(1, 4))
def test_the_fit_meets_one_process_and_finds_what_made_its_runs(sample, fixed, byte, hop, turns):
    def made(world, samples, sent=0.0, hops=0.0):
        cost = Cost(0, 0, 0, 0, "", sent, hops=hops)
        seconds = (sample * samples + fixed) * turns + byte * sent + hop * hops
        return Timed(
            "ddp", world, samples, seconds if world > 1 else sample * samples + fixed, turns if world > 1 else 1, cost
        )

    runs = [made(1, 64), made(2, 32, 1e5, 2), made(2, 32, 1e4, 40), made(4, 16, 2e5, 6), made(4, 16, 1e5, 90)]
    found = fit(runs)
    assert found.seconds(runs[0]) == pytest.approx(runs[0].seconds) == found.compute(64)
    for run in runs:
        assert found.seconds(run) == pytest.approx(run.seconds, rel=1e-3)
    assert fit(runs[:1]).compute(32) == pytest.approx(runs[0].seconds / 2)  # one run can't tell a part that is fixed


def test_stragglers_and_checkpoints_are_those_of_their_sources():
    draws = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0)).max(dim=1).values.mean().item()
    assert slowest(64) == pytest.approx(draws, rel=0.02) and slowest(1) == pytest.approx(0)
    best = interval(30, 16_384)
    assert best == pytest.approx((2 * 30 * LIFE / 16_384) ** 0.5)

    def waste(seconds):  # saving, and half an interval done again
        return 30 / seconds + seconds / 2 * 16_384 / LIFE

    assert waste(best) < min(waste(best * 1.1), waste(best / 1.1))
    assert lost(10, 16_384) < 0.1  # Llama 3: more than 90 % effective, arXiv:2407.21783


def work(layers, numbers, size, batch):
    """A step of a model of so many parameters, each of `size` bytes as it is sent."""
    with torch.device("meta"):
        model = torch.nn.Module()
        shape = numbers // layers // 1024, 1024
        model.blocks = torch.nn.Sequential(*(torch.nn.Linear(*shape, bias=False) for _ in range(layers)))
    held = {name: Held(p.numel() * size, p.numel() * size, 0) for name, p in model.named_parameters()}
    return Workload(lab.Spec(), model, batch, held, {}, {}, [])


def ahead(strategy, world, numbers, size, compute, network, layers=1, **options):
    spec = lab.Spec(strategy=strategy, world=world, batch_size=world)
    cost = STRATEGIES[strategy](spec, **options).cost(work(layers, numbers, size, world))
    return cost, forecast(cost, world, compute, Network.of(network))


def horovod(numbers, images, world):
    return ahead("ddp", world, numbers, 4, 64 / images, "25 Gb, 3 us")[1].efficiency


def torchtitan():
    compute = 2 * 8192 / 5762  # seconds for two sequences, of 8 GPUs' speed
    few, many = (ahead("fsdp", n, 8_030_000_000, 2, compute, "400 Gb, 3 us", 32)[1] for n in (8, 128))
    return many.efficiency / few.efficiency


def pipelines():
    from lepton_lab.strategies.timetable import bubble

    return (1 - bubble("interleaved", 8, 8)) / (1 - bubble("1f1b", 8, 8))


def diloco():
    apart, each = (
        ahead(name, 8, 150_000_000, 4, 1.0, "1 Gb", **options)[0]
        for name, options in (("diloco", {"every": 500}), ("ddp", {}))
    )
    return each.sent / apart.sent


PUBLISHED = {
    "Horovod, Inception V3, 512 GPUs: efficiency": (0.90, lambda: horovod(23_800_000, 142, 512)),
    "Horovod, ResNet-101, 512 GPUs: efficiency": (0.90, lambda: horovod(44_500_000, 1656.82 / 16, 512)),
    "Horovod, VGG-16, 512 GPUs: efficiency": (0.68, lambda: horovod(138_400_000, 154, 512)),
    "Horovod, VGG-16, 128 GPUs: efficiency": (0.79, lambda: horovod(138_400_000, 154, 128)),
    "torchtitan, Llama 3.1 8B, FSDP: 128 GPUs relative to 8": (5605 / 5762, torchtitan),
    "torchtitan, Llama 3.1 405B: interleaved 1F1B relative to 1F1B": (1.28, pipelines),
    "DiLoCo, 8 workers: bytes of data parallel relative to its own": (500.0, diloco),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures_are_predicted_as_the_page_says(name):
    published, predict = PUBLISHED[name]
    predicted = predict()
    assert published / FACTOR < predicted < published * FACTOR
    assert f"| {name} | {published:.3g} | {predicted:.3g} |" in PAGE.read_text()
