"""LeptonModel: a module in a loop of one's own, and four stages, each a run that leaves it what was learned."""

import numpy as np
import pytest
import torch
from torch import nn

import lepton_lab as lab

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")

DISHES, WORDS = ("soup", "bread", "wine"), {"good": "praise", "great": "praise", "bad": "blame", "awful": "blame"}
TEXTS = [f"the {dish} was {word}" for dish in DISHES for word in WORDS] * 10
MOOD, DISH = [WORDS[text.split()[-1]] for text in TEXTS], [text.split()[1] for text in TEXTS]
SMALL = {"vocabulary": 300, "context": 24, "width": 16, "heads": 2, "strategy": "single", "batch_size": 32, "lr": 5e-3}


def model(parts="encoder", **more):
    return lab.LeptonModel(parts, **{**SMALL, "depth": 1, **more})


@pytest.mark.parametrize("parts", ["encoder", "decoder", "both"])
def test_it_trains_in_a_pasted_loop(parts):
    torch.manual_seed(0)
    net, labels = model(parts, classes=2, dropout=0.0), torch.tensor([int(mood == "praise") for mood in MOOD])
    tokens = net.tokens(TEXTS)
    optimizer, criterion = torch.optim.Adam(net.parameters(), lr=1e-2), nn.CrossEntropyLoss()
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = criterion(net(tokens), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2 and net(tokens).shape == (len(TEXTS), 2)


def test_padding_changes_nothing():
    net = model("decoder", classes=2).eval()
    tokens = net.tokens(TEXTS[:2])
    assert torch.allclose(net(tokens), net(tokens[:, :20]), atol=1e-5)


def stages(parts):
    """Each stage once; what a served file says at the end."""
    net = model(parts, depth=2)
    first = net.pretrain(TEXTS, epochs=1)
    assert first.state == "done" and net(net.tokens(TEXTS[:1]), *[net.tokens(TEXTS[:1])] * (parts == "both")).dim() == 3
    held = net.network.body.state_dict()["embed.tokens.weight" if parts != "both" else "sources.tokens.weight"].clone()
    labels = [int(mood == "praise") for mood in MOOD] if parts == "both" else MOOD  # which would write names
    net.finetune((TEXTS, labels), adapter="lora", epochs=12)
    body = net.network.body.state_dict()["embed.tokens.weight" if parts != "both" else "sources.tokens.weight"]
    assert torch.equal(held, body), "LoRA holds the body"
    assert net.labels == {"label": ["0", "1"] if parts == "both" else ["blame", "praise"]}
    assert all(p.requires_grad for p in net.network.heads.parameters())
    net.optimize(distil=1, prune=0.3, quantize="int8_dynamic", epochs=1)
    assert list(net.runs) == ["pretrain", "finetune", "optimize"]
    server = net.deploy()
    try:
        return lab.Client(server.url, server.token).predict(["the wine was awful", "the soup was great"])
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["encoder", "decoder", "both"])
def test_four_stages_from_texts_to_a_server(parts):
    assert stages(parts) == (["0", "1"] if parts == "both" else ["blame", "praise"])


def test_several_tasks_share_a_body_and_more_data_can_follow():
    net = model()
    run = net.finetune((TEXTS, {"mood": MOOD, "dish": DISH}), epochs=1)
    assert {row["name"] for row in run.logged("number")} == {"loss_mood", "loss_dish"}
    scores = net(net.tokens(TEXTS[:4]))
    assert {name: score.shape[1] for name, score in scores.items()} == {"mood": 2, "dish": 3}
    with pytest.raises(lab.SpecError, match="'tea' is none of the labels of 'dish', which are bread, soup, wine"):
        net.finetune((TEXTS[:2], {"mood": MOOD[:2], "dish": ["tea", "soup"]}))
    assert net.network.heads.keys() == {"mood", "dish"}, "nothing is lost"


@pytest.mark.slow
def test_both_parts_learn_to_write():
    net = model("both", dropout=0.0)
    run = net.finetune((TEXTS, DISH), epochs=30)
    assert run.rows("eval")[-1]["perplexity"] < 1.2
    server = net.deploy()
    try:
        assert lab.Client(server.url, server.token).predict(["the wine was awful"]) == ["wine"]
    finally:
        server.stop()


