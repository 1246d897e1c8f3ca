"""The workbench without a browser: its form, what it refuses, what it launches, and what it shows."""

import dataclasses
import html
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from helpers import unpack, until
from lepton_widgets import Workbench
from lepton_widgets.about import LABELS, code, describe, preview
from lepton_widgets.curves import ALL

import lepton_lab as lab
from lepton_lab.errors import LabError, SpecError
from lepton_lab.launchers import HERE, LAUNCHERS, Launcher
from lepton_lab.spec import Spec
from lepton_lab.tables import TABLES, keywords, table


@pytest.fixture
def views():
    """Function that keeps a widget to close it at the end."""
    kept = []
    yield lambda view: kept.append(view) or view
    for view in kept:
        view.close()


@pytest.fixture(autouse=True)
def precise(monkeypatch):
    """The same default on machines with and without bfloat16."""
    monkeypatch.setattr("lepton_lab.launchers.devices.bf16_may_win", lambda: False)


def table_options(strategy):
    return list(keywords(table("strategy")[strategy]))


class TestWorkbench:
    def test_every_field_has_a_named_control(self, views):
        bench = views(Workbench())
        assert set(LABELS) == set(Spec.model_fields)
        for field, control in bench._form.controls.items():
            assert control.description == LABELS[field]

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"lr": 1e-4, "weight_decay": 0.1 + 0.2, "clip": 1.0, "name": "a, b", "compile": True, "device": "cpu"},
            {"model": "mlp", "options": {"hidden": 32, "dropout": 0.25}, "schedule": "one_cycle", "warmup": 3},
        ],
    )
    def test_form_and_spec_convert_without_loss(self, views, fields):
        spec = Spec(**fields)
        bench = views(Workbench(spec))
        assert bench.spec == spec
        other = views(Workbench())
        other.spec = spec
        assert other.spec == spec
        assert eval(code(spec).removeprefix("lab.launch"), {"lab": lab}) == spec

    def test_refusal_at_once_and_taken_back(self, views):
        bench = views(Workbench())
        rate = bench._form.controls["lr"]
        rate.value = "-1"
        assert "lr=" in bench._error.value and 'role="alert"' in bench._error.value.replace("'", '"')
        assert bench._button.disabled and "ll-refused" in rate._dom_classes
        rate.value = "1e-3"
        assert bench._error.value == "" and not bench._button.disabled and "ll-refused" not in rate._dom_classes

    @pytest.mark.parametrize("text", ["1e3", "2.7", "", "0x10", "-1", "many"])
    def test_whole_numbers_are_read_as_written_or_refused(self, views, text):
        bench = views(Workbench())
        bench._form.controls["epochs"].value = text
        with pytest.raises(SpecError, match=f"epochs='?{re.escape(text)}'?: must be"):
            _ = bench.spec
        assert bench._button.disabled
        bench._form.controls["epochs"].value = "12"
        assert bench.spec.epochs == 12 and not bench._button.disabled

    def test_a_strategy_that_can_t_be_says_so_and_is_refused_in_its_own_words(self, views):
        bench = views(Workbench(Spec(model="cnn", world=2)))
        control = bench._form.controls["strategy"]
        labels = {name: label for label, name in control.options}
        assert labels["tensor"] == "tensor \u2014 not with model cnn" and labels["ddp"] == "ddp"
        control.value = "tensor"
        assert "model=&#x27;cnn&#x27; has none of the layers" in bench._error.value and bench._button.disabled
        bench._form.controls["model"].value = "transformer"
        assert bench._error.value == "" and control.value == "tensor"
        assert ("tensor", "tensor") in control.options
        bench._form.controls["lr"].value = "-1"  # which no strategy can put right
        assert ("tensor", "tensor") in control.options

    def test_cost_is_told_once_asked_for_and_follows_the_form(self, views):
        bench = views(Workbench(Spec(model="mlp", world=2)))
        line, button = bench._advisor._line, bench._advisor.button
        assert line.value == "" and button.description == "Predict its cost"
        button.click()
        until(lambda: "MB" in line.value or "kB" in line.value)
        assert "gradients (38.4 kB) are averaged" in line.value and "none like it has run" in line.value
        bench._form.controls["strategy"].value = "pipeline"
        until(lambda: "micro-batches" in line.value)
        bench._form.controls["lr"].value = "-1"
        until(lambda: line.value == "")
        bench._form.controls["lr"].value = "0.1"
        until(lambda: "micro-batches" in line.value)
        button.click()
        assert line.value == "" and button.description == "Predict its cost"

    def test_cost_is_that_of_what_the_form_says(self):
        import torch
        from lepton_widgets.advisor import cost

        data = torch.randn(40, 8), torch.randn(40, 1)
        own = {"model": torch.nn.Linear(8, 1), "data": data, "loss": torch.nn.L1Loss()}
        mine = Spec(model="cell:Linear", dataset="cell:tuple", batch_size=8, world=2)
        assert "gradients (36 B) are averaged" in cost(mine, own)
        own["loss"] = lambda output, target: output.nonsense
        assert "nonsense" in cost(mine, own)
        assert "gradients (38.4 kB) are averaged" in cost(Spec(model="mlp", world=2), own | {"loss": None})

    def test_a_model_that_can_t_read_the_data_says_so_and_is_refused(self, views):
        bench = views(Workbench())
        model = bench._form.controls["model"]
        labels = {name: label for label, name in model.options}
        assert labels["gpt"] == "gpt \u2014 not with data set digits" and labels["mlp"] == "mlp"
        model.value = "gpt"
        assert bench._button.disabled and "ll-refused" in model._dom_classes
        assert "takes texts" in bench._error.value and "take model=&#x27;transformer&#x27;" in bench._error.value
        assert "<b>gpt</b>" in bench._about.value and bench._repeat.value == ""
        assert bench.launch() is None and not lab.runs()
        bench._form.controls["dataset"].value = "pydocs"
        assert not bench._button.disabled and bench._error.value == "" and "ll-refused" not in model._dom_classes
        assert ("gpt", "gpt") in model.options and ("cnn \u2014 not with data set pydocs", "cnn") in model.options

    def test_the_task_comes_first_and_only_what_fits_it_is_offered(self, views, monkeypatch):
        from lepton_lab.tasks import TASKS

        bench = views(Workbench())
        controls = bench._form.controls
        names = lambda field: [name for _, name in controls[field].options]  # noqa: E731
        assert next(iter(controls)) == "task" and names("task") == [*TASKS]
        labels = {name: label for label, name in controls["task"].options}
        assert labels["keywords"].endswith("not with data sets of the table") and labels["multilabel"] == "multilabel"
        assert labels["diffusion"].endswith("not with models of the table")
        assert {*controls["metrics"]._chips} >= {"f1", "roc_auc"} and "mse" not in controls["metrics"]._chips
        assert "val_accuracy" in controls["keep_best"].options
        controls["task"].value = "language_model"
        assert names("dataset") == ["pydocs", "tinyshakespeare"]
        assert (bench.spec.dataset, bench.spec.model, bench._error.value) == ("pydocs", "gpt", "")
        assert "val_perplexity" in controls["keep_best"].options
        controls["task"].value = "recommendation"
        assert names("dataset") == ["ratings", "movielens_100k"] and names("model") == ["factorisation", "neumf"]
        assert (bench.spec.dataset, bench.spec.model, bench._error.value) == ("ratings", "factorisation", "")
        controls["task"].value = "classification"
        assert "pydocs" not in names("dataset"), "each of its tokens has a label"
        controls["task"].value = "regression"
        assert "pydocs" not in names("dataset") and "si_sdr" not in controls["metrics"]._chips, "of one number a sample"
        controls["metrics"]._chips["rmse"].value = True
        controls["keep_best"].value = "val_rmse"
        assert bench.spec.metrics == ["rmse"] and bench.spec.keep_best == "val_rmse" and "perplexity" not in {
            *controls["metrics"]._chips
        }  # fmt: skip
        controls["task"].value = "language_model"
        assert controls["metrics"].value == [], "what has no meaning there is asked for"
        controls["keep_best"].value, controls["task"].value = "", "flow_matching"
        assert (bench.spec.model, bench._error.value) == ("flow", "") and "frechet_distance" in controls[
            "metrics"
        ]._chips
        controls["task"].value = "adversarial"
        assert (bench.spec.model, bench._error.value) == ("gan", "")
        controls["keep_best"].value, controls["task"].value = "", "diffusion"
        assert "needs others; take task='adversarial', or give model=..." in html.unescape(bench._error.value)
        assert bench._button.disabled
        assert controls["compress"].layout.display == "none" and "pipeline" in names("strategy")
        controls["world"].value = "2"
        offered = dict(controls["strategy"].options)
        assert "pipeline \u2014 not with model gan" in offered and "ddp" in offered
        monkeypatch.setattr("lepton_lab.launchers.devices.bf16_may_win", lambda: True)
        assert views(Workbench()).spec.precision == "auto" and views(Workbench(Spec())).spec.precision == "fp32"

    def test_what_is_one_s_own_is_known_to_the_form(self, views):
        import torch

        class Ring(lab.Adversarial):
            """A GAN."""

        x = torch.randn(40, 8)
        own = {"model": torch.nn.Linear(8, 2), "metrics": {"gap": lambda output, target: 0.5}}
        bench = views(Workbench(data=(x, x[:, :2]), keep_best="val_gap", **own))
        options = bench._form.controls["keep_best"].options
        assert bench._error.value == "" and {"val_gap", "val_r2", "val_loss"} <= {*options}
        assert "val_accuracy" not in options and "si_sdr" in bench._form.controls["metrics"]._chips
        tasks = {name: label for label, name in bench._form.controls["task"].options}
        assert "not with" in tasks["keywords"] and tasks["denoising"] == "denoising"
        gan = views(
            Workbench(
                data=(x, x), task=Ring, model=torch.nn.ModuleDict({"a": own["model"]}), keep_best="val_generator_loss"
            )
        )
        assert "val_discriminator_loss" in gan._form.controls["keep_best"].options

    def test_models_are_held_to_data_of_one_s_own(self, views):
        import torch

        bench = views(Workbench(data=(torch.randn(40, 8), torch.randint(0, 2, (40,))), model="mlp"))
        labels = {name: label for label, name in bench._form.controls["model"].options}
        assert labels["mlp"] == "mlp" and labels["cnn"].startswith("cnn \u2014 not with data set")
        with pytest.raises(SpecError, match="must be as many"):
            Workbench(data=(torch.randn(4, 8), torch.randint(0, 2, (5,))))

    def test_code_of_one_s_own_that_fails_is_refused_without_being_asked(self, views):
        import torch

        class Buggy(torch.nn.Module):
            def __init__(self, shape, classes):
                super().__init__()
                self.a, self.b = torch.nn.Linear(64, 32), torch.nn.Linear(33, classes)

            def forward(self, x):
                return self.b(self.a(x.flatten(1)))

        class Chooser(torch.nn.Linear):
            """It can't be rehearsed on shapes alone, and is sound."""

            def forward(self, x):
                rows = super().forward(x.flatten(1))
                return rows + 0 * rows[rows.sum(1) > 0].sum()

        bench = views(Workbench(model=Buggy))
        until(lambda: "cannot be multiplied" in bench._error.value)
        assert bench._button.disabled and "ll-refused" in bench._form.controls["model"]._dom_classes
        bench._form.controls["lr"].value = "0.1"  # what is known is said at once
        assert "cannot be multiplied" in bench._error.value and bench._button.disabled
        assert bench.launch() is None and not lab.runs()
        bench._form.controls["model"].value = "mlp"
        assert bench._error.value == "" and not bench._button.disabled
        sound = views(Workbench(model=Chooser(64, 10)))
        until(lambda: sound._advisor.known(sound.spec) == "")
        assert sound._error.value == "" and not sound._button.disabled

    def test_a_prediction_that_goes_wrong_ends_in_a_sentence(self, views, monkeypatch):
        import lepton_widgets.advisor as advisor

        monkeypatch.setattr(advisor, "cost", lambda spec, own: 1 / 0)
        bench = views(Workbench())
        bench._advisor.button.click()
        until(lambda: "division by zero" in bench._advisor._line.value)
        bench._form.controls["lr"].value = "0.1"
        until(lambda: not bench._advisor._busy)

    def test_options_have_fields_of_their_own(self, views):
        bench = views(Workbench(model="cnn"))
        options = bench._form.controls["options"]
        assert list(options.fields) == ["hidden", "dropout", "initialisation", *table_options("ddp")]
        assert options.fields["hidden"].placeholder == "64" and "Units of the dense layer" in options._meanings.value
        options.fields["dropout"].value, options.fields["compress"].value = "0.25", "bf16"
        assert bench.spec.options == {"dropout": 0.25, "compress": "bf16"}
        bench._form.controls["model"].value = "transformer"
        assert "patch" in options.fields and options.fields["dropout"].value == ""
        bench._form.controls["strategy"].value = "single"
        assert bench.spec.options == {}
        options.fields["heads"].value = "none"
        assert "options={&#x27;heads&#x27;" in bench._error.value and bench._button.disabled
        assert "ll-refused" in options.fields["heads"]._dom_classes and not bench._folded

    def test_every_option_says_what_it_means(self):
        for family in TABLES:
            for name, entry in table(family).items():
                for option, rule in keywords(entry).items():
                    assert rule.description.endswith("."), f"{option} of {family} {name}"

    def test_runs_go_where_the_form_says_and_its_code_says_so(self, views, tiny):
        bench = views(Workbench(tiny.replace(world=2)))
        place = bench._form.place
        assert place.choice.value == "local" and not place.fields and bench._repeat.value.count("Command") == 1
        place.choice.value = "torchrun"
        assert list(place.fields) == ["nodes", "hosts", "address", "python"]
        assert place.fields["nodes"].placeholder == "1" and "the least and the most" in bench._about.value
        place.fields["nodes"].value = "4:2"
        assert "nodes=&#x27;4:2&#x27;: must be a number" in bench._error.value and bench._button.disabled
        assert "ll-refused" in place.fields["nodes"]._dom_classes
        place.fields["nodes"].value = "3"
        assert "world=2 on 3 nodes" in bench._error.value and "ll-refused" in bench._form.controls["world"]._dom_classes
        place.fields["nodes"].value, place.fields["hosts"].value = "2", "localhost"
        assert "hosts: 1 were given" in bench._error.value and "ll-refused" in place.fields["hosts"]._dom_classes
        place.fields["hosts"].value, place.fields["address"].value = "", "127.0.0.1"
        assert bench._error.value == "" and bench.on == lab.Torchrun(nodes=2, address="127.0.0.1")
        shown = html.unescape(re.search("<code>(.*?)</code>", bench._repeat.value)[1])
        assert shown.endswith(", on=lab.Torchrun(nodes=2, address='127.0.0.1'))")
        assert "--on torchrun:nodes=2,address=127.0.0.1</code>" in bench._repeat.value
        run = bench.launch()
        assert run.facts["launcher"] == bench.on.facts
        run.stop()
        assert run.wait(60) == "stopped"
        again = views(Workbench(on=lab.Torchrun(nodes="1:2", hosts=["localhost", "127.0.0.1"])))
        assert again._form.place.fields["hosts"].value == "localhost, 127.0.0.1"
        assert again.on == lab.Torchrun(nodes="1:2", hosts=["localhost", "127.0.0.1"])
        again._form.place.choice.value = "local"
        assert again.on == HERE and not again._form.place.fields

    def test_a_launcher_of_the_table_is_in_the_form_by_its_settings_alone(self, views, monkeypatch):
        @dataclasses.dataclass(frozen=True)
        class Moon(Launcher):
            """Have a run done far away.

            Parameters
            ----------
            crater
                Where.
            """

            name = "moon"
            crater: str
            hours: float = 1.5
            days: int | None = None
            quiet: bool = False
            side: Literal["near", "far"] = "near"
            more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

        monkeypatch.setitem(LAUNCHERS, "moon", Moon)
        bench = views(Workbench())
        place = bench._form.place
        place.choice.value = "moon"
        assert "crater=&#x27;&#x27;: lab.Moon needs it" in bench._error.value
        texts = {"crater": "12", "hours": "2", "days": "3", "quiet": True, "side": "far", "more": "gres: gpu:1"}
        for name, text in texts.items():
            place.fields[name].value = text
        assert bench.on == Moon("12", 2.0, 3, True, "far", {"gres": "gpu:1"})
        code = html.unescape(bench._repeat.value)
        assert "on=lab.Moon(crater='12', hours=2.0, days=3, quiet=True, side='far', more={'gres': 'gpu:1'})" in code
        assert "Where." in bench._about.value

    def test_several_values_launch_a_run_each_in_one_view(self, views, tiny):
        bench = views(Workbench(tiny.replace(epochs=1)))
        bench._form.controls["lr"].value = "1e-4, 1e-3"
        bench._form.controls["options"].fields["hidden"].value = "8, 16"
        assert bench._button.description == "Launch 4 runs"
        with pytest.raises(LabError, match="4 specs"):
            _ = bench.spec
        shown = html.unescape(re.search("<code>(.*?)</code>", bench._repeat.value)[1])
        made = eval(shown, {"lab": SimpleNamespace(Spec=Spec, launch=lambda spec: spec)})
        assert made == bench.specs
        last = bench.launch()
        assert [(run.spec.lr, run.spec.options["hidden"]) for run in bench.runs] == [
            (1e-4, 8), (1e-4, 16), (1e-3, 8), (1e-3, 16),
        ]  # fmt: skip
        assert bench.live.runs == bench.runs and last == bench.runs[-1]
        for run in bench.runs:
            assert run.wait(60) == "done"
        bench._form.controls["seed"].value = ",".join(map(str, range(40)))
        assert "makes 40 runs" in bench._error.value or "makes 80 runs" in bench._error.value

    def test_a_view_stays_while_its_run_goes(self, views, tiny, endless):
        bench = views(Workbench(endless.replace(world=1)))
        first = bench.launch()
        bench.spec = tiny
        second = bench.launch()
        assert [view.runs for view in bench._slot.children] == [[second], [first]]
        second.wait(60)
        third = bench.launch()
        assert [view.runs for view in bench._slot.children] == [[third], [first]], "an ended run makes room"
        later = views(Workbench(tiny))  # as on a page that is opened anew
        assert [first] in [view.runs for view in later._slot.children]
        first.stop()
        assert first.wait(30) == "stopped" and third.wait(60) == "done"
        last = bench.launch()
        assert [view.runs for view in bench._slot.children] == [[last]]
        last.wait(60)

    def test_unknown_field_is_refused(self):
        with pytest.raises(LabError, match="epoch"):
            Workbench(epoch=3)

    def test_launch_shows_the_run(self, views, tiny):
        bench = views(Workbench(tiny))
        run = bench.launch()
        assert run.wait(60) == "done"
        until(lambda: bench.live._feed.statuses[0].story.figures.get("test_accuracy"))
        first = bench.live
        assert bench._slot.children == (first,) and bench.runs == [run] and run.id in repr(bench)
        snapshot = unpack(first.get_state("snapshot")["snapshot"])
        assert snapshot[0, "loss", "train", ALL][2] == [row["step"] for row in run.rows("train")]

    def test_a_double_click_starts_one_run(self, views, tiny, home, monkeypatch):
        clock = [100.0]
        monkeypatch.setattr("lepton_widgets.workbench.time", SimpleNamespace(monotonic=lambda: clock[0]))
        bench = views(Workbench(tiny))
        bench._button.click()
        first = bench.run
        clock[0] += 0.3
        bench._button.click()
        assert bench.run is first
        clock[0] += 0.5
        bench._button.click()
        assert bench.run is not first
        bench.launch()
        assert len(lab.runs()) == 3, "launch() called from Python is not limited"
        for run in lab.runs():
            run.wait(60)

    def test_refused_launch_is_shown(self, views, monkeypatch):
        bench = views(Workbench())

        def refuse(*args, **kwargs):
            raise LabError("the run root can't be written")

        monkeypatch.setattr(lab, "launch", refuse)
        assert bench.launch() is None
        assert "can&#x27;t be written" in bench._error.value and not bench._button.disabled

    def test_own_model_and_data(self, views):
        import torch

        class Line(torch.nn.Linear):
            """A model of the test's own."""

            def __init__(self):
                super().__init__(2, 2)

        x = torch.randn(64, 2)
        y = (x[:, 0] > 0).long()
        bench = views(Workbench(model=Line, data=((x, y), (x, y)), epochs=1))
        assert bench.spec.model == "cell:Line"
        assert "Yours" in bench._about.value
        assert "lab.launch(lab.Spec(epochs=1), model=Line, data=data)" in bench._repeat.value
        assert bench.launch().wait(60) == "done"
        assert "--like" in bench._repeat.value
        bench._form.controls["model"].value = "mlp"
        assert bench.spec.model == "mlp"

    def test_headless_prints_the_spec(self, views):
        bench = views(Workbench(epochs=3))
        text = bench.still()["text/plain"]
        assert Spec.load(text.removeprefix("Workbench\n")) == bench.spec


def test_every_schedule_has_a_preview():
    from lepton_lab.optimizers import SCHEDULES

    for schedule in SCHEDULES:
        svg = preview(Spec(schedule=schedule))
        assert svg.count(",") > 200 and f"schedule {schedule}" in svg
    flat = re.search(r"points='([^']*)'", preview(Spec(schedule="constant")))[1]
    assert all(10 < float(point.split(",")[1]) < 30 for point in flat.split()), "the line sticks to the edge"
    both = describe({**Spec().to_dict(), "compress": ["distill", {"prune": 0.5}]})
    assert "Removes channels" in both and "Teaches a student" in both and "torch's DDP" in html.unescape(both)
    assert preview(Spec(epochs=1)) and describe(Spec(model="mlp").to_dict())
