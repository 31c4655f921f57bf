"""Finding and checking the audio files of a corpus."""

import unicodedata
from pathlib import Path

import soundfile
from lhotse import Recording

TAIL_SECONDS = 1.0  # of the end of a file that the check decodes

# Suffixes that libsndfile reads, in lower case.
AUDIO_SUFFIXES = frozenset({".flac", ".wav", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"})


class BrokenAudio(Exception):
    """An audio file that cannot be used; the message is the reason, in a few words."""


def check_audio(path: Path) -> None:
    """Read the header and the last second of an audio file. Raises BrokenAudio.

    The header of a truncated file is whole and promises the full length; its end is what is missing. So the end tells,
    at a small part of the cost of decoding everything.
    """
    if not path.is_file():
        raise BrokenAudio("no such file")
    try:
        with soundfile.SoundFile(path) as audio:
            frames = audio.frames
            if frames <= 0:
                raise BrokenAudio("no samples")
            tail = min(frames, int(TAIL_SECONDS * audio.samplerate))
            audio.seek(frames - tail)
            read = len(audio.read(tail, dtype="int16"))
    except (soundfile.SoundFileError, OSError) as error:
        raise BrokenAudio(f"truncated or broken: {_reason(error)}") from None
    if read < tail:
        raise BrokenAudio(f"truncated: its header promises {frames} samples, its last second has {read} of {tail}")


def checked_recording(path: Path, recording_id: str) -> Recording:
    """The Lhotse recording of an audio file that passes `check_audio`. Raises BrokenAudio."""
    check_audio(path)
    try:
        return Recording.from_file(path, recording_id=recording_id)
    except Exception as error:  # Lhotse's back ends raise many types
        raise BrokenAudio(_reason(error)) from None


def audio_by_name(folder: Path) -> dict[str, Path]:
    """The audio files directly in ``folder`` by their name without suffix, in Unicode's composed form (NFC).

    macOS stores names decomposed, other systems as they were typed: look names up as ``unicodedata.normalize("NFC",
    name)``. Of two files that differ in the suffix alone, the first in alphabetical order is taken.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            found.setdefault(unicodedata.normalize("NFC", path.stem), path)
    return found


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