REFUSED = [
    (lambda: model("coder"), "parts='coder'.*encoder"),
    (lambda: model(heads=3), "heads=3: must give each head an even part of width=16"),
    (lambda: model(classes=1), "classes=1: 'label' must have at least 2"),
    (lambda: model(vocabulary=10), "vocabulary=10: must be a whole number, at least 300"),
    (lambda: model(heads=0), "heads=0: must be a whole number, at least 1"),
    (lambda: model(depth=1.5), r"depth=1\.5: must be a whole number"),
    (lambda: model(dropout=2), "dropout=2: must be from 0 to below 1"),
    (lambda: model(epoch=3), "epoch=3: unknown field; did you mean 'epochs'"),
    (lambda: model(classes={"type": 2}), "'type': is a name that no head can have"),
    (lambda: model().finetune((TEXTS, [None] * 120)), "None is no label of 'label': take whole numbers from 0"),
    (lambda: model().finetune((TEXTS, [0, "a"] * 60)), "'a' is no label of 'label'"),
    (lambda: model().finetune((TEXTS, [0.5] * 120)), r"0\.5 is no label"),
    (lambda: model().finetune((TEXTS, {})), "has no task; give a list of labels"),
    (lambda: model().finetune([tuple(TEXTS), tuple(MOOD[:3])]), "120 texts have 3 labels"),
    (lambda: model().finetune((np.array(TEXTS), MOOD[:3])), "120 texts have 3 labels"),
    (lambda: model().pretrain("one text"), "must be a list of texts"),
    (lambda: model().finetune((TEXTS, MOOD[:3])), "120 texts have 3 labels of 'label'; give one a text"),
    (lambda: model().finetune((TEXTS, MOOD), adapter="prefix"), "adapter='prefix'.*lora"),
    (lambda: model().finetune(TEXTS), r"must be \(texts, labels\)"),
    (lambda: model().deploy(), "has no run yet: call pretrain"),
    (lambda: model().deploy(prt=1), "prt=1: unknown option; did you mean 'port'"),
    (lambda: model(vocabulary=10**9), "must be at most 65536"),
    (lambda: model(lr=-1), "lr=-1: must be greater than 0"),
    (lambda: model(task="regression"), "task='regression': a stage has its own; leave it out"),
    (lambda: model()(["a text"]), r"\['a text'\]: must be a tensor .* model.tokens\(texts\) makes one"),
    (lambda: model()(torch.zeros(2, 3)), "must be a tensor .B, T. of whole numbers"),
    (lambda: model()(torch.tensor([[10**6]])), "whole numbers from 0 to "),
    (lambda: model()(torch.ones(1, 99, dtype=torch.long)), "99 tokens are more than the"),
    (lambda: model()(*[torch.ones(1, 2, dtype=torch.long)] * 2), "called with tokens alone"),
    (lambda: model("both")(torch.ones(1, 2, dtype=torch.long)), r"model\(tokens, before\)"),
    (lambda: model().tokens(5), "texts=5: must be a list of texts"),
    (lambda: model().finetune(((TEXTS, MOOD), 5)), r"must be \(texts, labels\)"),
    (lambda: model().optimize(), "asks for nothing: give prune=0.5"),
]


@pytest.mark.parametrize(("act", "words"), REFUSED, ids=[words[:20] for _, words in REFUSED])
def test_what_it_refuses_it_says_in_a_sentence(act, words):
    with pytest.raises(lab.LabError, match=words):
        act()
    assert lab.runs() == []


def test_a_stage_that_is_refused_leaves_the_model_as_it_was():
    net = model(classes=2)
    head, labels = net.network.heads["label"], net.labels
    for refused in ({"world": 0}, {"strategy": "pipeline", "world": 2}):
        with pytest.raises(lab.LabError):
            net.pretrain(TEXTS, **refused)
        with pytest.raises(lab.LabError):
            net.finetune((TEXTS, DISH), **refused)
    assert net.network.heads["label"] is head and net.labels is labels
    assert net.tokenizer is None, "other texts may be the first"
