"""One function over many items, on a pool, on a cluster or in this process.

The workers of a cluster import this folder's modules: start them with ``PYTHONPATH=<repository>:<repository>/local``.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from typing import Any

from tqdm import tqdm

from altpo_model.errors import UserError

_TASKS_A_WORKER = 16  # few enough that a task's cost is small, enough that the workers finish together


def parallel_map(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    description: str,
    num_jobs: int = 1,
    executor: Executor | None = None,
) -> list[Any]:
    """``[function(item) for item in items]`` with a progress bar.

    With an ``executor`` (any `concurrent.futures.Executor`, a Dask client's too) the work goes there, in batches for
    ``num_jobs`` workers; otherwise to ``num_jobs`` processes, and with one job it stays in this process. ``function``
    must be importable by name.
    Raises UserError when a worker dies or the executor is shut down.
    """
    items = list(items)
    if executor is not None:
        return _submit(executor, function, items, description, num_jobs)
    if num_jobs > 1 and len(items) > 1:
        with ProcessPoolExecutor(num_jobs) as pool:
            return _submit(pool, function, items, description, num_jobs)
    return [function(item) for item in tqdm(items, desc=description, mininterval=5, disable=not items)]


def _submit(executor: Executor, function: Callable, items: list, description: str, num_jobs: int) -> list:
    size = max(1, len(items) // (max(num_jobs, 1) * _TASKS_A_WORKER))
    starts: dict[Future, int] = {}
    results: list[Any] = [None] * len(items)
    try:
        # Submitted before there is a progress bar: the bar has a thread, and a pool should fork from one thread alone.
        for i in range(0, len(items), size):
            starts[executor.submit(_apply, function, items[i : i + size])] = i
        with tqdm(total=len(items), desc=description, mininterval=5, disable=not items) as bar:
            for future in as_completed(starts):
                batch = future.result()
                results[starts[future] : starts[future] + len(batch)] = batch
                bar.update(len(batch))
    except Exception as error:
        if _is_lost_worker(error):
            raise UserError(
                f"{description}: a worker died (no memory left?); run again, if need be with --set jobs=1"
            ) from None
        raise
    finally:
        for future in starts:
            future.cancel()
    return results


def _is_lost_worker(error: Exception) -> bool:
    # Dask's own error goes by its name: Dask is no requirement of the recipe.
    return isinstance(error, (BrokenExecutor, CancelledError)) or type(error).__name__ == "KilledWorker"


def _apply(function: Callable, batch: list) -> list:
    return [function(item) for item in batch]
