"""Compute together what arrives together: requests wait a few milliseconds and share one pass of the model.

One thread computes, so the model is never entered twice, and the event loop stays free to answer health checks.
"""

import asyncio
import contextlib
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from finetune.inference import Classifier, Predictions


class TooBusyError(Exception):
    """More texts are waiting than may wait."""


@dataclasses.dataclass
class _Waiting:
    texts: list[str]
    answer: asyncio.Future[Predictions]


class Batcher:
    """Gathers the texts of several requests into batches, inside `async with`.

    Args:
        classifier: computes a batch.
        max_batch: texts computed together at most (a larger single request is computed alone).
        max_waiting: texts that may wait at a time.
        wait_seconds: how long the first request of a batch waits for others.
    """

    def __init__(self, classifier: Classifier, *, max_batch: int, max_waiting: int, wait_seconds: float) -> None:
        self._classifier, self._wait_seconds = classifier, wait_seconds
        self._max_batch, self._max_waiting = max_batch, max_waiting
        self._waiting_texts = 0

    async def __aenter__(self) -> Self:
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="classifier")
        self._worker = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._worker
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def predict(self, texts: list[str]) -> Predictions:
        """Return the probabilities and labels of some texts.

        Raises:
            TooBusyError: too many texts are waiting already.
        """
        if self._waiting_texts + len(texts) > self._max_waiting:
            raise TooBusyError
        self._waiting_texts += len(texts)
        try:
            waiting = _Waiting(texts, asyncio.get_running_loop().create_future())
            await self._queue.put(waiting)
            return await waiting.answer
        finally:
            self._waiting_texts -= len(texts)

    async def _run(self) -> None:
        """Compute batches until cancelled."""
        held: _Waiting | None = None
        while True:
            batch = [held or await self._queue.get()]
            held = await self._fill(batch)
            await self._compute(batch)

    async def _fill(self, batch: list[_Waiting]) -> _Waiting | None:
        """Add to a batch what arrives in time; return a request that no longer fits."""
        size = len(batch[0].texts)
        deadline = asyncio.get_running_loop().time() + self._wait_seconds
        while size < self._max_batch:
            left = deadline - asyncio.get_running_loop().time()
            try:
                waiting = await asyncio.wait_for(self._queue.get(), max(left, 0))
            except TimeoutError:
                return None
            if size + len(waiting.texts) > self._max_batch:
                return waiting
            batch.append(waiting)
            size += len(waiting.texts)
        return None

    async def _compute(self, batch: list[_Waiting]) -> None:
        batch = [waiting for waiting in batch if not waiting.answer.done()]  # a client that left waits no more
        texts = [text for waiting in batch for text in waiting.texts]
        if not texts:
            return
        try:
            probabilities_NL, decisions_NL = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._classifier.predict, texts
            )
        except Exception as error:  # noqa: BLE001  # whatever it was, the requests that wait for it must hear of it
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        start = 0
        for waiting in batch:
            rows = slice(start, start + len(waiting.texts))
            start = rows.stop
            if not waiting.answer.done():
                waiting.answer.set_result(Predictions(probabilities_NL[rows], decisions_NL[rows]))
