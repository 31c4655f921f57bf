"""Time and memory of a program with all that it starts."""

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from altpo_model.errors import UserError

SAMPLED_EVERY = 0.2  # seconds


class Measured(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_bytes: int  # of all processes together, those parts that they share counted once


def measured_run(command: list[str]) -> Measured:
    """Run a command. Raises UserError with its last line when it fails."""
    started, before, peak = time.perf_counter(), os.times(), 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, sum(map(_proportional_set_size, _tree(process.pid))))
            time.sleep(SAMPLED_EVERY)
        seconds, after = time.perf_counter() - started, os.times()
        told.seek(0)
        if process.returncode:
            raise UserError(f"{command[1]} failed: {told.read().strip().splitlines()[-1]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Measured(seconds, cpu, peak)


def _tree(pid: int) -> list[int]:
    """A process and all below it."""
    children = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += map(int, path.read_text().split())
        except OSError:
            continue  # it has ended
    return [pid, *(one for child in children for one in _tree(child))]


def _proportional_set_size(pid: int) -> int:
    """Bytes of a process's memory, those that it shares divided among its sharers; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
