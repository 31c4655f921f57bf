"""Songs and speech for tests: sine tones on disk, with words and notes, as stage 4 leaves them."""

from pathlib import Path

import numpy as np
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

RATE = 16000
WORDS = ("stay", "away", "tonight", "my", "love")


def write_cuts(folder: Path, name: str, count: int, song: bool, seed: int = 0) -> Path:
    """``count`` cuts of 1 to 2 s in folder/cuts/<name>.jsonl.gz, with vocals where they are of a song."""
    random = np.random.default_rng(seed)
    cuts = []
    for number in range(count):
        words = [WORDS[i] for i in random.integers(0, len(WORDS), 3)]
        length = 0.4 + 0.2 * random.random()
        pitches = random.integers(55, 70, 3)
        notes = [AlignmentItem(str(p), round(0.1 + i * length, 3), round(length, 3)) for i, p in enumerate(pitches)]
        samples = int(RATE * (0.2 + 3 * length))
        vocals = np.zeros(samples, dtype=np.float32)
        for note in notes:
            at = slice(int(note.start * RATE), int(note.end * RATE))
            time = np.arange(at.stop - at.start) / RATE
            vocals[at] = 0.3 * np.sin(2 * np.pi * 440 * 2 ** ((int(note.symbol) - 69) / 12) * time)
        mixture = vocals + 0.05 * random.standard_normal(samples).astype(np.float32)
        paths = {"vocals": vocals, "mixture": mixture} if song else {"mixture": mixture}
        recordings = {}
        for kind, signal in paths.items():
            path = folder / "audio" / f"{name}-{number}-{kind}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, signal, RATE)
            recordings[kind] = Recording.from_file(path, recording_id=f"{name}-{number}")
        words_at = [AlignmentItem(w, n.start, n.duration) for w, n in zip(words, notes, strict=True)]
        cut = MonoCut(
            id=f"{name}-{number}",
            start=0.0,
            duration=recordings["mixture"].duration,
            channel=0,
            recording=recordings["mixture"],
            supervisions=[
                SupervisionSegment(
                    id=f"{name}-{number}",
                    recording_id=f"{name}-{number}",
                    start=0.0,
                    duration=recordings["mixture"].duration,
                    text=" ".join(words),
                    alignment={"word": words_at, "note": notes} if song else None,
                )
            ],
            custom={"vocals": recordings["vocals"]} if song else None,
        )
        cuts.append(cut)
    path = folder / "cuts" / f"{name}.jsonl.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    CutSet.from_cuts(cuts).to_file(path)
    return path
