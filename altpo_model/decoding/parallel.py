"""Decoding in several processes."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

_UTTERANCES_A_PROCESS = 20  # fewer are decoded in less time than it takes to start a process


def decode_in_processes(decode: Callable[[np.ndarray], Any], batch: Sequence[np.ndarray], jobs: int) -> list:
    """``decode`` of each utterance of ``batch``, in their order, by at most ``jobs`` processes.

    The searches hold Python's global lock, so threads would take turns. The processes are forked: they share what
    ``decode`` holds (a lexicon, a graph) with this one, and nothing is loaded or copied for them.
    """
    jobs = min(jobs, len(batch) // _UTTERANCES_A_PROCESS)
    if jobs < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return [decode(log_probs) for log_probs in batch]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_adopt, initargs=(decode,)) as pool:
        return list(pool.map(_decode, batch, chunksize=max(1, len(batch) // (4 * jobs))))


_adopted: Callable[[np.ndarray], Any]  # of a forked process


def _adopt(decode: Callable[[np.ndarray], Any]) -> None:
    global _adopted
    _adopted = decode


def _decode(log_probs: np.ndarray) -> Any:
    return _adopted(log_probs)
