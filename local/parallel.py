"""One function over many items, on a pool or in this process."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
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

    With an ``executor`` (any `concurrent.futures.Executor`, a Dask client's too) the work goes there; otherwise to
    ``num_jobs`` processes, and with one job it stays in this process. ``function`` must be importable by name.
    Raises UserError when a process dies.
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
    # Submitted before there is a progress bar: the bar has a thread, and a pool should fork from one thread alone.
    starts = {executor.submit(_apply, function, items[i : i + size]): i for i in range(0, len(items), size)}
    results: list[Any] = [None] * len(items)
    with tqdm(total=len(items), desc=description, mininterval=5, disable=not items) as bar:
        for future in as_completed(starts):
            try:
                batch = future.result()
            except BrokenProcessPool:
                raise UserError(
                    f"{description}: a worker process died (no memory left?); run again, if need be with --set jobs=1"
                ) from None
            results[starts[future] : starts[future] + len(batch)] = batch
            bar.update(len(batch))
    return results


def _apply(function: Callable, batch: list) -> list:
    return [function(item) for item in batch]
