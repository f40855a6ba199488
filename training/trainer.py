"""The training loop, top to bottom.

Update t is a function of the state before it and of (seed, t):

1. pick the examples of the batch (:mod:`retriever.training.sampler`),
2. find the gradient of their loss (:mod:`retriever.training.contrast_step`, or :mod:`retriever.training.label_step`
   where texts have labels),
3. add the gradients of all processes, clip, set the learning rate, step the optimizers.

Every ``selection.every`` updates, and before the first, the encoder is evaluated
(:mod:`retriever.training.selection`); the best weights are remembered and a checkpoint is written. In the end one
step's are kept, or an average with those before training (:mod:`retriever.training.keeping`). Nothing random outlives a
step, so a run that is killed and resumed ends with the same bytes as one that was not.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np
from numpy.typing import NDArray

from retriever.encoder import Encoder
from retriever.errors import RecipeError
from retriever.reporting import Reporter
from retriever.training import parallel, sampler
from retriever.training.checkpoint import State, load_checkpoint, save_checkpoint
from retriever.training.contrast_step import ContrastStep
from retriever.training.diagnostics import diagnose
from retriever.training.keeping import keep_share, keep_step, weights_of
from retriever.training.label_step import LabelStep
from retriever.training.optimizers import apply_gradients, build_optimizers, clip
from retriever.training.outcome import add_line
from retriever.training.points import PointExamples
from retriever.training.prepare import Prepared
from retriever.training.recipe import Recipe
from retriever.training.schedule import bounded, rate

LOG = "log.jsonl"
SLACK, PATIENCE = 0.01, 200  # nats below the loss of a guess, and steps, until collapse is suspected


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training, after the checkpoint was written."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(f"Stopped after step {step}; a checkpoint is in {folder}.")
        self.folder, self.step = folder, step


class Trainer:
    """One training run.

    Args:
        encoder: Trained in place; ends with the weights of the best step.
        data: Examples, their sources, and what to choose the step by; without that the last one is kept.
        recipe: All settings.
        folder: Where the log and the checkpoints go.
    """

    def __init__(self, encoder: Encoder, data: Prepared, recipe: Recipe, folder: Path) -> None:
        self.encoder, self.held_out = encoder, data.held_out
        self.folder, self._log = folder, partial(add_line, folder / LOG)
        sizes = [len(source) for source in data.sources]
        self.count = sum(sizes)
        self.batch = _batch_size(recipe.batch.size, min(sizes) if recipe.mixing.single else self.count)
        self.recipe = bounded(recipe, self.count, self.batch)
        self.sampler = sampler.Sampler(data.sources, self.batch, recipe.seed, data.shares, recipe.mixing.single)
        self.work: ContrastStep | LabelStep
        if isinstance(data.examples, PointExamples):
            self.work = LabelStep(encoder, data.examples, self.sampler, self.recipe)
        else:
            self.work = ContrastStep(encoder, data.examples, self.sampler, self.recipe)
        self.optimizers = build_optimizers(self.work.trained, recipe.optimizer)
        self.state = State(data=f"{data.examples.fingerprint} {self.count}")
        self.start = weights_of(encoder) if recipe.selection.average else {}  # built anew by a run that resumes
        self.share = 1.0  # of the trained weights in those the encoder ends with
        self._since = time.perf_counter()

    def resume(self) -> bool:
        """Take up the newest checkpoint; False if there is none.

        Raises:
            RecipeError: The checkpoint belongs to other data or another model.
            ModelError: The checkpoint cannot be read.
        """
        saved = load_checkpoint(self.folder)
        if saved is None:
            return False
        if saved.data != self.state.data:
            raise RecipeError(
                f"The run in {self.folder} was trained on other data; resume it with the corpus it began with."
            )
        try:
            self.encoder.stack.load_state_dict(saved.model)
            self.work.load(saved)
        except RuntimeError as error:
            raise RecipeError(
                f"The run in {self.folder} was of another model, whose weights have other shapes; resume it with the "
                "model it began with."
            ) from error
        for optimizer, state in zip(self.optimizers, saved.optimizers, strict=True):
            optimizer.load_state_dict(state)
        self.state = saved
        return True

    def run(self, reporter: Reporter) -> None:
        """Train to the end, or to the early stop, and leave the weights to keep in the encoder.

        Raises:
            TrainingInterrupted: Ctrl-C was pressed; a checkpoint is there.
            RecipeError: The loss is no longer finite, or the weights are not.
            OutputError: A checkpoint cannot be written; the one before it is intact.
        """
        recipe, state = self.recipe, self.state
        with _interruptible() as interrupted, reporter.stage("train", recipe.schedule.steps, state.step) as advance:
            while True:
                if state.step % recipe.selection.every == 0 or state.step == recipe.schedule.steps:
                    advance(0, **self._milestone())
                if state.step == recipe.schedule.steps or self._is_stale():
                    break
                advance(1, **self.update(reporter))
                if interrupted():
                    self._checkpoint()
                    raise TrainingInterrupted(self.folder, state.step)
        keep_step(self.encoder, state, self.held_out, recipe)
        if self.start:
            self.share = keep_share(self.encoder, self.start, self.held_out, recipe, self._log)
        self.encoder.stack.eval()

    def rows(self) -> NDArray[np.int64]:
        """All examples that the batches of this run hold, each once, in rising order."""
        batches = range(self.recipe.schedule.steps * self.recipe.batch.accumulate)
        return np.unique(np.concatenate([self.sampler(number) for number in batches]))

    def update(self, reporter: Reporter) -> dict[str, float]:
        """One optimizer step; returns what was logged, if this step is logged."""
        recipe, step = self.recipe, self.state.step
        self.encoder.stack.train()
        self.work.begin(step)
        total = 0.0
        for part in range(recipe.batch.accumulate):
            loss, queries, documents = self.work.gradient(step * recipe.batch.accumulate + part)
            total += loss
        parallel.sum_gradients(self.work.trained.parameters())
        norm = clip(self.work.trained.parameters(), recipe.optimizer.clip) if recipe.optimizer.clip else None
        lr = recipe.optimizer.lr * rate(recipe.schedule, step)
        apply_gradients(self.optimizers, lr)
        self.state.step += 1
        if not math.isfinite(total):
            raise RecipeError(
                f"The loss is {total} at step {step + 1}; lower optimizer.lr or raise objective.temperature."
            )
        self._watch(total, reporter)
        if self.state.step % recipe.log_every and self.state.step != 1:
            return {}
        extra = {} if norm is None else {"gradient_norm": float(norm)}
        return self._log_update({"loss": total, "lr": lr, **extra, **diagnose(queries, documents)})

    def _watch(self, loss: float, reporter: Reporter) -> None:
        """Say so once, when the loss has been that of a guess for many steps."""
        candidates, guess = self.work.guess
        self.state.flat = self.state.flat + 1 if loss >= guess - SLACK else 0
        if self.state.flat == PATIENCE:
            reporter.note(
                f"The loss has been that of a guess among {candidates:,} candidates, {guess:.2f}, for {PATIENCE} "
                "steps: the vectors have probably collapsed; lower optimizer.lr, or change "
                "objective.temperature."
            )

    def _milestone(self) -> dict[str, float]:
        """Evaluate, remember the best weights, write a checkpoint; returns the scores."""
        state = self.state
        if state.evaluated == state.step:
            return {}
        if state.step and not all(weight.isfinite().all() for weight in self.work.trained.parameters()):
            raise RecipeError(
                f"The weights are not finite after step {state.step}; lower optimizer.lr or raise "
                "objective.temperature."
            )
        scores: dict[str, float] = {}
        if self.held_out is not None:
            scores = self.held_out.score(self.encoder, self.recipe.dtype)
            score = scores[self.recipe.selection.measure]
            if score > state.best_score:
                state.best_score, state.best_step, state.stale = score, state.step, 0
                state.best = weights_of(self.encoder)
            else:
                state.stale += 1
            self._log({"step": state.step, "evaluation": scores})
        state.evaluated = state.step
        if 0 < state.step < self.recipe.schedule.steps:
            self._checkpoint()
        self.work.tokens, self._since = 0, time.perf_counter()
        return scores

    def _is_stale(self) -> bool:
        patience = self.recipe.selection.patience
        return patience is not None and self.state.stale >= patience

    def _checkpoint(self) -> None:
        self.state.model = self.encoder.stack.state_dict()
        self.state.optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        vars(self.state).update(self.work.saved())
        if parallel.rank() == 0:
            save_checkpoint(self.folder, self.state)

    def _log_update(self, values: dict[str, float]) -> dict[str, float]:
        now = time.perf_counter()
        speed = self.work.tokens / max(now - self._since, 1e-9)
        self.work.tokens, self._since = 0, now
        values |= {"negatives": self.work.negatives, "tokens_per_second": round(speed)}
        self._log({"step": self.state.step, **values})
        return values


def _batch_size(wanted: int, examples: int) -> int:
    """Examples a batch: as many as there are at most, and a multiple of the processes."""
    world = parallel.world()
    if wanted % world:
        raise RecipeError(f"batch.size {wanted} is not divisible by the {world} processes; choose a multiple.")
    return min(wanted, examples // world * world)


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
