"""How the C library treats the memory of freed tensors during training on a CPU."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> None:
    """Have the C library keep the memory of freed tensors for the next ones; needs glibc, elsewhere nothing changes.

    By default each large block goes back to the system, which must find and clear its pages anew for the next tensor. A
    training step makes hundreds of tensors of some 50 MB and spends up to half of its time on that
    (tests/benchmarks/train.py). Call it before the first tensors; the peak is what the process then keeps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
