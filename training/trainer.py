"""The training loop, top to bottom.

Update t is a function of the weights before it and of (seed, t):

1. pick the documents of the batch (:mod:`retriever.training.sampler`),
2. draw two views of each (:mod:`retriever.training.views`),
3. encode both, contrast them (:mod:`retriever.training.objectives`), go back,
4. clip, set the learning rate, step the optimizers.

Every ``selection.every`` updates, and before the first, the encoder is evaluated on held-out known items; the best
weights are remembered and a checkpoint is written. Nothing random outlives a step, so a run that is killed and resumed
ends with the same bytes as one that was not.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from retriever.data.ragged import Ragged
from retriever.data.tokens import TokenStore
from retriever.encoder import Encoder, Kind
from retriever.encoder.loop import autocast
from retriever.errors import RecipeError
from retriever.reporting import Reporter
from retriever.training import objectives, sampler, views
from retriever.training.checkpoint import State, load_checkpoint, save_checkpoint
from retriever.training.diagnostics import diagnose
from retriever.training.optimizers import build_optimizers, clip
from retriever.training.recipe import Recipe
from retriever.training.schedule import rate
from retriever.training.selection import HeldOut

LOG = "log.jsonl"


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training, after the checkpoint was written."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(f"Stopped after step {step}; a checkpoint is in {folder}.")
        self.folder, self.step = folder, step


class Trainer:
    """One training run.

    Args:
        encoder: Trained in place; ends with the weights of the best step.
        store: Token ids of the corpus.
        rows: The documents to train on, (N,).
        held_out: Known items for selection; without them the last step is kept.
        recipe: All settings.
        folder: Where the log and the checkpoints go.
    """

    def __init__(
        self,
        encoder: Encoder,
        store: TokenStore,
        rows: NDArray[np.int64],
        held_out: HeldOut | None,
        recipe: Recipe,
        folder: Path,
    ) -> None:
        self.encoder, self.store, self.rows, self.held_out = encoder, store, rows, held_out
        self.recipe, self.folder = recipe, folder
        self.accelerator = Accelerator(cpu=encoder.device.type == "cpu")
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.model = self.accelerator.prepare_model(encoder.stack)
        self.optimizers = build_optimizers(encoder.stack, recipe.optimizer)
        self.batch = min(recipe.batch.size, len(rows) // self.world)
        tokenizer, prompts = encoder.text_tokenizer, encoder.prompts
        self.prefixes = {kind: tokenizer.encode([prompts.get(kind, "")])[0] for kind in ("query", "document")}
        self.state = State(data=f"{store.fingerprint} {len(rows)}")
        self._tokens, self._since = 0, time.perf_counter()

    def resume(self) -> bool:
        """Take up the newest checkpoint; False if there is none.

        Raises:
            RecipeError: The checkpoint belongs to other data.
            ModelError: The checkpoint cannot be read.
        """
        saved = load_checkpoint(self.folder)
        if saved is None:
            return False
        if saved.data != self.state.data:
            raise RecipeError(
                f"The run in {self.folder} was trained on other data; resume it with the corpus it began with."
            )
        self.encoder.stack.load_state_dict(saved.model)
        for optimizer, state in zip(self.optimizers, saved.optimizers, strict=True):
            optimizer.load_state_dict(state)
        self.state = saved
        return True

    def run(self, reporter: Reporter) -> None:
        """Train to the end, or to the early stop, and leave the best weights in the encoder.

        Raises:
            TrainingInterrupted: Ctrl-C was pressed; a checkpoint is there.
            RecipeError: The loss is no longer finite.
            OutputError: A checkpoint cannot be written; the one before it is intact.
        """
        recipe, state = self.recipe, self.state
        with _interruptible() as interrupted, reporter.stage("train", recipe.schedule.steps, state.step) as advance:
            while True:
                if state.step % recipe.selection.every == 0 or state.step == recipe.schedule.steps:
                    advance(0, **self._milestone())
                if state.step == recipe.schedule.steps or self._is_stale():
                    break
                advance(1, **self._update())
                if interrupted():
                    self._checkpoint()
                    raise TrainingInterrupted(self.folder, state.step)
        if state.best:
            self.encoder.stack.load_state_dict(state.best)
        self.encoder.stack.eval()

    def _update(self) -> dict[str, float]:
        """One optimizer step; returns what was logged, if this step is logged."""
        recipe, step = self.recipe, self.state.step
        self.encoder.stack.train()
        total = 0.0
        for part in range(recipe.batch.accumulate):
            last = part + 1 == recipe.batch.accumulate
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                queries, documents = self._encode(step * recipe.batch.accumulate + part)
                loss = self._loss(queries, documents) / recipe.batch.accumulate
                self.accelerator.backward(loss)
            total += float(loss.detach())
        norm = clip(self.encoder.stack.parameters(), recipe.optimizer.clip) if recipe.optimizer.clip else None
        lr = recipe.optimizer.lr * rate(recipe.schedule, step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        if not math.isfinite(total):
            raise RecipeError(
                f"The loss is {total} at step {step + 1}; lower optimizer.lr or raise objective.temperature."
            )
        if self.state.step % recipe.log_every and self.state.step != 1:
            return {}
        extra = {} if norm is None else {"gradient_norm": float(norm)}
        return self._log_update({"loss": total, "lr": lr, **extra, **diagnose(queries, documents)})

    def _encode(self, batch: int) -> tuple[Tensor, Tensor]:
        """Vectors of the two views of batch number ``batch``, (B, D) each, with a gradient."""
        seed = self.recipe.seed
        torch.manual_seed(int(sampler.generator(sampler.MODEL, seed, batch, self.rank).integers(2**63)))
        random = sampler.generator(sampler.VIEWS, seed, batch, self.rank)
        rows = sampler.batch_rows(self.rows, self.batch, batch, seed, self.rank, self.world)
        queries, documents = views.pairs(self.store, rows, self.recipe.views, random)
        return self._forward("query", queries), self._forward("document", documents)

    def _forward(self, kind: Kind, texts: Ragged) -> Tensor:
        tokens = views.prepend(self.prefixes[kind], texts)
        self._tokens += len(tokens.ids)
        with autocast(self.encoder.device, self.recipe.dtype):
            vectors: Tensor = self.model(self.encoder.features(tokens))["sentence_embedding"]
        return vectors

    def _loss(self, queries: Tensor, documents: Tensor) -> Tensor:
        return objectives.in_batch(queries, documents, **self.recipe.objective.model_dump()).mean()

    def _milestone(self) -> dict[str, float]:
        """Evaluate, remember the best weights, write a checkpoint; returns the scores."""
        state = self.state
        if state.evaluated == state.step:
            return {}
        scores: dict[str, float] = {}
        if self.held_out is not None:
            scores = self.held_out.score(self.encoder, self.recipe.dtype)
            score = scores[self.recipe.selection.metric]
            if score > state.best_score:
                state.best_score, state.best_step, state.stale = score, state.step, 0
                state.best = {name: t.detach().cpu().clone() for name, t in self.encoder.stack.state_dict().items()}
            else:
                state.stale += 1
            self._log({"step": state.step, "evaluation": scores})
        state.evaluated = state.step
        if 0 < state.step < self.recipe.schedule.steps:
            self._checkpoint()
        self._tokens, self._since = 0, time.perf_counter()
        return scores

    def _is_stale(self) -> bool:
        patience = self.recipe.selection.patience
        return patience is not None and self.state.stale >= patience

    def _checkpoint(self) -> None:
        self.state.model = self.encoder.stack.state_dict()
        self.state.optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder, self.state)

    def _log_update(self, values: dict[str, float]) -> dict[str, float]:
        now = time.perf_counter()
        speed = self._tokens / max(now - self._since, 1e-9)
        self._tokens, self._since = 0, now
        values |= {"negatives": self.batch - 1, "tokens_per_second": round(speed)}
        self._log({"step": self.state.step, **values})
        return values

    def _log(self, entry: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request to stop after the current step; a second one stops at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def press(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
