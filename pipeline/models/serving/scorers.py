"""Where batches are scored: in threads beside the server, or in several processes."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipeline.models.scoring import REASON, Cells, Loaded, Records

ROWS_NAMED = 10
LOADING = 600  # seconds for a new process: a large model on a busy machine must get there
Answer = Records | str  # predictions by row, or why there are none
Score = Callable[[Loaded, list[Cells]], list[Any]]
_mine: list[Loaded] = []  # a scoring process has one model


@dataclass(eq=False)
class _Worker:
    """A thread or a process that scores one batch at a time.

    Attributes:
        ready: done when it has loaded the model.
        processes: the process that it is, if it is one.
    """

    pool: Executor
    ready: Future[int]
    processes: set[BaseProcess]

    def end(self) -> None:
        """End the process, whatever it does; a thread goes on until it has done that."""
        self.pool.shutdown(wait=False)
        for process in self.processes:
            process.kill()


class Scorers:
    """A model in several workers.

    A worker that takes too long for a batch is replaced, as is one whose process was killed.

    Args:
        loaded: the model.
        workers: 1 is a thread of this process, with a second one for what takes long; more are
            processes that load the model, too.
        limit: seconds for a batch.
    """

    def __init__(self, loaded: Loaded, workers: int, limit: float):
        self._loaded, self._limit, self._in_processes = loaded, limit, workers > 1
        self._starting = threading.Lock()
        self._workers = [self._start() for _ in range(max(2, workers))]
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        for worker in self._workers:
            worker.ready.result()  # it has loaded the model
            self._idle.put_nowait(worker)

    def _start(self) -> _Worker:
        pool: Executor = ThreadPoolExecutor(1)
        if self._in_processes:
            spawn = multiprocessing.get_context("spawn")  # a fork with threads may hang
            pool = ProcessPoolExecutor(1, spawn, _begin, (self._loaded.folder,))
        with self._starting:  # so that the new process is this worker's
            before = {*multiprocessing.active_children()}
            ready = pool.submit(os.getpid)
            return _Worker(pool, ready, {*multiprocessing.active_children()} - before)

    async def score_valid(self, requests: list[Cells]) -> list[Answer | None]:
        """The answer to each request of a batch whose cells are surely valid.

        Raises:
            BrokenExecutor: the process was killed; the next batch has a new one.
            TimeoutError: it took too long.
        """
        return await self._run(answer_valid, requests)

    async def score_any(self, requests: list[Cells]) -> list[Answer]:
        """The answer to each request of a batch, whatever its cells.

        Raises:
            BrokenExecutor: the process was killed; the next batch has a new one.
            TimeoutError: it took too long.
        """
        return await self._run(answer_any, requests)

    async def _run(self, score: Score, requests: list[Cells]) -> list[Any]:
        worker = await self._idle.get()
        try:
            try:
                scored = self._submit(worker, score, requests)
            except BrokenExecutor:  # it was killed before, so the batch has done no harm
                worker = await asyncio.to_thread(self._replace, worker)
                scored = self._submit(worker, score, requests)
            async with asyncio.timeout(self._limit):
                return await scored
        except (BrokenExecutor, TimeoutError):
            worker = await asyncio.to_thread(self._replace, worker)
            raise
        finally:
            self._idle.put_nowait(worker)

    def _submit(
        self, worker: _Worker, score: Score, requests: list[Cells]
    ) -> asyncio.Future[list[Any]]:
        loaded = None if self._in_processes else self._loaded
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(worker.pool, _score, score, loaded, requests)

    def _replace(self, worker: _Worker) -> _Worker:
        """A new worker in place of one."""
        worker.end()
        if not self._in_processes:
            said = f"a batch took longer than {self._limit:g} s, and its thread can't be ended"
            print(f"warning: {said}: serve.workers=2 scores in processes", file=sys.stderr)
        new = self._start()
        self._workers[self._workers.index(worker)] = new
        # if it could not be started, or hangs while it loads, the next batch is told
        wait([new.ready], timeout=LOADING)
        return new

    def processes(self) -> list[int]:
        """The ids of the processes that score, if they are not this one."""
        return [child.pid for child in multiprocessing.active_children() if child.pid]

    def close(self) -> None:
        """End the workers, of which no request wants an answer any more."""
        for worker in self._workers:
            worker.end()


def answer_valid(loaded: Loaded, requests: list[Cells]) -> list[Answer | None]:
    """Score the requests whose cells are surely valid; none, if the model fails for one of them."""
    try:
        return [*loaded.score_valid(requests)]
    except Exception:  # the model's code may raise anything; each is told of it by answer_each
        return [None] * len(requests)


def answer_any(loaded: Loaded, requests: list[Cells]) -> list[Answer]:
    """Score requests whatever their cells, the slow way only where it has to be."""
    answers = answer_valid(loaded, requests)
    rest = [one for one, answer in zip(requests, answers, strict=True) if answer is None]
    others = iter(answer_each(loaded, rest) if rest else [])
    return [next(others) if answer is None else answer for answer in answers]


def answer_each(loaded: Loaded, requests: list[Cells]) -> list[Answer]:
    """Score requests together; alone, if the model fails for one of them."""
    try:
        return [_answer(scored) for scored in loaded.score_each(requests)]
    except Exception as error:  # the model's code may raise anything
        if len(requests) > 1:
            return [answer for one in requests for answer in answer_each(loaded, [one])]
        print(f"error: the model fails: {type(error).__name__}: {error}", file=sys.stderr)
        return [f"the model can't score these rows ({type(error).__name__})"]


def _answer(scored: Any) -> Answer:
    bad = scored[scored[REASON] != ""]
    if bad.empty:
        records: Records = scored.drop(columns=REASON).to_dict("records")
        return records
    shown = bad[REASON].head(ROWS_NAMED)
    lines = [f"row {place + 1}: {reason}" for place, reason in shown.items()]
    more = [f"and {len(bad) - ROWS_NAMED} more rows"] if len(bad) > ROWS_NAMED else []
    return "\n".join([*lines, *more])


def _begin(folder: Path) -> None:
    """Make this process a worker: it ends with the server, and by nothing that is sent to both."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _mine.append(Loaded.from_folder(folder))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(0)


def _score(score: Score, loaded: Loaded | None, requests: list[Cells]) -> list[Any]:
    return score(loaded or _mine[0], requests)
