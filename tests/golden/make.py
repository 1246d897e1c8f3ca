"""
Makes runs and artifacts of the version at hand, which every later one must open: `python tests/golden/make.py`.

They are added once, when a version is released or a format changes, and never made again: what they are for is that
they stay. Beside them `expected.json` says what this version read from them.
"""

from __future__ import annotations

import importlib.metadata
import json
import lzma
import os
import platform
import tarfile
import tempfile
import time
from pathlib import Path

import lepton_lab as lab
from lepton_lab.store.folder import RunFolder

SMALL = lab.Spec(dataset="digits", model="mlp", options={"hidden": 8}, epochs=2, lr=0.01, batch_size=64)
CHAIN = [("prune", 0.5), ("quantize", "int8")]


def runs() -> dict[str, lab.Run]:
    """One run of each kind of end."""
    done = lab.launch(SMALL.replace(world=2, strategy="ddp", name="two ranks"))
    failed = lab.launch(SMALL.replace(optimizer="sgd", lr=1e30))
    stopped = lab.launch(SMALL.replace(epochs=4, eval_every=0))
    stopped.pause()
    while stopped.state != "paused":
        time.sleep(0.01)
    stopped.stop()
    assert (done.wait(), failed.wait(), stopped.wait()) == ("done", "failed", "stopped")
    child = lab.compress(done, CHAIN, epochs=1)
    assert child.wait() == "done", child.failure
    return {"done": done, "failed": failed, "stopped": stopped, "child": child}


def told(run: lab.Run) -> dict[str, object]:
    """What a run says of itself."""
    weights = [] if run.state == "failed" else [p.double().sum().item() for p in run.model().parameters()]
    return {
        "id": run.id, "state": run.state, "spec": run.spec.to_dict(), "steps": run.summary()["step"],
        "accuracy": run.summary().get("test_accuracy"), "rows": len(run.rows()), "weights": weights,
        "failure": run.failure and run.failure.message,
    }  # fmt: skip


def artifacts(run: lab.Run, folder: Path) -> dict[str, object]:
    """Scores of a file of each runtime, on samples that it makes up itself."""
    scores = {}
    for runtime in ("torch", "onnxruntime"):
        lab.export(run, folder / f"{runtime}.lepton", runtime=runtime)
        artifact = lab.load(folder / f"{runtime}.lepton")
        scores[runtime] = artifact(artifact.made_up(2)).tolist()
    return scores


def anonymous(root: Path) -> None:
    """Leave nothing of this machine in the files' text: its folders and its name."""
    names = {str(root): "/golden", tempfile.gettempdir(): "/temporary", str(Path.cwd()): "/checkout"}
    names |= {str(Path.home()): "/home", platform.platform(): "Linux"}
    for path in root.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".log", ".txt", ".patch"):
            text = path.read_text()
            for name, other in names.items():
                text = text.replace(name, other)
            path.write_text(text)


def main() -> None:
    """Write `VERSION.tar.xz` beside this file."""
    target = Path(__file__).parent / f"{importlib.metadata.version('lepton-lab')}.tar.xz"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ |= {"LEPTON_LAB_HOME": str(root), "XDG_RUNTIME_DIR": str(root)}
        made = runs()
        (root / "artifacts").mkdir()
        expected = {"runs": {name: told(run) for name, run in made.items()}}
        expected["artifacts"] = artifacts(made["done"], root / "artifacts")
        (root / "expected.json").write_text(json.dumps(expected, indent=1))
        while any(RunFolder(run.folder).alive for run in made.values()):
            time.sleep(0.01)
        anonymous(root)
        with lzma.open(target, "wb", preset=9) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
            for name in ("runs", "artifacts", "expected.json"):
                archive.add(root / name, name)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
