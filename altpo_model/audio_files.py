"""Finding, checking and reading the audio files of a corpus, whatever their format.

libsndfile reads a file where it can (FLAC, WAV, Ogg, MP3 ...). Where it cannot (M4A, MP4, WebM, WMA ...), or does not
know how long the file is, PyAV does: its wheels hold FFmpeg's libraries, so that nothing else need be installed.

A file that was cut short is found out by what it says of its own length. An MP3 without a Xing header, AAC in ADTS and
an Ogg that was cut between two pages say nothing of it: these just end earlier, and nobody can tell.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile
import torch
from lhotse import AudioSource, Recording

TAIL_SECONDS = 1.0  # of the end of a file that the check decodes
SHORTFALL_SECONDS = 0.5  # by how much audio may fall short of its header (lossy formats state their padding too)

AUDIO_SUFFIXES = frozenset(  # in lower case
    ".3gp .aac .ac3 .aif .aifc .aiff .ape .au .caf .flac .m4a .m4b .mka .mkv .mov .mp2 .mp3 .mp4 .mpc .oga .ogg .opus "
    ".tta .w64 .wav .webm .wma .wv".split()
)

_MALFORMED = 3  # libsndfile's SF_ERR_MALFORMED_FILE: a format that it knows, not whole
_UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's SF_COUNT_MAX, for a FLAC that was written to a pipe
# What libsndfile's log says of uncompressed samples that are fewer than the header states, and of an Ogg cut in a page.
_STATED_BYTES = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_CUT_PAGE = re.compile(r"Last page lacks an end-of-stream bit.*Junk after the last page", re.DOTALL)
_LONGEST_MP3_FRAME = 1441  # bytes
_STREAMED_BYTES = 0x7FFFF000  # at least this is what programs state that write a WAV to a pipe: sox this, others more
# FFmpeg's names of the containers that state their length; in the others FFmpeg guesses it from the bit rate.
_MP4, _MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
_DURATION_TAG = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


class BrokenAudio(Exception):
    """An audio file that cannot be used; the message is the reason, in a few words."""


class AudioInfo(NamedTuple):
    """The measures of an audio file."""

    channels: int
    sampling_rate: int  # Hz
    num_samples: int  # of each channel


def check_audio(path: Path) -> AudioInfo:
    """Read the header and the last second of an audio file. Raises BrokenAudio.

    The header of a truncated file is whole and promises the full length; its end is what is missing. So the end tells,
    at a small part of the cost of decoding everything. What has no such header is decoded.
    """
    if not os.path.isfile(path):
        raise BrokenAudio("no such file")
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        raise BrokenAudio("its name is not Unicode")
    if path.stat().st_size == 0:
        raise BrokenAudio("an empty file")
    audio = _sound_file(path)
    if audio is None:
        return _checked_by_ffmpeg(path)
    with audio:
        return _checked_by_libsndfile(audio)


def checked_recording(path: Path, recording_id: str) -> Recording:
    """The Lhotse recording of an audio file that passes `check_audio`. Raises BrokenAudio.

    Lhotse itself can load it where libsndfile reads the format; `audio_blocks` always can.
    """
    channels, sampling_rate, num_samples = check_audio(path)
    return Recording(
        id=recording_id,
        sources=[AudioSource("file", list(range(channels)), str(path))],
        sampling_rate=sampling_rate,
        num_samples=num_samples,
        duration=num_samples / sampling_rate,
    )


def audio_blocks(path: Path, block_seconds: float) -> Iterator[torch.Tensor]:
    """The audio of a file in float32 blocks of (channels, samples) of about ``block_seconds``, the last one shorter.

    Raises BrokenAudio when the file is no audio, breaks off or holds samples that are no numbers.
    """
    seconds = 0.0
    try:
        for block, rate in _decoded(path, block_seconds):
            if not np.isfinite(block).all():
                raise BrokenAudio(f"holds samples that are no numbers, after {seconds:.0f} s")
            seconds += block.shape[1] / rate
            yield torch.from_numpy(block)
    except (soundfile.SoundFileError, av.FFmpegError, OSError, ValueError) as error:
        raise BrokenAudio(f"breaks off at {seconds:.0f} s: {_reason(error)}") from None


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


def _sound_file(path: Path) -> soundfile.SoundFile | None:
    """The file as libsndfile opens it; None where it cannot, or does not know its length. Raises BrokenAudio."""
    try:
        audio = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        if error.code == _MALFORMED:
            raise BrokenAudio(f"truncated or broken: {error.error_string}") from None
        return None
    if 0 < audio.frames < _UNKNOWN_LENGTH and not (audio.format == "MP3" and not _has_xing_header(path)):
        return audio
    audio.close()
    return None


def _has_xing_header(path: Path) -> bool:
    """Whether an MP3 states its length. Where it does not, libsndfile guesses, and may be wrong by many seconds."""
    with path.open("rb") as stream:
        tag = stream.read(10)
        if tag[:3] == b"ID3":  # seven bits a byte: the size of what stands before the first frame
            stream.seek(10 + sum(byte << 7 * place for place, byte in enumerate(reversed(tag[6:]))))
        else:
            stream.seek(0)
        first_frame = stream.read(_LONGEST_MP3_FRAME)
    return b"Xing" in first_frame or b"Info" in first_frame


def _checked_by_libsndfile(audio: soundfile.SoundFile) -> AudioInfo:
    frames, rate = audio.frames, audio.samplerate
    log = audio.extra_info
    for stated, there in (map(int, sizes) for sizes in _STATED_BYTES.findall(log)):
        # libsndfile goes by what is there, and tells of the header to its log alone.
        missing = (stated - there) / there * frames / rate if 0 < there < stated < _STREAMED_BYTES else 0.0
        if missing > SHORTFALL_SECONDS:
            raise BrokenAudio(
                f"truncated: its header promises {frames / rate + missing:.1f} s, it has {frames / rate:.1f}"
            )
    if _CUT_PAGE.search(log):
        raise BrokenAudio(f"truncated: it breaks off inside a page of Ogg, after {frames / rate:.1f} s")
    tail = min(frames, int(TAIL_SECONDS * rate))
    try:
        audio.seek(frames - tail)
        read = len(audio.read(tail, dtype="int16"))
    except (soundfile.SoundFileError, OSError) as error:
        raise BrokenAudio(f"truncated or broken: {_reason(error)}") from None
    if read < tail:
        raise BrokenAudio(f"truncated: its header promises {frames} samples, its last second has {read} of {tail}")
    return AudioInfo(audio.channels, rate, frames)


def _checked_by_ffmpeg(path: Path) -> AudioInfo:
    try:
        with _container(path) as container:
            stream = _audio_stream(container)
            stated = _stated_seconds(container, stream)
            if stated is None:
                seconds = sum(frame.samples / frame.sample_rate for frame in _frames(container, stream))
            else:
                container.seek(max(0, int((stated - TAIL_SECONDS) * av.time_base)))
                ends = ((frame.time or 0.0) + frame.samples / frame.sample_rate for frame in _frames(container, stream))
                end = max(ends, default=0.0)
                if stated - end > SHORTFALL_SECONDS:
                    raise BrokenAudio(f"truncated: its header promises {stated:.1f} s, and its end is not there")
                seconds = stated
            info = AudioInfo(stream.channels, stream.rate, round(seconds * stream.rate))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BrokenAudio(f"truncated, broken or no audio: {_reason(error)}") from None
    if info.num_samples == 0:
        raise BrokenAudio("no samples")
    return info


def _stated_seconds(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    """Where the audio ends by the container's header; None where that does not say."""
    if container.format.name == _MP4 and stream.duration:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if container.format.name == _MATROSKA:
        # The container's own length is that of all in it; the audio's may stand in a tag: 00:03:20.007000000.
        if tag := _DURATION_TAG.fullmatch(stream.metadata.get("DURATION", "")):
            hours, minutes, seconds = map(float, tag.groups())
            return 3600 * hours + 60 * minutes + seconds
        if container.duration and len(container.streams) == 1:
            return container.duration / av.time_base
    return None


