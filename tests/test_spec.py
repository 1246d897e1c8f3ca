"""Spec: one record, many forms; refusals in one sentence."""

import copy
import json
import math
import pickle
import shlex

import numpy
import pytest
from click.testing import CliRunner
from helpers import Late
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_lab.cli import main
from lepton_lab.cli.options import Fields
from lepton_lab.errors import LabError, SpecError
from lepton_lab.notebook import INJECTED, parameters
from lepton_lab.run.checks import glance
from lepton_lab.spec import Spec
from lepton_lab.store.provenance import command
from lepton_lab.tables import TABLES, keywords, table

CHAINS = [
    [],
    ["quantize"],
    [("prune", 0.5), {"quantize": {"scheme": "int8"}}],
    [("distill", {"student": {"model": "mlp", "options": {"hidden": 8}}, "temperature": 2.5})],
]


def an_option(rule):
    """Values that an option may take by itself."""
    if rule.annotation in (bool, str):
        return st.booleans() if rule.annotation is bool else st.just("a file.pt2")
    if choices := getattr(rule.annotation, "__args__", None):
        return st.sampled_from(choices)
    bounds = [getattr(bound, side, None) for bound in rule.metadata for side in ("ge", "gt")]
    low = max((bound for bound in bounds if bound is not None), default=0)
    return st.integers(low + 1, low + 9) if rule.annotation is int else st.floats(low + 0.01, low + 0.5)


def options_of(chosen, metrics=()):
    """Any of the options that the chosen entries take."""
    entries = [*chosen.items(), *(("metric", name) for name in metrics)]
    rules = {name: rule for field, entry in entries for name, rule in keywords(table(field)[entry]).items()}
    return st.fixed_dictionaries({}, optional={name: an_option(rule) for name, rule in rules.items()})


entries = st.fixed_dictionaries(
    {}, optional={field: st.sampled_from(sorted(table(field))) for field in TABLES if field != "strategy"}
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.floats(1e-12, 1e6),
        "weight_decay": st.floats(0, 1),
        "momentum": st.floats(0, 0.99),
        "warmup": st.integers(0, 99),
        "epochs": st.integers(1, 10**6),
        "batch_size": st.integers(64, 10**6),
        "world": st.integers(1, 8),
        "accumulate": st.integers(1, 8),
        "clip": st.floats(0, 9),
        "precision": st.sampled_from(["fp32", "bf16", "fp16"]),
        "compile": st.booleans(),
        "device": st.sampled_from(["auto", "cpu", "cuda"]),
        "seed": st.integers(0, 2**31 - 1),
        "workers": st.integers(-1, 64),
        "prefetch": st.integers(0, 100),
        "timeout": st.floats(0.1, 1e6),
        "name": st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"]), max_size=80),
        "keep_best": st.sampled_from(["val_loss", "val_ema_accuracy", "train_loss"]),
        "stop_early": st.sampled_from([{"patience": 2}, {"metric": "val_loss", "min_delta": 1e-3}]),
        "ema": st.floats(0.5, 0.9999),
        "compress": st.sampled_from(CHAINS),
        "metrics": st.lists(st.sampled_from(sorted(table("metric"))), max_size=3, unique=True),
    },
)


@st.composite
def under(draw, strategy):
    """Fields of a spec of a strategy; some of them can't be had together."""
    chosen = {"strategy": strategy} | draw(entries)
    defaults = {field: Spec.model_fields[field].default for field in TABLES}
    chain = draw(fields)
    chain |= {"options": draw(options_of({**defaults, **chosen}, chain.get("metrics", ())))}
    return chosen | chain | ({"parent": "20260101-000000-0000"} if chain.get("compress") else {})


def spec_or_words(fields):
    """The Spec, or the words in which it is refused."""
    try:
        return Spec(**fields)
    except SpecError as error:
        return str(error)


@pytest.mark.parametrize("strategy", table("strategy"))
@settings(deadline=None, max_examples=12)
@given(st.data())
def test_every_form_converts_back_without_loss_whichever_fields_were_named(strategy, data):
    fields = data.draw(under(strategy))
    made = spec_or_words(fields)
    assert made == spec_or_words({**Spec().to_dict(), **fields})
    if isinstance(made, Spec):
        for convert in FORMS:
            converted = convert(made)
            assert converted == made and hash(converted) == hash(made)


def from_script(spec):
    namespace = {}
    exec(spec.to_script().replace('if __name__ == "__main__"', "if False"), {"__name__": "script"}, namespace)
    return namespace["spec"]


def from_command(spec):
    words = shlex.split(command(spec, "any"))
    assert words[:2] == ["lepton-lab", "run"]
    given = main.commands["run"].make_context("run", words[2:]).params
    fields = {name: given[name] for name in Spec.model_fields if name in given}
    return Fields(fields, given["pairs"]).spec()


