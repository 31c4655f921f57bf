"""Decoding in several processes."""

import gc
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

_UTTERANCES_A_PROCESS = 20  # fewer are decoded in less time than it takes to start a process
_PARTS_A_PROCESS = 4  # so that none waits long for the last


def decode_in_processes(decode: Callable[[np.ndarray], Any], batch: Sequence[np.ndarray], jobs: int) -> list:
    """``decode`` of each utterance of ``batch``, in their order, by at most ``jobs`` processes.

    The searches hold Python's global lock, so threads would take turns. The processes are forked: they share what
    ``decode`` holds (a lexicon, a graph) and the batch with this one, and nothing is loaded or copied for them.
    """
    jobs = min(jobs, len(batch) // _UTTERANCES_A_PROCESS)
    if jobs < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return [decode(log_probs) for log_probs in batch]
    context = multiprocessing.get_context("fork")
    parts = [range(start, len(batch), _PARTS_A_PROCESS * jobs) for start in range(_PARTS_A_PROCESS * jobs)]
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_adopt, initargs=(decode, batch)) as pool:
        found = dict(pair for part in pool.map(_decode, parts) for pair in part)
    return [found[index] for index in range(len(batch))]


_adopted: tuple[Callable[[np.ndarray], Any], Sequence[np.ndarray]]  # of a forked process


def _adopt(decode: Callable[[np.ndarray], Any], batch: Sequence[np.ndarray]) -> None:
    global _adopted
    _adopted = decode, batch
    gc.disable()  # decoding leaves no cycles, and a collection would touch, so copy, the memory that is shared


def _decode(indices: range) -> list[tuple[int, Any]]:
    decode, batch = _adopted
    return [(index, decode(batch[index])) for index in indices]
