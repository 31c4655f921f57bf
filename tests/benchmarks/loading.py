"""How fast training batches of songs come from FLAC, with no training behind: one data loading process.

    python tests/benchmarks/loading.py [--songs 20] [--batches 30] [--rounds 5]

Makes songs of 240 s (two 16 kHz mono FLAC files each: vocals of tones and noise, and a mixture of them with more
noise), cuts them into segments of 16 s with 30 words and 50 notes, and draws batches of 16 from the training loader
(``workers`` 1): sampling, reading and decoding, targets, and the way from the loading process to the main one. A second
of a segment counts once, though two signals are read for it. CPU is user and system time of both processes together,
from making the loader to its end, the start of the loading process included; a busy machine changes it little.

The other row reads the same number of segments by soundfile alone, both signals, in one process: what no loader can
beat. The rows are measured in turn; printed are medians over the rounds, and the loader's speed over soundfile's in
the same round. The target is 500 s of audio a second of CPU.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from altpo_model.config import Training
from altpo_model.errors import exits_cleanly
from altpo_model.tokens import CharTokens
from recipe.data import SegmentDataset, training_loader

RATE = 16000
SONG_SECONDS, SEGMENT_SECONDS = 240, 16
WORDS, NOTES = 30, 50


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=20)
    parser.add_argument("--batches", type=int, default=30, help="of 16 segments, in each round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="altpo-loading-") as folder:
        path = Path(folder) / "cuts.jsonl.gz"
        CutSet.from_cuts(cut for number in range(arguments.songs) for cut in segments(Path(folder), number)).to_file(
            path
        )
        cuts = CutSet.from_jsonl_lazy(path)
        count = arguments.batches * Training().batch_size
        sides = {"loader": lambda: load(cuts, arguments.batches), "soundfile": lambda: decode(cuts, count)}
        audio = count * SEGMENT_SECONDS
        print(
            f"{count} segments, {audio} s of audio in each of {arguments.rounds} rounds; load {os.getloadavg()[0]:.1f}"
        )
        speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(arguments.rounds):
            for name, side in sides.items():
                seconds, cpu = measured(side)
                speeds[name].append((audio / cpu, audio / seconds))
    print(f"{'':<12}{'s of audio a CPU second':>26}{'a second':>12}")
    for name, values in speeds.items():
        by_cpu, by_time = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"{name:<12}{by_cpu:>26.0f}{by_time:>12.0f}")
    ratios = [ours[0] / base[0] for ours, base in zip(speeds["loader"], speeds["soundfile"], strict=True)]
    print(f"loader over soundfile: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def segments(folder: Path, number: int) -> list[MonoCut]:
    """The segments of one generated song."""
    random = np.random.default_rng(number)
    times = np.arange(SONG_SECONDS * RATE) / RATE
    tones = sum(np.sin(2 * np.pi * 110 * k * (1 + number / 50) * times) / k for k in range(1, 8))
    vocals = 0.1 * tones + 0.01 * random.standard_normal(len(times))
    signals = {"vocals": vocals, "mixture": vocals + 0.05 * random.standard_normal(len(times))}
    recordings = {}
    for name, signal in signals.items():
        soundfile.write(folder / f"{number}-{name}.flac", signal.astype(np.float32), RATE)
        recordings[name] = Recording.from_file(folder / f"{number}-{name}.flac", recording_id=f"song{number}")
    cuts = []
    for start in range(0, SONG_SECONDS, SEGMENT_SECONDS):
        alignment = {
            kind: [AlignmentItem(symbol, round(start + i * SEGMENT_SECONDS / items, 2), 0.25) for i in range(items)]
            for kind, symbol, items in (("word", "love", WORDS), ("note", "60", NOTES))
        }
        name, text = f"song{number}-{start}", " ".join(["love"] * WORDS)
        supervision = SupervisionSegment(name, f"song{number}", 0.0, SEGMENT_SECONDS, text=text, alignment=alignment)
        cut = MonoCut(
            name, float(start), SEGMENT_SECONDS, 0, recording=recordings["mixture"], supervisions=[supervision]
        )
        cut.vocals = recordings["vocals"]
        cuts.append(cut)
    return cuts


def load(cuts: CutSet, batches: int) -> None:
    training = Training(epoch_steps=batches, workers=1)
    for parts in training_loader(cuts, None, SegmentDataset(CharTokens(), RATE, 256), training, seed=0):
        assert parts[0][0].waveforms.shape == (training.batch_size, 2, SEGMENT_SECONDS * RATE)


def decode(cuts: CutSet, count: int) -> None:
    for _, cut in zip(range(count), cuts.repeat(), strict=False):
        for recording in (cut.recording, cut.vocals):
            start = round(cut.start * RATE)
            soundfile.read(recording.sources[0].source, frames=SEGMENT_SECONDS * RATE, start=start, dtype="float32")


def measured(side: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and seconds of CPU of this process and those that it has started and ended."""
    started, before = time.perf_counter(), os.times()
    side()
    after = os.times()
    return time.perf_counter() - started, sum(after[:4]) - sum(before[:4])


if __name__ == "__main__":
    main()