def _decoded(path: Path, block_seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks of (channels, samples), float32, with their rate in Hz."""
    audio = _sound_file(path)
    if audio is None:
        yield from _decoded_by_ffmpeg(path, block_seconds)
        return
    with audio:
        # SoundFile.blocks would fill up with old samples where a file ends before its header says.
        while len(block := audio.read(int(block_seconds * audio.samplerate), dtype="float32", always_2d=True)):
            yield np.ascontiguousarray(block.T), audio.samplerate


def _decoded_by_ffmpeg(path: Path, block_seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    with _container(path) as container:
        stream = _audio_stream(container)
        resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
        waiting: list[np.ndarray] = []
        samples = 0
        for frame in chain(_frames(container, stream), [None]):
            for part in resampler.resample(frame):
                waiting.append(part.to_ndarray())
                samples += part.samples
            if waiting and (frame is None or samples >= block_seconds * stream.rate):
                yield np.concatenate(waiting, axis=1), stream.rate
                waiting, samples = [], 0


def _frames(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.InvalidDataError:
            # Behind the last frame of an MP3 there may be tags that FFmpeg does not know; players pass over them too.
            if container.format.name != "mp3":
                raise


def _container(path: Path) -> av.container.InputContainer:
    return av.open(str(path.absolute()))  # FFmpeg takes what stands before a colon in a bare name for a protocol


def _audio_stream(container: av.container.InputContainer) -> av.AudioStream:
    stream = container.streams.best("audio")
    if stream is None:
        raise BrokenAudio("no audio in it")
    return stream


def _reason(error: Exception) -> str:
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
