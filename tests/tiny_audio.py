"""Sine tones on disk, whole and broken, for the tests' own small corpora."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parent.parent


def write_sine(path: Path, seconds: float, rate: int = 16000, channels: int = 1, frequency: float = 440.0) -> Path:
    """A tone with a little noise, so that a lossless file is not tiny. The format is the suffix's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(size=(len(time), channels))
    tone = 0.3 * np.sin(2 * np.pi * frequency * time)[:, None] + 0.02 * noise
    soundfile.write(path, tone.astype(np.float32), rate)
    return path


def truncate(path: Path, share: float = 0.6) -> Path:
    """Cut a file off after a share of its bytes; the header still promises the full length."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def write_conf(folder: Path, tree: dict) -> Path:
    """A conf file (JSON is YAML) with no corpus but those in ``tree``."""
    corpora = {**dict.fromkeys(("librispeech", "dali", "rwc", "jamendo")), **tree.pop("corpora", {})}
    path = folder / "tiny.yaml"
    path.write_text(json.dumps({"data_dir": str(folder / "data"), "jobs": 1, "corpora": corpora, **tree}))
    return path


def run_program(name: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run ``local/<name>.py`` as a user does."""
    command = [sys.executable, str(ROOT / "local" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def assert_one_clear_line(done: subprocess.CompletedProcess, *words: str) -> None:
    """The program failed with one line for the user that has ``words`` in it."""
    lines = [line for line in done.stderr.splitlines() if line and "|" not in line]  # progress bars apart
    assert done.returncode == 1 and len(lines) == 1, done.stderr
    if missing := [word for word in words if word not in lines[0]]:
        pytest.fail(f"{missing} not in: {lines[0]}")
