"""Where batches are scored: in a thread beside the server, or in several processes."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.models.scoring import REASON, Cells, Loaded, Records

ROWS_NAMED = 10
Answer = Records | str  # predictions by row, or why there are none
_mine: list[Loaded] = []  # a scoring process has one model


class Scorers:
    """A model in several workers.

    Args:
        loaded: the model.
        workers: 1 is a thread of this process; more are processes that load the model, too.
    """

    def __init__(self, loaded: Loaded, workers: int):
        self._loaded, self._workers = loaded, workers
        self._starting = asyncio.Lock()
        self._pool = self._start()

    def _start(self) -> Executor:
        if self._workers == 1:
            return ThreadPoolExecutor(2)  # the second is for rows that are in question
        spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        arguments = (self._loaded.folder,)
        pool = ProcessPoolExecutor(self._workers, spawn, _begin, arguments)
        pool.submit(os.getpid).result()  # all are started now, and this one has loaded the model
        return pool

    async def score_valid(self, requests: list[Cells]) -> list[Answer | None]:
        """The answer to each request of a batch whose cells are surely valid.

        Raises:
            BrokenExecutor: a process was killed; the next batch has new ones.
        """
        return await self._run(answer_valid, requests)

    async def score_each(self, requests: list[Cells]) -> list[Answer]:
        """The answer to each request of a batch, whatever its cells.

        Raises:
            BrokenExecutor: a process was killed; the next batch has new ones.
        """
        return await self._run(answer_each, requests)

    async def _run(
        self, score: Callable[[Loaded, list[Cells]], list[Any]], requests: list[Cells]
    ) -> list[Any]:
        loop, pool = asyncio.get_running_loop(), self._pool
        if self._workers == 1:
            return await loop.run_in_executor(pool, score, self._loaded, requests)
        try:
            return await loop.run_in_executor(pool, _with_mine, score, requests)
        except RuntimeError:  # BrokenExecutor is one
            async with self._starting:
                if pool is self._pool:
                    self._pool = await asyncio.to_thread(self._start)
            raise

    def processes(self) -> list[int]:
        """The ids of the processes that score, if they are not this one."""
        return [child.pid for child in multiprocessing.active_children() if child.pid]

    def close(self) -> None:
        """End the workers once they have scored what was given to them."""
        self._pool.shutdown(wait=False)


def answer_valid(loaded: Loaded, requests: list[Cells]) -> list[Answer | None]:
    """Score the requests whose cells are surely valid; none, if the model fails for one of them."""
    try:
        return [*loaded.score_valid(requests)]
    except Exception:  # the model's code may raise anything; each is told of it by answer_each
        return [None] * len(requests)


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


def _with_mine(
    score: Callable[[Loaded, list[Cells]], list[Any]], requests: list[Cells]
) -> list[Any]:
    return score(_mine[0], requests)
