"""Trained models beat stated floors on real data."""

import lepton_lab as lab


def test_the_digits_cnn_learns():
    run = lab.launch(lab.Spec(dataset="digits", model="cnn", strategy="ddp", world=2, epochs=10))
    assert run.wait(120) == "done"
    assert run.rows("eval")[-1]["accuracy"] >= 0.97


def test_the_mnist_cnn_learns(data_root):
    run = lab.launch(lab.Spec(dataset="mnist", model="mnist_cnn", strategy="ddp", world=2, epochs=3, batch_size=128))
    assert run.wait(280) == "done", run.failure
    assert run.rows("eval")[-1]["accuracy"] >= 0.985
