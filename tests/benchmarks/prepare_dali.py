"""How long the preparation of a corpus of DALI's size takes, and how much memory, with one process and with two.

    python tests/benchmarks/prepare_dali.py [--songs 5358] [--audio FILE]

Makes annotation files as DALI v1 has them (gzipped pickles of about 300 words and 400 notes, seeded) and for each song
its own audio: 240 s of silence, stereo FLAC at 44.1 kHz, of which the preparation reads the header and the last second.
``--audio`` links one file under all names instead, say an MP3: it then comes from the system's file cache each time.
Runs ``local/prepare_dali.py`` on them. Prints, for one process and for two: seconds, songs a second, the seconds of CPU
of all its processes (which a busy machine changes little) and the peak of their memory (the sum of their proportional
set sizes, sampled five times a second; Linux only); and the ratios. The target is under 180 s and 2 GB for 5,358 songs
with two processes on two cores.
"""

import argparse
import functools
import gzip
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "local"))

from measured_process import Measured, measured_run
from tiny_audio import ROOT, write_conf

from altpo_model.errors import UserError, exits_cleanly
from mini_corpora.dali import _pickled
from parallel import parallel_map

SONGS = 5358  # DALI v1
WORDS, LINE_WORDS, PARAGRAPH_LINES = 300, 6, 4
SYLLABLES = (0.7, 0.25, 0.05)  # share of words with one, two and three: 405 notes in 300 words
FIRST, LAST, AUDIO_SECONDS, RATE = 8.0, 232.0, 240, 44100
PARTS = "ba de fi go hu ka le mi no pu ra se ti wo you light love night time way i'm don\u2019t the and".split()
DECORATIONS = ("{}", "{}", "{}", "{}", "{}", "{}", "{},", "{}!", "({})", "{}\u2026")


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=SONGS, help="how many (default: %(default)s)")
    parser.add_argument("--audio", type=Path, help="the audio of every song (default: silence, a file a song)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="altpo-dali-") as folder:
        folder = Path(folder)
        started = time.perf_counter()
        make_corpus(folder, arguments.songs, arguments.audio)
        load = os.getloadavg()[0]
        print(f"{arguments.songs} songs made in {time.perf_counter() - started:.0f} s; load of the machine {load:.1f}")
        print(f"{'processes':<12}{'seconds':>10}{'songs/s':>10}{'CPU s':>10}{'peak MB':>10}")
        results = []
        for jobs in (1, 2):
            result = measure(folder, arguments.songs, jobs)
            speed = arguments.songs / result.seconds
            print(
                f"{jobs:<12}{result.seconds:>10.1f}{speed:>10.1f}{result.cpu_seconds:>10.1f}"
                f"{result.peak_bytes / 1e6:>10.0f}",
                flush=True,
            )
            results.append(result)
    seconds, cpu, peak = (one / two for one, two in zip(*results, strict=True))
    print(f"{'1 over 2':<12}{seconds:>10.2f}{1 / seconds:>10.2f}{cpu:>10.2f}{peak:>10.2f}")


def make_corpus(folder: Path, songs: int, audio: Path | None) -> None:
    """``annotations/<id>.gz`` and ``audio/<id>.<suffix>``."""
    (folder / "annotations").mkdir()
    (folder / "audio").mkdir()
    source = folder / "silence.flac" if audio is None else folder / f"linked{audio.suffix}"
    if audio is None:
        soundfile.write(source, np.zeros((AUDIO_SECONDS * RATE, 2), dtype=np.int16), RATE)
    else:
        shutil.copy(audio, source)
    put = shutil.copy if audio is None else os.link
    names = [f"{number:032x}" for number in range(songs)]
    list(parallel_map(functools.partial(write_annotation, folder=folder / "annotations"), names, "annotations", 2))
    for name in names:
        put(source, folder / "audio" / f"{name}{source.suffix}")


def write_annotation(name: str, folder: Path) -> None:
    """A song of its own; its seed is its number."""
    random = np.random.default_rng(int(name, 16))
    counts = random.choice([1, 2, 3], size=WORDS, p=SYLLABLES)
    lengths = random.gamma(4.0, 1.0, size=counts.sum())
    ends_line = np.zeros(len(lengths), dtype=bool)
    ends_line[np.cumsum(counts)[LINE_WORDS - 1 :: LINE_WORDS] - 1] = True
    steps = lengths + np.where(ends_line, 8.0, 0.0)  # a breath after each line
    scale = (LAST - FIRST) / steps.sum()
    starts = FIRST + scale * (np.cumsum(steps) - steps)
    ends = starts + scale * lengths
    frequencies = 440.0 * 2 ** ((random.integers(48, 76, size=len(lengths)) - 69) / 12)

    def entry(text: str, first: int, last: int, index: int | None = None) -> dict:
        """Of the notes from ``first`` to ``last``."""
        sung = frequencies[first : last + 1]
        found = {
            "text": text,
            "time": [float(starts[first]), float(ends[last])],
            "freq": [float(sung.min()), float(sung.max())],
        }
        return found if index is None else found | {"index": index}

    notes, words, lines, paragraphs = [], [], [], []
    for number, count in enumerate(counts):
        parts = [PARTS[i] for i in random.integers(0, len(PARTS), size=count)]
        first, text = len(notes), DECORATIONS[random.integers(len(DECORATIONS))].format("".join(parts))
        notes += [entry(part, first + i, first + i, number) for i, part in enumerate(parts)]
        words.append(entry(text, first, len(notes) - 1, number // LINE_WORDS))
    firsts = np.cumsum(counts) - counts
    for level, size, above in ((lines, LINE_WORDS, PARAGRAPH_LINES), (paragraphs, LINE_WORDS * PARAGRAPH_LINES, None)):
        for number, at in enumerate(range(0, WORDS, size)):
            last = firsts[at + size] - 1 if at + size < WORDS else len(notes) - 1
            text = " ".join(word["text"] for word in words[at : at + size])
            level.append(entry(text, firsts[at], last, above and number // above))
    info = {
        "id": name,
        "artist": f"Artist {int(name, 16) % 1000}",
        "title": f"Song {int(name, 16)}",
        "dataset_version": 1.0,
        "ground-truth": False,
        "scores": {"NCC": 0.9, "manual": 0},
        "audio": {"url": "None", "working": True, "path": "None"},
        "metadata": {
            "album": "None",
            "release_date": "None",
            "cover": "None",
            "genres": ["Pop"],
            "language": "english",
        },
    }
    annotation = {
        "type": "horizontal",
        "annot": {"notes": notes, "words": words, "lines": lines, "paragraphs": paragraphs},
        "annot_param": {"fr": 20.0, "offset": FIRST},
    }
    (folder / f"{name}.gz").write_bytes(gzip.compress(_pickled(info, annotation), compresslevel=6, mtime=0))


def measure(folder: Path, songs: int, jobs: int) -> Measured:
    """Run the preparation. Raises UserError when it fails or leaves a song out."""
    data_dir = folder / f"data{jobs}"
    dali = {"dir": str(folder / "annotations"), "audio_dir": str(folder / "audio")}
    conf = write_conf(folder, {"data_dir": str(data_dir), "jobs": jobs, "corpora": {"dali": dali}})
    command = [sys.executable, str(ROOT / "local" / "prepare_dali.py"), "--conf", str(conf)]
    measured = measured_run(command)
    with gzip.open(data_dir / "manifests" / "dali_supervisions_all.jsonl.gz") as lines:
        written = sum(1 for _ in lines)
    if written != songs:
        raise UserError(f"the preparation took {written} of {songs} songs")
    return measured


if __name__ == "__main__":
    main()
