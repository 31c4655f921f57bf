"""One function over many items, on a pool or in this process."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from typing import Any

from tqdm import tqdm

_TASKS_A_WORKER = 16  # few enough that a task's cost is small, enough that the workers finish together


def parallel_map(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    description: str,
    num_jobs: int = 1,
    executor: Executor | None = None,
) -> list[Any]:
    """``[function(item) for item in items]`` with a progress bar.

    With an ``executor`` (any `concurrent.futures.Executor`, a Dask client's too) the work goes there; otherwise to
    ``num_jobs`` processes, and with one job it stays in this process. ``function`` must be importable by name.
    """
    items = list(items)
    with tqdm(total=len(items), desc=description, mininterval=5, disable=not items) as bar:
        if executor is None and (num_jobs <= 1 or len(items) < 2):
            results = []
            for item in items:
                results.append(function(item))
                bar.update()
            return results
        if executor is not None:
            return _submit(executor, function, items, num_jobs, bar)
        with ProcessPoolExecutor(num_jobs) as pool:
            return _submit(pool, function, items, num_jobs, bar)


def _submit(executor: Executor, function: Callable, items: list, num_jobs: int, bar: tqdm) -> list:
    size = max(1, len(items) // (max(num_jobs, 1) * _TASKS_A_WORKER))
    starts = {executor.submit(_apply, function, items[i : i + size]): i for i in range(0, len(items), size)}
    results: list[Any] = [None] * len(items)
    for future in as_completed(starts):
        batch = future.result()
        results[starts[future] : starts[future] + len(batch)] = batch
        bar.update(len(batch))
    return results


def _apply(function: Callable, batch: list) -> list:
    return [function(item) for item in batch]
