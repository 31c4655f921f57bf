"""MUSDB18-HQ's layout: ``{train,test}/<artist> - <title>/{mixture,vocals}.wav``, 16 bit."""

from pathlib import Path

from mini_corpora.plan import Plan
from mini_corpora.rendering import SongJob


def jobs(plan: Plan, folder: Path, accompaniment_db: float) -> list[SongJob]:
    """The audio to make under ``folder``."""
    made = []
    for split, songs in plan.stems.items():
        for song in songs:
            track = folder / split / f"{song.artist} - {song.title}"
            made.append(SongJob(song, track / "mixture.wav", track / "vocals.wav", accompaniment_db))
    return made
