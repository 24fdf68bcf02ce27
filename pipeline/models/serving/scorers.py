"""Workers that score batches: threads of the server, or processes."""

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

from pipeline.models.scoring import REASON, Cells, LoadedModel, Records

ROWS_NAMED = 10
LOAD_TIMEOUT = 600  # seconds for a new worker to load the model, even a large one on a busy machine
Answer = Records | str  # the predictions of a request's rows, or a message why there are none
Score = Callable[[LoadedModel, list[Cells]], list[Any]]
_models: list[LoadedModel] = []  # in a worker process, its model


@dataclass(eq=False)
class _Worker:
    """A thread or a process that scores one batch at a time.

    Attributes:
        pool: an executor with one worker.
        ready: done when the model is loaded.
        processes: the worker's process; empty for a thread.
    """

    pool: Executor
    ready: Future[int]
    processes: set[BaseProcess]

    def end(self) -> None:
        """Kill the process; a thread first completes its batch."""
        self.pool.shutdown(wait=False)
        for process in self.processes:
            process.kill()


class Scorers:
    """A model in several workers.

    A worker that exceeds the time limit of a batch is replaced, and so is a killed process.

    Args:
        loaded: the model.
        workers: 1 uses threads of this process: one, and another for slow requests. More are
            processes, each with its own copy of the model.
        limit: seconds for a batch.
    """

    def __init__(self, loaded: LoadedModel, workers: int, limit: float):
        self._loaded, self._limit, self._in_processes = loaded, limit, workers > 1
        self._starting = threading.Lock()
        self._workers = [self._start() for _ in range(max(2, workers))]
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        for worker in self._workers:
            worker.ready.result()
            self._idle.put_nowait(worker)

    def _start(self) -> _Worker:
        pool: Executor = ThreadPoolExecutor(1)
        if self._in_processes:
            spawn = multiprocessing.get_context("spawn")  # a fork with threads may hang
            pool = ProcessPoolExecutor(1, spawn, _initialize, (self._loaded.folder,))
        with self._starting:  # so that the only new process is this worker's
            before = {*multiprocessing.active_children()}
            ready = pool.submit(os.getpid)
            return _Worker(pool, ready, {*multiprocessing.active_children()} - before)

    async def score_valid(self, requests: list[Cells]) -> list[Answer | None]:
        """Answer the requests whose cells are all certainly valid; None for the others.

        Raises:
            BrokenExecutor: the process was killed; it has been replaced.
            TimeoutError: the batch exceeded its limit.
        """
        return await self._run(answer_valid, requests)

    async def score_any(self, requests: list[Cells]) -> list[Answer]:
        """Answer all requests of a batch.

        Raises:
            BrokenExecutor: the process was killed; it has been replaced.
            TimeoutError: the batch exceeded its limit.
        """
        return await self._run(answer_any, requests)

    async def _run(self, score: Score, requests: list[Cells]) -> list[Any]:
        worker = await self._idle.get()
        try:
            try:
                scored = self._submit(worker, score, requests)
            except BrokenExecutor:  # the process was killed before this batch: retry
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
        """Start a new worker in place of another."""
        worker.end()
        if not self._in_processes:
            problem = f"a batch took longer than {self._limit:g} s, and its thread can't be ended"
            print(f"warning: {problem}: serve.workers=2 scores in processes", file=sys.stderr)
        new = self._start()
        self._workers[self._workers.index(worker)] = new
        # if it does not start, or hangs while it loads, the next batch fails
        wait([new.ready], timeout=LOAD_TIMEOUT)
        return new

    def processes(self) -> list[int]:
        """The ids of the worker processes; empty for threads."""
        return [child.pid for child in multiprocessing.active_children() if child.pid]

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.end()


def answer_valid(loaded: LoadedModel, requests: list[Cells]) -> list[Answer | None]:
    """Answer the requests whose cells are all certainly valid; none if the model fails."""
    try:
        return [*loaded.score_valid(requests)]
    except Exception:  # the model's code may raise anything; answer_each reports it
        return [None] * len(requests)


def answer_any(loaded: LoadedModel, requests: list[Cells]) -> list[Answer]:
    """Answer all requests; those that the fast path can't answer take the slow path."""
    answers = answer_valid(loaded, requests)
    unanswered = [cells for cells, answer in zip(requests, answers, strict=True) if answer is None]
    remaining = iter(answer_each(loaded, unanswered) if unanswered else [])
    return [next(remaining) if answer is None else answer for answer in answers]


def answer_each(loaded: LoadedModel, requests: list[Cells]) -> list[Answer]:
    """Answer requests on the slow path together; each alone if the model fails."""
    try:
        return [_answer(scored) for scored in loaded.score_each(requests)]
    except Exception as error:  # the model's code may raise anything
        if len(requests) > 1:
            return [answer for cells in requests for answer in answer_each(loaded, [cells])]
        print(f"error: the model fails: {type(error).__name__}: {error}", file=sys.stderr)
        return [f"the model can't score these rows ({type(error).__name__})"]


def _answer(scored: Any) -> Answer:
    failed = scored[scored[REASON] != ""]
    if failed.empty:
        records: Records = scored.drop(columns=REASON).to_dict("records")
        return records
    reasons = failed[REASON].head(ROWS_NAMED)
    lines = [f"row {index + 1}: {reason}" for index, reason in reasons.items()]
    omitted = [f"and {len(failed) - ROWS_NAMED} more rows"] if len(failed) > ROWS_NAMED else []
    return "\n".join([*lines, *omitted])


def _initialize(folder: Path) -> None:
    """Initialize a worker process: ignore signals, end with the server, and load the model."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _models.append(LoadedModel.from_folder(folder))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(0)


def _score(score: Score, loaded: LoadedModel | None, requests: list[Cells]) -> list[Any]:
    return score(loaded or _models[0], requests)
