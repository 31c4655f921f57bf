"""One function over many items, on a pool, on a cluster or in this process.

The workers of a cluster import this folder's modules: start them with ``PYTHONPATH=<repository>:<repository>/local``.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from typing import Any

from tqdm import tqdm

from altpo_model.errors import UserError

_TASKS_A_WORKER = 64  # few enough that a task's cost is small, enough that the workers finish together


def parallel_map(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    description: str,
    num_jobs: int = 1,
    executor: Executor | None = None,
) -> Iterator[Any]:
    """``function(item)`` of each item, in the items' order, as they are done, with a progress bar.

    With an ``executor`` (any `concurrent.futures.Executor`, a Dask client's too) the work goes there, in batches for
    ``num_jobs`` workers; otherwise to ``num_jobs`` processes, and with one job it stays in this process. ``function``
    must be importable by name. A result is forgotten when it has been handed out, so that who writes them one by one
    does not hold them all.
    Raises UserError when a worker dies or the executor is shut down.
    """
    items = list(items)
    if executor is not None:
        yield from _submitted(executor, function, items, description, num_jobs)
    elif num_jobs > 1 and len(items) > 1:
        with ProcessPoolExecutor(num_jobs) as pool:
            yield from _submitted(pool, function, items, description, num_jobs)
    else:
        yield from map(function, tqdm(items, desc=description, mininterval=5, disable=not items))


def _submitted(executor: Executor, function: Callable, items: list, description: str, num_jobs: int) -> Iterator[Any]:
    size = max(1, len(items) // (max(num_jobs, 1) * _TASKS_A_WORKER))
    futures: deque[Future] = deque()
    try:
        # Submitted before there is a progress bar: the bar has a thread, and a pool should fork from one thread alone.
        for i in range(0, len(items), size):
            futures.append(executor.submit(_apply, function, items[i : i + size]))
        with tqdm(total=len(items), desc=description, mininterval=5, disable=not items) as bar:
            while futures:
                batch = futures[0].result()
                futures.popleft()
                yield from batch
                bar.update(len(batch))
    except Exception as error:
        if _is_lost_worker(error):
            raise UserError(
                f"{description}: a worker died (no memory left?); run again, if need be with --set jobs=1"
            ) from None
        raise
    finally:
        for future in futures:
            future.cancel()


def _is_lost_worker(error: Exception) -> bool:
    # Dask's own error goes by its name: Dask is no requirement of the recipe.
    return isinstance(error, (BrokenExecutor, CancelledError)) or type(error).__name__ == "KilledWorker"


def _apply(function: Callable, batch: list) -> list:
    return [function(item) for item in batch]
