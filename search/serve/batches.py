"""Requests that wait are predicted together: a batch is whatever came while the one before was computed."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

# Larger ones are no faster, and those that come meanwhile wait longer.
_MOST_IN_A_BATCH = 256
# Some seconds of work; whoever comes then had better go elsewhere.
_MOST_WAITING = 8192

# Takes uint8 (N, height, width), gives float32 (N, classes).
Predict = Callable[[np.ndarray], np.ndarray]


class Batches:
    """Predicts in one thread, on one core, what many ask for at once.

    An image that finds it idle is predicted at once. All methods belong to one event loop.

    Args:
        predict: Computes a batch.
        on_batch: Called with the number of images of each batch that is computed.
    """

    def __init__(self, predict: Predict, on_batch: Callable[[int], None]) -> None:
        self._predict = predict
        self._on_batch = on_batch
        # Threads that wait for each other at every layer cost more than they bring with a network of this size, and
        # on busy cores a hundred times more.
        self._thread = ThreadPoolExecutor(1, "predict", initializer=torch.set_num_threads, initargs=(1,))
        self._waiting: deque[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = deque()
        self._num_waiting = 0
        self._work: asyncio.Task[None] | None = None

    async def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities, float32 (N, classes), of uint8 (N, height, width) images.

        Raises:
            asyncio.QueueFull: So many images wait already that these would be answered too late.
        """
        if self._num_waiting + len(images) > _MOST_WAITING:
            raise asyncio.QueueFull
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((images, answer))
        self._num_waiting += len(images)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._compute_all())
        return await answer  # type: ignore[no-any-return]

    async def _compute_all(self) -> None:
        while self._waiting:
            taken = self._take()
            images = np.concatenate([images for images, _ in taken])
            self._on_batch(len(images))
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, images)
            except Exception as err:
                _fail(taken, err)
                continue
            start = 0
            for part, answer in taken:
                if not answer.done():  # who asked may have gone
                    answer.set_result(found[start : start + len(part)])
                start += len(part)

    def _take(self) -> list[tuple[np.ndarray, asyncio.Future[np.ndarray]]]:
        taken = [self._waiting.popleft()]
        count = len(taken[0][0])
        while self._waiting and count + len(self._waiting[0][0]) <= _MOST_IN_A_BATCH:
            taken.append(self._waiting.popleft())
            count += len(taken[-1][0])
        self._num_waiting -= count
        return taken


def _fail(taken: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]], err: Exception) -> None:
    for _, answer in taken:
        if not answer.done():
            answer.set_exception(err)
