"""Micro-batching: requests that wait at the same time are computed together.

1. A request hands in a task and the inputs it is to run on, and waits without blocking the others.
2. One worker thread runs one batch at a time. When it is free, it takes what has queued meanwhile: nobody waits for a
   batch to fill, and batches grow by themselves under load.
3. A batch holds inputs of equal tasks, up to ``size``. Unequal tasks take turns, so that a long list of texts to embed
   does not hold up the searches behind it.
4. At most ``room`` inputs wait; a request that would exceed it is refused at once.
5. A batch that fails is run again request by request, so that a bad request fails alone. Where one batch of a request
   that was cut into several fails, the request fails, and the others are given up.
6. A request that is not answered in time is given up, and left out if it has not begun.
7. Closing takes no new requests and finishes what was accepted.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Task(Protocol[In, Out]):
    """Work on inputs, one output each; tasks that are equal and hash alike may share a batch."""

    def run(self, inputs: Sequence[In]) -> Sequence[Out]:
        """Do the work; called in a worker thread."""


class OverloadedError(Exception):
    """Too many inputs wait already, or the server is going down."""


Observer = Callable[[int, Sequence[float]], None]
"""Told of each batch: how many inputs it held, and how many seconds each of its requests had waited."""


@dataclass(eq=False)
class _Job:
    inputs: Sequence[Any]
    answer: asyncio.Future[Sequence[Any]]
    answers: Sequence[asyncio.Future[Sequence[Any]]]  # of the whole request, which may be several jobs
    since: float


class Batcher:
    """A worker thread and the queue before it; used as an async context manager.

    Args:
        name: Of the thread.
        size: Inputs of a batch; requests of more are cut into several.
        room: Inputs that may wait.
        timeout: Seconds until a request is given up.
        prepare: Called once in the worker thread.
        observe: Told of each batch.
    """

    def __init__(
        self,
        name: str,
        *,
        size: int = 64,
        room: int = 512,
        timeout: float = 30.0,
        prepare: Callable[[], None] = lambda: None,
        observe: Observer = lambda size, waits: None,
    ) -> None:
        self.waiting = 0  # inputs
        self._size, self._room, self._timeout, self._observe = size, room, timeout, observe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=prepare)
        self._queue: OrderedDict[Task[Any, Any], deque[_Job]] = OrderedDict()
        self._some = asyncio.Event()
        self._closing = False
        self._pumping: asyncio.Task[None] | None = None

    async def submit(self, task: Task[In, Out], inputs: Sequence[In]) -> list[Out]:
        """Run a task on inputs, together with those of other requests.

        Raises:
            OverloadedError: The queue is full.
            TimeoutError: There was no answer in time.
            Exception: Whatever the task raises.
        """
        if self._closing or (self.waiting and self.waiting + len(inputs) > self._room):
            raise OverloadedError
        loop = asyncio.get_running_loop()
        starts = range(0, len(inputs), self._size)
        answers: list[asyncio.Future[Sequence[Any]]] = [loop.create_future() for _ in starts]
        now = time.perf_counter()
        jobs = (
            _Job(inputs[start : start + self._size], answer, answers, now)
            for start, answer in zip(starts, answers, strict=True)
        )
        late = loop.call_later(self._timeout, _give_up, answers, TimeoutError())
        self._queue.setdefault(task, deque()).extend(jobs)
        self.waiting += len(inputs)
        self._some.set()
        try:
            if len(answers) == 1:
                return list(await answers[0])
            return [output for outputs in await asyncio.gather(*answers) for output in outputs]
        finally:
            late.cancel()

    @property
    def is_running(self) -> bool:
        """Whether requests are taken."""
        return self._pumping is not None and not self._pumping.done() and not self._closing

    async def __aenter__(self) -> Batcher:
        self._pumping = asyncio.create_task(self._pump())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._some.set()
        if self._pumping is not None:
            await self._pumping
        self._thread.shutdown()

    async def _pump(self) -> None:
        while self._queue or not self._closing:
            if self._queue:
                task, jobs = self._take()
                if jobs:
                    now = time.perf_counter()
                    self._observe(sum(len(job.inputs) for job in jobs), [now - job.since for job in jobs])
                    await self._run(task, jobs)
            else:
                self._some.clear()
                await self._some.wait()

    def _take(self) -> tuple[Task[Any, Any], list[_Job]]:
        """The next batch: jobs of the task whose turn it is, without those given up."""
        task, queued = self._queue.popitem(last=False)
        jobs: list[_Job] = []
        count = 0
        while queued and (not jobs or count + len(queued[0].inputs) <= self._size):
            job = queued.popleft()
            self.waiting -= len(job.inputs)
            if not job.answer.done():
                jobs.append(job)
                count += len(job.inputs)
        if queued:
            self._queue[task] = queued  # at the end: the other tasks have their turn first
        return task, jobs

    async def _run(self, task: Task[Any, Any], jobs: Sequence[_Job]) -> None:
        inputs = [one for job in jobs for one in job.inputs]
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(self._thread, task.run, inputs)
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    await self._run(task, [job])
            else:
                _give_up(jobs[0].answers, error)
            return
        start = 0
        for job in jobs:
            stop = start + len(job.inputs)
            if not job.answer.done():
                job.answer.set_result(outputs[start:stop])
            start = stop


def _give_up(answers: Sequence[asyncio.Future[Sequence[Any]]], error: Exception) -> None:
    """Tell who waits why there is no answer."""
    for answer in answers:
        if not answer.done():
            answer.set_exception(error)