def from_papermill(spec):
    code = Late("papermill.translators").PythonTranslator.codify(spec.to_dict(), "")
    cell = f"{INJECTED}\n{code.split(chr(10), 1)[1]}"
    namespace = {"__annotations__": {name: rule.annotation for name, rule in Spec.model_fields.items()}, "_ih": [cell]}
    exec(cell, namespace)
    return Spec(**parameters(namespace))


def from_text(spec):
    return Spec(**{name: str(value) for name, value in spec.to_dict().items()} | {"options": spec.options})


FORMS = [
    lambda spec: Spec(**spec.to_dict()),
    lambda spec: Spec().replace(**spec.to_dict()),
    lambda spec: Spec.load(spec.to_dict()),
    lambda spec: Spec.load(spec.to_yaml()),
    lambda spec: Spec.load(json.dumps(spec.to_dict())),
    from_text,
    from_script,
    from_command,
    from_papermill,
]


def test_metrics_are_asked_for_by_name():
    assert Spec(metrics="f1, roc_auc") == Spec(metrics=("f1", "roc_auc", "f1")) == Spec.load("metrics: [f1, roc_auc]")
    assert Spec(metrics=["top_k_accuracy"], options={"k": "3"}).options["k"] == 3
    for fields, words in (
        ({"metrics": ["roc"]}, "metrics='roc': unknown metric; did you mean 'roc_auc'?"),
        ({"metrics": 3}, "metrics=3: must be names of metrics"),
        ({"metrics": ["f1"], "options": {"k": 3}}, "options={'k': 3}: unknown option"),
        ({"metrics": ["ndcg"], "options": {"k": 0}}, "options={'k': 0}: must be at least 1 (metric='ndcg')"),
    ):
        with pytest.raises(SpecError) as refused:
            Spec(**fields)
        assert words in str(refused.value)


APPLIED = [
    {"model": "gan", "task": "adversarial", "options": {"noise": 8, "labels": True, "width": 4}},
    {"model": "flow", "task": "flow_matching", "options": {"latent": 4, "initialisation": "kaiming"}, "ema": 0.9},
    {"model": "flow", "task": "flow_matching", "dataset": "diabetes"},
    {
        "model": "factorisation",
        "dataset": "ratings",
        "task": "recommendation",
        "options": {"negatives": 9, "mean": 3.0},
    },
    {"model": "neumf", "dataset": "movielens_100k", "task": "regression", "options": {"hidden": 8}},
    {"model": "neumf", "dataset": "ratings", "metrics": ["hit_rate"], "options": {"k": 3, "dropout": 0.25}},
    {"model": "speech_recogniser", "dataset": "tones", "transforms": ["mel"], "options": {"width": 8}},
    {"model": "speech_recogniser", "dataset": "vowels", "transforms": ["strings", "mel"], "task": "ctc"},
    {"model": "speech_synthesiser", "dataset": "tones", "transforms": ["spectrum"], "task": "variational"},
    {"model": "enhancer", "dataset": "tones", "task": "enhancement", "options": {"depth": 2}},
    {"model": "word_vectors", "dataset": "sst2", "task": "skip_gram", "options": {"negatives": 3, "window": 2}},
    {"model": "reader", "dataset": "glosses"},
    {"model": "encoder_decoder", "dataset": "dates", "options": {"positions": "rotary"}},
    {"model": "detector", "dataset": "scenes", "options": {"width": 4}},
]


@pytest.mark.parametrize("fields", APPLIED, ids=lambda fields: fields["model"])
def test_a_model_of_an_application_goes_through_yaml_and_the_command_line(fields, tmp_path, monkeypatch):
    spec, taken = Spec(**fields), []
    assert Spec.load(spec.to_yaml()) == spec == from_command(spec) == from_script(spec)
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())

    def launch(spec, on):
        taken.append(spec)
        raise SpecError("no further")

    monkeypatch.setattr("lepton_lab.cli.launch", launch)
    CliRunner().invoke(main, ["run", "--spec", str(tmp_path / "spec.yaml")])
    assert taken == [spec] and glance(spec).spec == spec


def test_a_yaml_file_and_its_text_are_the_same(tmp_path):
    spec = Spec(lr=3e-4, options={"hidden": 32}, model="mlp")
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    assert Spec.load(tmp_path / "spec.yaml") == Spec.load(str(tmp_path / "spec.yaml")) == spec


