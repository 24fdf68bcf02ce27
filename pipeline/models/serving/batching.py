"""Adaptive micro-batching: requests that wait at the same time are scored together.

Scoring fifty rows takes hardly longer than scoring one. While a batch is scored, new requests form
the next batch. A request that meets an idle worker starts at once; there is no timer. Clipper
(Crankshaw et al., NSDI 2017), BentoML and Ray Serve work in a similar way.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Groups items into batches for a function that processes several at once.

    Args:
        run: takes a list of items and returns a result for each, in order.
        size: the size of an item, such as its rows.
        max_size: the maximum size of a batch; a larger item is a batch of its own.
        lanes: how many batches run at once.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[list[Result]]],
        size: Callable[[Item], int],
        max_size: int,
        lanes: int,
    ):
        self._run, self._size, self._max_size, self._idle = run, size, max_size, lanes
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._batches: set[asyncio.Task[None]] = set()  # asyncio keeps weak references only

    async def __call__(self, item: Item) -> Result:
        """The result for an item; the item of a cancelled caller leaves the queue."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._start()
        return await future

    def _start(self) -> None:
        while self._idle and (batch := self._next()):
            self._idle -= 1
            task = asyncio.create_task(self._finish(batch))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch, size = [], 0
        while self._waiting:
            item, future = self._waiting[0]
            size += self._size(item)
            if batch and size > self._max_size:
                break
            self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _finish(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        finally:
            self._idle += 1
            self._start()
