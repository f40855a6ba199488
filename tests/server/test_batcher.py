"""Micro-batching: what shares a batch, who waits for whom, and what happens when it is too much."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from retriever.server.batcher import Batcher, OverloadedError


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers; ``gate`` holds its thread, ``seen`` tells its batches."""

    name: str = ""
    gate: threading.Event = field(default_factory=threading.Event, compare=False)
    seen: list = field(default_factory=list, compare=False)

    def run(self, inputs):
        self.gate.wait(10)
        self.seen.append((self.name, list(inputs)))
        if "bad" in inputs:
            raise ValueError("bad")
        return [2 * one for one in inputs]


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 20))


async def settled():
    """Let everything that can run now run."""
    for _ in range(20):
        await asyncio.sleep(0.001)


def test_what_queues_while_a_batch_runs_is_the_next_batch():
    async def scenario():
        task = Doubling()
        async with Batcher("w", size=3) as batcher:
            requests = [asyncio.create_task(batcher.submit(task, [0]))]
            await settled()
            requests += [asyncio.create_task(batcher.submit(task, [number])) for number in range(1, 6)]
            await settled()
            assert batcher.waiting == 5
            task.gate.set()
            assert await asyncio.gather(*requests) == [[2 * number] for number in range(6)]
            assert batcher.waiting == 0
        assert [inputs for _, inputs in task.seen] == [[0], [1, 2, 3], [4, 5]]

    run(scenario())


def test_unequal_tasks_share_no_batch_and_take_turns():
    async def scenario():
        gate, seen = threading.Event(), []
        one, other = Doubling("one", gate, seen), Doubling("other", gate, seen)
        async with Batcher("w", size=2) as batcher:
            first = asyncio.create_task(batcher.submit(one, [0]))
            await settled()
            long = asyncio.create_task(batcher.submit(one, [1, 2, 3, 4, 5]))
            await settled()
            short = asyncio.create_task(batcher.submit(other, [6]))
            await settled()
            gate.set()
            assert await asyncio.gather(first, long, short) == [[0], [2, 4, 6, 8, 10], [12]]
        assert seen == [("one", [0]), ("one", [1, 2]), ("other", [6]), ("one", [3, 4]), ("one", [5])]

    run(scenario())


def test_equal_tasks_of_different_requests_are_one():
    async def scenario():
        gate, seen = threading.Event(), []
        async with Batcher("w") as batcher:
            requests = [asyncio.create_task(batcher.submit(Doubling("x", gate, seen), [n])) for n in range(4)]
            await settled()
            gate.set()
            await asyncio.gather(*requests)
        assert sorted(len(inputs) for _, inputs in seen) in ([4], [1, 3])

    run(scenario())


def test_a_full_queue_refuses_at_once_and_takes_again_when_it_is_empty():
    async def scenario():
        task = Doubling()
        async with Batcher("w", room=4) as batcher:
            first = asyncio.create_task(batcher.submit(task, [0]))
            await settled()
            waiting = asyncio.create_task(batcher.submit(task, [1, 2, 3]))
            await settled()
            with pytest.raises(OverloadedError):
                await batcher.submit(task, [4, 5])
            fits = asyncio.create_task(batcher.submit(task, [4]))
            await settled()
            task.gate.set()
            assert await asyncio.gather(first, waiting, fits) == [[0], [2, 4, 6], [8]]
            assert await batcher.submit(task, list(range(9))) == list(range(0, 18, 2))  # alone, larger than the room

    run(scenario())


def test_a_bad_request_fails_alone():
    async def scenario():
        task = Doubling()
        async with Batcher("w") as batcher:
            first = asyncio.create_task(batcher.submit(task, [0]))
            await settled()
            requests = [asyncio.create_task(batcher.submit(task, [one])) for one in (1, "bad", 3)]
            await settled()
            task.gate.set()
            good, bad, also = await asyncio.gather(*requests, return_exceptions=True)
            assert (await first, good, also) == ([0], [2], [6]) and isinstance(bad, ValueError)
        assert [inputs for _, inputs in task.seen] == [[0], [1, "bad", 3], [1], ["bad"], [3]]

    run(scenario())


def test_what_remains_of_a_request_is_given_up_where_a_part_of_it_fails(caplog):
    async def scenario():
        task = Doubling()
        task.gate.set()
        async with Batcher("w", size=2) as batcher:
            long = asyncio.create_task(batcher.submit(task, [1, 2, "bad", 3, 4, 5, 6, 7]))
            with pytest.raises(ValueError, match="bad"):
                await long
            await settled()
            assert batcher.waiting == 0
            assert await batcher.submit(task, [8, 9, 10]) == [16, 18, 20]
        assert [inputs for _, inputs in task.seen] == [[1, 2], ["bad", 3], [8, 9], [10]]

    run(scenario())
    assert not caplog.records


