"""A launcher as text: what command lines, grids and parameters of notebooks say of where a run is to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lepton_lab as lab
from lepton_lab.errors import SpecError
from lepton_lab.launchers import HERE, asked, texts, written

TEXTS = st.text(st.characters(exclude_categories=["C"]))
PLACES = st.one_of(
    st.just(HERE),
    st.builds(lab.Ray, st.sampled_from(["", "head:6379", "[::1]:10"]), st.integers(1, 99)),
    st.builds(
        lab.Slurm,
        **dict.fromkeys(("partition", "account", "qos", "address"), TEXTS),
        time=st.integers(1),
        setup=st.lists(TEXTS),
        options=st.dictionaries(TEXTS, st.one_of(TEXTS, st.booleans(), st.integers())),
        cluster=st.sampled_from(["slurm", "local"]),
    ),
    st.builds(lab.Torchrun, st.sampled_from([2, "2", "1:2"]), st.just(["localhost", "127.0.0.1"]), TEXTS, TEXTS),
)


@given(PLACES)
def test_a_text_says_all_of_a_launcher(place):
    assert asked(texts.text(place) or "local").facts == place.facts


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("local", HERE),
        (" ray ", lab.Ray()),
        ("ray:head:6379,cpus=4", lab.Ray("head:6379", 4)),
        ("torchrun:1:4", lab.Torchrun("1:4")),
        ("torchrun:hosts=[localhost, 127.0.0.1], nodes=2", lab.Torchrun(2, ["localhost", "127.0.0.1"])),
        ("slurm:gpu,time=60,nodes=2", lab.Slurm("gpu", 60, 2)),
        ("slurm:partition=12,options={constraint: a100, exclusive: true}",
         lab.Slurm("12", options={"constraint": "a100", "exclusive": True})),
        ('slurm:setup=["module load a,b", "date"]', lab.Slurm(setup=["module load a,b", "date"])),
    ],
)  # fmt: skip
def test_what_people_write(text, place):
    assert asked(text) == written(text) == place


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "on='': unknown launcher"),
        ("Ray", "on='Ray': unknown launcher; did you mean 'ray'"),
        ("local:x", "on='local:x': 'local' has no settings"),
        ("ray:cpu=3", "cpu=3: unknown setting; did you mean 'cpus'"),
        ("ray:cpus=1,cpus=2", "'cpus' comes twice"),
        ("ray:head:6379,4", "'4' must be KEY=VALUE, such as ray:address="),
        ("ray:cpus=many", "cpus='many': must be a whole number"),
        ("ray:cpus", "address='cpus': must be host and port"),
        ("slurm:time=1h", "time='1h': must be a whole number"),
        ("slurm:memory=", "memory='': must be a whole number"),
        ("slurm:options={a", "'{a' is no list, as"),
        ("slurm:\0", "partition='.x00': must have no control"),
        ("torchrun:hosts=node1", "hosts='node1': must be a list of names"),
        ("torchrun:0", "nodes=0: must be a number, or"),
    ],
)
def test_a_wrong_text_is_refused_in_a_sentence(text, words):
    with pytest.raises(SpecError, match=words) as refused:
        asked(text)
    assert "\n" not in str(refused.value)