def test_text_as_papermill_sends_it_is_a_number():
    assert Spec(lr="1e-3").lr == 1e-3
    assert Spec.load("lr: 1e-3\nepochs: '7'\ncompile: 'true'") == Spec(lr=1e-3, epochs=7, compile=True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dataset": "digit"}, ["dataset='digit'", "did you mean 'digits'", "mnist"]),
        ({"model": "cmn"}, ["model='cmn'", "did you mean 'cnn'", "mlp"]),
        ({"optimizer": "adm"}, ["optimizer='adm'", "did you mean 'adam'", "muon"]),
        ({"schedule": "cosin"}, ["schedule='cosin'", "did you mean 'cosine'"]),
        ({"strategy": "dpp"}, ["strategy='dpp'", "did you mean 'ddp'", "single"]),
        ({"learning_rate": 0.1}, ["learning_rate=0.1", "unknown field", "did you mean 'lr'"]),
        ({"epoch": 3}, ["epoch=3", "did you mean 'epochs'"]),
        ({"lr": 0}, ["lr=0", "greater than 0"]),
        ({"lr": -1}, ["lr=-1", "greater than 0"]),
        ({"lr": math.nan}, ["lr=nan", "finite"]),
        ({"lr": math.inf}, ["lr=inf", "finite"]),
        ({"lr": "fast"}, ["lr='fast'", "number"]),
        ({"epochs": 0}, ["epochs=0", "1"]),
        ({"epochs": 1.5}, ["epochs=1.5", "must be a whole number"]),
        ({"epochs": True}, ["epochs=True", "must be a whole number"]),
        ({"lr": True}, ["lr=True", "must be a number"]),
        ({"seed": numpy.True_}, ["seed=np.True_", "must be a whole number"]),
        ({"momentum": 1.0}, ["momentum=1.0", "less than 1"]),
        ({"precision": "b16"}, ["precision='b16'", "'bf16', 'fp16' or 'auto'", "did you mean 'bf16'"]),
        ({"compile": "maybe"}, ["compile='maybe'", "must be true or false"]),
        ({"epochs": "many"}, ["epochs='many'", "must be a whole number"]),
        ({"warmup": -1}, ["warmup=-1", "must be at least 0 ("]),
        ({"prefetch": 10**9}, ["prefetch=1000000000", "at least 0 and at most 10000"]),
        ({"momentum": -1}, ["momentum=-1", "must be at least 0 and less than 1"]),
        ({"name": 3}, ["name=3", "must be text"]),
        ({"name": "x" * 81}, ["name='xxx", "at most 80 characters, not 81"]),
        ({"name": "a\x1b[31mb"}, ["name='a\\x1b[31mb'", "control", "such as '\\x1b'"]),
        ({"name": "gpj.\u202egnp"}, ["invisible", "such as '\\u202e'"]),
        ({"optimizer": "nesterov", "momentum": 0}, ["momentum=0.0", "nesterov"]),
        ({"batch_size": 3, "world": 4}, ["batch_size=3", "at least 4", "world=4"]),
        ({"batch_size": 8, "world": 2, "accumulate": 5}, ["batch_size=8", "at least 10"]),
        ({"strategy": "single", "world": 2}, ["world=2", "strategy='ddp'"]),
        ({"options": {"hiden": 3}, "model": "mlp"}, ["hiden", "did you mean 'hidden'"]),
        (
            {"options": {"hidden": "many"}, "model": "mlp"},
            ["'hidden': 'many'", "must be a whole number", "model='mlp'"],
        ),
    ],
)
def test_a_refusal_names_field_value_and_remedy(fields, words):
    with pytest.raises(SpecError) as caught:
        Spec(**fields)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_several_refusals_come_together():
    with pytest.raises(SpecError) as caught:
        Spec(
            dataset="digit",
            model="mlp",
            optimizer="adm",
            lr=-1,
            epochs=0,
            batch_size=2,
            world=4,
            bogus=1,
            options={"hidden": 0, "dropout": 9},
        )
    told = [line.split(":")[0] for line in str(caught.value).splitlines()]
    own = ["dataset='digit'", "optimizer='adm'", "lr=-1", "epochs=0", "batch_size=2"]
    assert told == [*own, "options={'hidden'", "options={'dropout'", "bogus=1"]