def test_another_request_in_a_failed_batch_is_answered_and_the_rest_of_the_bad_one_given_up():
    async def scenario():
        task = Doubling()
        async with Batcher("w", size=2) as batcher:
            first = asyncio.create_task(batcher.submit(task, [0]))
            await settled()
            requests = [asyncio.create_task(batcher.submit(task, some)) for some in ([1, 2, "bad"], [3], [4, 5])]
            await settled()
            task.gate.set()
            bad, *good = await asyncio.gather(*requests, return_exceptions=True)
            assert (await first, good) == ([0], [[6], [8, 10]]) and isinstance(bad, ValueError)
        assert [inputs for _, inputs in task.seen] == [[0], [1, 2], ["bad", 3], ["bad"], [3], [4, 5]]

    run(scenario())


@pytest.mark.parametrize("inputs", [[1], [1, 2, 3, 4, 5]])
def test_a_request_whose_caller_has_gone_is_not_begun(inputs):
    async def scenario():
        task = Doubling()
        async with Batcher("w", size=2) as batcher:
            running = asyncio.create_task(batcher.submit(task, [0]))
            await settled()
            gone = asyncio.create_task(batcher.submit(task, inputs))
            await settled()
            gone.cancel()
            staying = asyncio.create_task(batcher.submit(task, [9]))
            await settled()
            task.gate.set()
            assert await asyncio.gather(running, staying) == [[0], [18]]
            assert gone.cancelled() and batcher.waiting == 0
        assert [some for _, some in task.seen] == [[0], [9]]

    run(scenario())


def test_a_batch_that_runs_is_finished_though_one_of_its_callers_has_gone():
    async def scenario():
        gate = threading.Event()
        first, task = Doubling("first", gate, []), Doubling("second")
        async with Batcher("w") as batcher:
            blocking = asyncio.create_task(batcher.submit(first, [0]))
            await settled()
            requests = [asyncio.create_task(batcher.submit(task, [number])) for number in (1, 2, 3)]
            await settled()
            gate.set()
            await blocking
            await settled()
            requests[1].cancel()
            task.gate.set()
            answers = await asyncio.gather(*requests, return_exceptions=True)
            assert answers[::2] == [[2], [6]] and isinstance(answers[1], asyncio.CancelledError)
        assert [inputs for _, inputs in task.seen] == [[1, 2, 3]]

    run(scenario())


def test_a_request_that_takes_too_long_is_given_up_and_not_run():
    async def scenario():
        task = Doubling()
        async with Batcher("w", timeout=0.2) as batcher:
            running = asyncio.create_task(batcher.submit(task, [0]))
            await settled()
            waiting = asyncio.create_task(batcher.submit(task, [1]))
            outcomes = await asyncio.gather(running, waiting, return_exceptions=True)
            assert all(isinstance(outcome, TimeoutError) for outcome in outcomes)
            task.gate.set()
            assert await batcher.submit(task, [2]) == [4]
            assert batcher.waiting == 0
        assert [inputs for _, inputs in task.seen] == [[0], [2]]

    run(scenario())


def test_closing_finishes_what_was_accepted_and_takes_nothing_new():
    async def scenario():
        task = Doubling()
        batcher = Batcher("w", size=1)
        assert not batcher.is_running
        async with batcher:
            assert batcher.is_running
            requests = [asyncio.create_task(batcher.submit(task, [number])) for number in range(5)]
            await settled()
            threading.Timer(0.05, task.gate.set).start()
        assert not batcher.is_running
        assert await asyncio.gather(*requests) == [[2 * number] for number in range(5)]
        with pytest.raises(OverloadedError):
            await batcher.submit(task, [1])

    run(scenario())


def test_the_observer_is_told_of_every_batch_and_the_thread_is_prepared_once():
    async def scenario():
        told, prepared, task = [], [], Doubling()
        task.gate.set()
        note = lambda size, waits: told.append((size, len(waits)))  # noqa: E731
        prepare = lambda: prepared.append(threading.current_thread().name)  # noqa: E731
        async with Batcher("worker", prepare=prepare, observe=note) as batcher:
            await batcher.submit(task, [1, 2])
            await batcher.submit(task, [3])
        assert told == [(2, 1), (1, 1)] and len(prepared) == 1 and prepared[0].startswith("worker")

    run(scenario())
