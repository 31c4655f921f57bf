"""LibriSpeech's layout: ``<split>/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac`` beside ``.trans.txt``.

A voice is one speaker in each split that it speaks in; a chapter has at most 50 utterances.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

from mini_corpora import voices
from mini_corpora.plan import Plan, Utterance
from mini_corpora.rendering import SpeechJob

CHAPTER = 50  # utterances
LM_FILE = "librispeech-lm-norm.txt.gz"
_FIRST_SPEAKER = {"train-clean-360": 101, "dev-clean": 201, "test-clean": 301}


@dataclass(frozen=True)
class _Spoken:
    split: str
    speaker: int
    chapter: int
    number: int  # within the chapter
    utterance: Utterance

    @property
    def chapter_dir(self) -> Path:
        return Path(self.split, str(self.speaker), str(self.chapter))

    @property
    def id(self) -> str:
        return f"{self.speaker}-{self.chapter}-{self.number:04d}"


def _spoken(plan: Plan) -> list[_Spoken]:
    """All utterances, chapter by chapter."""
    spoken = []
    for split, utterances in plan.speech.items():
        owners = list(dict.fromkeys(utterance.voice for utterance in utterances))
        for s, voice in enumerate(owners):
            speaker = _FIRST_SPEAKER[split] + s
            own = [utterance for utterance in utterances if utterance.voice == voice]
            for i, utterance in enumerate(own):
                spoken.append(_Spoken(split, speaker, 1000 * speaker + i // CHAPTER, i % CHAPTER, utterance))
    return spoken


def jobs(plan: Plan, folder: Path) -> list[SpeechJob]:
    """The audio to make under ``folder``."""
    return [SpeechJob(item.utterance, folder / item.chapter_dir / f"{item.id}.flac") for item in _spoken(plan)]


def write_tables(plan: Plan, folder: Path) -> None:
    """Transcripts (upper case), SPEAKERS.TXT and the language model's text."""
    transcripts: dict[Path, list[str]] = {}
    speakers = {}
    for item in _spoken(plan):
        path = folder / item.chapter_dir / f"{item.speaker}-{item.chapter}.trans.txt"
        transcripts.setdefault(path, []).append(f"{item.id} {item.utterance.text.upper()}")
        speakers[item.speaker] = (item.split, item.utterance.voice)
    for path, lines in transcripts.items():
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [";ID  |SEX| SUBSET           | NAME"]
    for speaker, (split, voice) in sorted(speakers.items()):
        rows.append(f"{speaker:<5}| {_sex(voice)} | {split:<17}| {voice.artist}")
    (folder / "SPEAKERS.TXT").write_text("\n".join(rows) + "\n", encoding="utf-8")
    with (
        open(folder / LM_FILE, "wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as stream,  # no time: the same bytes on every run
    ):
        stream.write("".join(f"{line.upper()}\n" for line in plan.lm).encode())


def _sex(voice: voices.Voice) -> str:
    return "F" if voice.female else "M"
