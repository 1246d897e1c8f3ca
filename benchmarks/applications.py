"""Claims of the applications' notebooks, over seeds: each in full on real data, read out after its last cell."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import zlib
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import lepton_lab as lab
from lepton_lab.store.folder import write_json

from .lessons import sources
from .processes import ROOT, core_by_core, environment
from .rows import Row

TITLE = "Claims of the applications' notebooks on real data: means over seeds (least to most)"
SEEDS = 5
KEPT = ROOT / "build" / "applications"
"""What was measured, a file for each notebook and seed: what was interrupted goes on there within a day."""
DAY = 86_400
NEEDS = {
    "opinion": "sst2",
    "customer_service": "chatterbot",
    "speech": "fsdd",
    "vision": "mnist cutout_scenes",
    "recommendation": "movielens_100k",
    "language": "sst2 spam chatterbot glosses verses tinyshakespeare minilm",
    "bert_to_distilbert": "sst2 minilm",
}
"""Data and weights without which a notebook's figures mean nothing."""
ONCE = {"language": {"repeats": 1}, "vision": {"seeds": 2}}
"""What repeats within a notebook, which the seeds do here; the first seed has it whole, since it tells the time."""
CLAIMS = {
    "opinion": """
        reviews told apart | 100 * (said == true).mean() | %
        false alarms in a year, where one is allowed | false.mean |
        days until an alarm | delay.mean |
    """,
    "customer_service": """
        topics that are right, of all questions | 100 * right.mean() | %
        topics that are right, of answered questions | 100 * right[answered].mean() | %
        questions that are answered | 100 * answered.mean() | %
        questions of topics never seen that are answered | 100 * (unsure >= limit).mean() | %
    """,
    "speech": """
        words, official split | found['recogniser, voices that were heard'].mean | % | at_least 96
        words, a voice never heard | found['recogniser, a voice never heard'].mean | %
        words, never heard: loss | tested(recognisers[0]).mean - tested(recognisers[1]).mean | points | at_least 10
        rows of words by CTC: word errors | interval(errors(said)).mean | % | at_most 4
        synthesis: words understood | understood['the model'].mean | % | at_least 90
        white noise: gain | sum(row['network, dB'] - row['noisy, dB'] for row in table[:3]) / 3 | dB | at_least 7
        babble: gain | sum(row['network, dB'] - row['noisy, dB'] for row in table[3:]) / 3 | dB
    """,
    "vision": """
        handwritten digits after one epoch | classified['residual net'].mean | % | at_least 98.7
        scenes of digits: mAP at 0.5 | found['detector'].mean | | at_least 0.88
        cut-outs seen in training: mAP at 0.5 | things['seen in training'].mean |
        cut-outs never seen: mAP at 0.5 | things['never seen'].mean |
        Fréchet distance of real digits | distances['real'].mean |
        Fréchet distance of the GAN's | distances['GAN'].mean | | at_most 12
        Fréchet distance of the flow's | distances['flow'].mean | | at_most 12
    """,
    "recommendation": """
        root mean squared error, five folds | errors['factorisation'].mean | stars | at_most 0.918
        the next film among ten of 100: factorisation | hits['factorisation'].mean | % | at_least 60
        the next film among ten of 100: neural | hits['neumf'].mean | %
        the next film among ten of 100: least squares | hits['least squares'].mean | %
    """,
    "language": """
        sentiment: bag of words | sentiment['bag of words'].mean | %
        sentiment: from scratch | sentiment['from scratch'].mean | % | at_least 77
        sentiment: MiniLM, fine-tuned | sentiment['MiniLM, fine-tuned'].mean | % | at_least 82.5
        sentiment: MiniLM, LoRA | sentiment['MiniLM, LoRA'].mean | % | at_least 80.5
        500 labels: MiniLM, fine-tuned | bought['MiniLM, fine-tuned'][500][0] | %
        500 labels: from scratch | bought['from scratch'][500][0] | %
        500 labels: gain | bought['MiniLM, fine-tuned'][500][0] - bought['from scratch'][500][0] | points | at_least 10
        spam, whole families held out: AUC | auc['subject and body'].mean | % | at_least 99
        the right answer comes first, by MiniLM | retrieved["MiniLM's vectors, first 1"].mean | % | at_least 35
        spans, exact match | spans['reader'].mean | % | at_least 75
        dates, exact | dates['1 beam'].mean | % | at_least 93
        nouns' neighbours of their kind: skip-gram | pure(directions['skip-gram']).mean | % | at_least 24
        nouns' neighbours of their kind: counting | pure(directions['counting']).mean | %
        nouns' neighbours of their kind: chance | chance | %
        LeptonModel: mood, of two tasks | stages['mood, of two tasks'].mean | %
        LeptonModel: mood alone, by LoRA | stages['mood alone, by LoRA'].mean | %
        LeptonModel: its file, served | stages['its file, served'].mean | %
    """,
    "bert_to_distilbert": """
        teacher of six layers | 100 * right | %
        three layers: kept | 100 * measured['student']['accuracy'] / right | % | at_least 94
        three layers: time saved | 100 - 1e4 / (100 + row('', measured['student'])['faster (%)']) | % | at_least 45
        pruned, 8 bits: kept | 100 * measured['pruned, 8 bits']['accuracy'] / right | %
    """,
}
"""For each notebook rows of what it claims: expression of what its cells leave behind, unit, and bound."""


