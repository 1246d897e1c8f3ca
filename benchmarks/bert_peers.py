"""`python -m benchmarks.bert_peers by_hand | trainer`: the training of a BERT by others; prints samples/s."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from .ours import SKIPPED

if TYPE_CHECKING:
    from torch import nn

BATCH, EPOCHS, KINDS = 16, 3, 1000


def sentences(count: int) -> list[dict[str, Any]]:
    """Made sentences, whose label is whether the first token comes again."""
    import torch

    draw = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(count):
        tokens = torch.randint(1, KINDS, (int(torch.randint(4, 60, (), generator=draw)),), generator=draw)
        again = int((tokens[1:] == tokens[0]).any())
        samples.append({"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": again})
    return samples


def model() -> nn.Module:
    """The same weights for all."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    return BertForSequenceClassification(BertConfig(vocab_size=KINDS, pad_token_id=0, **sizes))


def by_hand() -> float:
    """A loop as people write it, with our collate."""
    import torch

    from lepton_lab import Pad

    samples, bert, steps = sentences(540), model().train(), 0
    loader = torch.utils.data.DataLoader(samples, BATCH, shuffle=True, collate_fn=Pad())  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(bert.parameters(), fused=True)
    start, seen = 0.0, 0
    for _ in range(EPOCHS):
        for batch in loader:
            optimizer.zero_grad()
            bert(**batch).loss.backward()
            optimizer.step()
            steps += 1
            if steps == SKIPPED:
                start = time.perf_counter()
            seen += len(batch["labels"]) * (steps > SKIPPED)
    return seen / (time.perf_counter() - start)


def trainer() -> float:
    """Hugging Face's Trainer, with nothing saved and its log as it comes."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from lepton_lab import Pad

    class Clock(TrainerCallback):
        def on_step_end(self, arguments: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == SKIPPED:
                self.start = time.perf_counter()

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=EPOCHS,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
        )
        samples: Any = sentences(540)
        training = Trainer(model(), arguments, data_collator=Pad(), train_dataset=samples, callbacks=[clock])
        training.train()
        steps = training.state.global_step
    return (EPOCHS * 540 - SKIPPED * BATCH) / (time.perf_counter() - clock.start) if steps else 0.0


if __name__ == "__main__":
    print(json.dumps({"by_hand": by_hand, "trainer": trainer}[sys.argv[1]]()))