def test_options_of_a_refused_entry_are_not_called_unknown():
    with pytest.raises(SpecError) as caught:
        Spec(model="gtp", options={"positions": "learned"})
    assert "positions" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"options": {"dropout": 9}}, ["'dropout': 9}", "must be at least 0 and less than 1", "model='cnn'"]),
        ({"options": {"hidden": 0}}, ["'hidden': 0}", "must be at least 1"]),
        ({"options": {"hidden": True}}, ["'hidden': True}", "must be a whole number"]),
        ({"options": {"hidden": 1.5}}, ["'hidden': 1.5}", "must be a whole number"]),
        ({"options": {"dropout": "inf"}}, ["'dropout': 'inf'}", "must be a finite number"]),
        ({"options": {"hidden": None}}, ["'hidden': None}", "true or false, a finite number, or text"]),
        ({"options": [1]}, ["options=[1]", "must be pairs of name and value"]),
        ({"model": "gpt", "options": {"positions": "rotry"}}, ["'rotary' or 'learned'", "did you mean 'rotary'"]),
        ({"model": "transformer", "options": {"patch": -1}}, ["'patch': -1}", "must be at least 0"]),
        ({"dataset": "blobs", "model": "mlp", "options": {"samples": 9}}, ["must be at least 10", "dataset='blobs'"]),
        ({"dataset": "blobs", "model": "mlp", "options": {"spread": 0}}, ["must be greater than 0"]),
        ({"dataset": "pydocs", "model": "gpt", "options": {"tokens": "words"}}, ["'characters' or 'bytes'"]),
        ({"dataset": "pydocs", "model": "gpt", "options": {"context": 0}}, ["'context': 0}", "must be at least 1"]),
        ({"schedule": "cyclical", "options": {"cycles": 0}}, ["must be at least 1", "schedule='cyclical'"]),
        ({"options": {"find_unused_parameters": 3}}, ["must be true or false", "strategy='ddp'"]),
    ],
)
def test_options_are_checked_before_a_launch(fields, words):
    with pytest.raises(SpecError) as caught:
        Spec(**fields)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("field", "entry"), [(field, name) for field in TABLES for name in table(field)])
def test_every_option_takes_its_own_default(field, entry):
    defaults = {name: rule.default for name, rule in keywords(table(field)[entry]).items()}
    assert Spec(**{field: entry}, options=defaults).options == defaults


def test_options_are_taken_by_the_type_of_their_default():
    assert Spec(model="mlp", options={"hidden": "32", "dropout": "0.5"}).options == {"hidden": 32, "dropout": 0.5}


def test_a_spec_is_frozen_and_replace_checks_again():
    spec = Spec()
    with pytest.raises(SpecError, match="spec.replace"):
        spec.lr = 3.0
    assert spec.replace(lr=0.5).lr == 0.5 and spec.lr == 1e-3
    with pytest.raises(SpecError, match="lr=-1"):
        spec.replace(lr=-1)


CHANGES = [
    lambda spec: spec.options.__setitem__("hidden", 0),
    lambda spec: spec.options.update(hidden=0),
    lambda spec: spec.options.pop("hidden"),
    lambda spec: spec.compress.append({"prune": {"ratio": 9}}),
    lambda spec: spec.compress[0]["quantize"].update(scheme="int3"),
    lambda spec: Spec().options.setdefault("hidden", 0),
    lambda spec: Spec().compress.insert(0, "quantize"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_options_and_chain_of_a_spec_are_frozen_too(change):
    spec = Spec(options={"hidden": 32}, parent="any", compress=["quantize"])
    before = spec.to_dict()
    with pytest.raises(SpecError, match=r"spec\.replace"):
        change(spec)
    assert spec.to_dict() == before and Spec() == Spec(options={}, compress=[])
    for copied in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec)), spec.model_copy()):
        assert copied == spec and hash(copied) == hash(spec)


def test_a_line_of_yaml_is_no_path(tmp_path, monkeypatch):
    assert Spec.load("name: a.yaml").name == "a.yaml"
    assert Spec.load("epochs: 3\nname: b.json").name == "b.json"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my spec.yaml").write_text("epochs: 7")
    assert Spec.load("my spec.yaml").epochs == 7


@pytest.mark.parametrize("text", ["- a\n- b", "just words", "{"])
def test_yaml_that_is_no_spec_is_refused(text):
    with pytest.raises(SpecError):
        Spec.load(text)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(SpecError, match=r"nothing\.yaml"):
        Spec.load(tmp_path / "nothing.yaml")


def test_a_file_that_is_not_utf_8_is_refused_by_name(tmp_path):
    file = tmp_path / "spec.yaml"
    file.write_bytes("name: Grüße".encode("latin-1"))
    with pytest.raises(SpecError, match=r"spec\.yaml' is not text in UTF-8 \(at byte 8\)"):
        Spec.load(file)
    file.write_bytes("name: Grüße".encode())
    assert Spec.load(file).name == "Grüße"


def test_a_notebook_shows_an_error_as_its_sentence():
    assert LabError("a sentence")._render_traceback_() == ["LabError: a sentence"]


def test_every_field_explains_itself():
    for name, field in Spec.model_fields.items():
        assert field.description and field.description.endswith("."), name


def test_the_script_of_a_cell_defined_model_is_refused():
    with pytest.raises(SpecError, match="--like"):
        Spec(model="cell:MyNet").to_script()