def measure(quick: bool) -> list[Row]:
    """Rows of each notebook whose data and weights are here; quick: one seed, in the smoke profile."""
    rows = []
    for name, needs in NEEDS.items():
        needed = needs.split()
        if lab.available(dict.fromkeys(needed, f"{name} is not measured")) == set(needed):
            first = once(name, 0, quick)
            with core_by_core() as pool:
                found = [first, *pool.map(partial(once, name), range(1, 1 if quick else SEEDS))]
            for what, (_, unit, *bound) in claims(name).items():
                target = {kind: float(value) for kind, value in map(str.split, bound)}
                rows.append(Row(what, [figures[what] for figures in found], unit, middle=mean, **target))  # type: ignore[arg-type]
            rows.append(Row(f"{name}: the notebook, on all cores", [first["seconds"]], "s", at_most=300))
    return rows


def claims(name: str) -> dict[str, list[str]]:
    """What a notebook claims -> expression, unit, and the bound if there is one."""
    lines = (line.split("|") for line in CLAIMS[name].strip().splitlines())
    return {what.strip(): [part.strip() for part in rest] for what, *rest in lines}


def once(name: str, seed: int, quick: bool = False) -> dict[str, float]:
    """A notebook's figures with a seed, and the seconds it took; those of the last day are read again."""
    path = ROOT / "notebooks" / "applications" / f"{name}.ipynb"
    asked = {what: expression for what, (expression, *_) in claims(name).items()}
    parameters = {"seed": seed, **(ONCE.get(name, {}) if seed else {})}
    alike = zlib.crc32(repr((sources(path), asked, parameters, quick)).encode())
    kept = KEPT / f"{name}-{seed}-{alike:08x}.json"
    if not kept.exists() or time.time() - kept.stat().st_mtime > DAY:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, run(path, asked, parameters, quick))
    found: dict[str, float] = json.loads(kept.read_text())
    return found


def run(path: Path, asked: dict[str, str], parameters: dict[str, int], quick: bool) -> dict[str, float]:
    """Run a copy of a notebook that tells some expressions in a last cell."""
    book = json.loads(path.read_text())
    told = ", ".join(f"{what!r}: float({expression})" for what, expression in asked.items())
    cell: dict[str, Any] = {"cell_type": "code", "id": "claims", "metadata": {}, "outputs": [], "execution_count": None}
    book["cells"].append({**cell, "source": f"import json\nprint(json.dumps({{{told}}}))"})
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "book.ipynb").write_text(json.dumps(book))
        given = [word for item in parameters.items() for word in ("-p", *map(str, item))]
        command = [sys.executable, "-m", "papermill", "book.ipynb", "out.ipynb", "--no-progress-bar", *given]
        own = environment(LEPTON_LAB_HOME=f"{folder}/home", LEPTON_LAB_PROFILE="smoke" if quick else "full")
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{path.name}, {parameters}: {done.stderr[-2000:]}")
        seconds = time.perf_counter() - start
        last = json.loads((Path(folder) / "out.ipynb").read_text())["cells"][-1]
    said = "".join(line for output in last["outputs"] for line in output["text"])  # which may come in parts
    return {**json.loads(said), "seconds": seconds}
