"""Spec: one record, many forms; refusals in one sentence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_lab.datasets import DATASETS
from lepton_lab.models import MODELS
from lepton_lab.optimizers import OPTIMIZERS, SCHEDULES
from lepton_lab.spec import TABLES, LabError, Spec, SpecError, keywords, table

specs = st.builds(
    Spec,
    dataset=st.sampled_from(sorted(DATASETS)),
    model=st.sampled_from(sorted(MODELS)),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    strategy=st.just("ddp"),
    lr=st.floats(1e-12, 1e6),
    epochs=st.integers(1, 10**6),
    batch_size=st.integers(64, 10**6),
    world=st.integers(1, 8),
    accumulate=st.integers(1, 8),
    precision=st.sampled_from(["fp32", "bf16", "fp16"]),
    compile=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
    name=st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"]), max_size=80),
)


@given(specs)
def test_every_form_converts_back_without_loss(spec):
    assert Spec(**spec.to_dict()) == spec
    assert Spec.load(spec.to_dict()) == spec
    assert Spec.load(spec.to_yaml()) == spec
    assert Spec(**{field: str(value) for field, value in spec.to_dict().items() if field != "options"}) == spec.replace(
        options={}
    )
    script = {}
    exec(spec.to_script().replace('if __name__ == "__main__"', "if False"), {"__name__": "script"}, script)
    assert script["spec"] == spec


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
        ({"momentum": 1.0}, ["momentum=1.0", "less than 1"]),
        ({"precision": "b16"}, ["precision='b16'", "'fp32', 'bf16' or 'fp16'", "did you mean 'bf16'"]),
        ({"compile": "maybe"}, ["compile='maybe'", "must be true or false"]),
        ({"epochs": "many"}, ["epochs='many'", "must be a whole number"]),
        ({"warmup": -1}, ["warmup=-1", "must be at least 0 ("]),
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
