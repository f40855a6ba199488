"""A small masked language model from nothing: what sentence training starts from where no pretrained model is at hand.

    python benchmarks/mlm.py sentences.txt.gz OUTPUT [--epochs 1]

A BERT of 4 layers and width 256 over a WordPiece vocabulary of the sentences' own learns to fill in 15 % of the tokens
(Devlin et al. 2019, arXiv 1810.04805) with transformers' trainer. It is a start for `benchmarks/whitening.py --init`
and for any recipe with 'encoder={family: pretrained, model: OUTPUT}'. An epoch of 240,000 sentences takes most of an
hour of a core.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

from retriever.data.corpus import open_corpus
from retriever.data.tokenizers import SubwordTokenizer
from retriever.encoder import Encoder
from retriever.encoder.loop import has_bfloat16

VOCABULARY, WIDTH, LAYERS, HEADS, LENGTH = 8_192, 256, 4, 4, 64
IGNORED = -100  # label of a token that is not to be predicted


class MaskedTrainer(Trainer):
    """Words are predicted where a token is masked only: of the output layer's work that is a seventh."""

    def compute_loss(self, model: BertForMaskedLM, inputs: dict[str, Tensor], *_: object, **__: object) -> Tensor:
        """Mean cross entropy over the masked tokens."""
        labels = inputs.pop("labels")
        masked = labels != IGNORED
        states = model.bert(**inputs).last_hidden_state[masked]  # (M, D)
        return nn.functional.cross_entropy(model.cls(states).float(), labels[masked])


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sentences", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts = [document.content for document in open_corpus(options.sentences)]
    vocabulary = SubwordTokenizer.train(texts, size=VOCABULARY)
    shape = {"dimension": WIDTH, "layers": LAYERS, "heads": HEADS, "max_length": LENGTH, "dropout": 0.1}
    transformer = Encoder.small(vocabulary, **shape, seed=options.seed).stack[0]
    tokenizer = transformer.tokenizer
    rows = tokenizer(texts, truncation=True, max_length=LENGTH)["input_ids"]
    torch.manual_seed(options.seed)
    model = BertForMaskedLM(BertConfig(**transformer.config.to_dict()))
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            per_device_train_batch_size=options.batch,
            num_train_epochs=options.epochs,
            learning_rate=5e-4,
            warmup_steps=100,
            weight_decay=0.01,
            train_sampling_strategy="group_by_length",
            save_strategy="no",
            logging_steps=50,
            report_to="none",
            disable_tqdm=True,
            seed=options.seed,
            bf16=has_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
            use_cpu=not torch.cuda.is_available(),
        )
        collator = DataCollatorForLanguageModeling(tokenizer)
        MaskedTrainer(model, settings, collator, Dataset.from_dict({"input_ids": rows})).train()
    model.bert.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)


if __name__ == "__main__":
    main()
