import os
import re
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from lhotse import Recording
from tiny_audio import ROOT, truncate, write_sine

from altpo_model.audio_files import BrokenAudio, audio_blocks, audio_by_name, check_audio, checked_recording
from altpo_model.config import Separation
from separate import separate_song

REAL = Path(os.environ.get("ALTPO_TEST_DATA", ROOT.parent / "shared" / "data"))
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def write_by_ffmpeg(path, codec, seconds=3.0, rate=44100, channels=2, picture=False, options=None):
    """A tone of 440 Hz; with a picture, that lasts two seconds longer."""
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout=LAYOUTS[channels], bit_rate=128000)
        if picture:
            add_picture(container, seconds + 2)
        frame = av.AudioFrame.from_ndarray(
            np.tile(samples.astype(np.float32), (channels, 1)), format="fltp", layout=LAYOUTS[channels]
        )
        frame.sample_rate, frame.pts = rate, 0
        context = stream.codec_context
        resampler = av.AudioResampler(context.format, LAYOUTS[channels], rate, context.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return path


def add_picture(container, seconds):
    stream = container.add_stream("mpeg4", rate=10)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    for _ in range(round(10 * seconds)):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
    container.mux(stream.encode(None))


def decoded(path, block_seconds=1.0):
    return torch.cat(list(audio_blocks(path, block_seconds)), dim=1)


def pitch(samples, rate):
    """The strongest frequency in Hz."""
    return np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples)


FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}
FFMPEG_FORMATS = {
    "aac.m4a": ("aac", {}),
    "header_first.m4a": ("aac", {"options": {"movflags": "faststart"}}),
    "fragments.mp4": ("aac", {"options": FRAGMENTS}),
    "picture.mp4": ("aac", {"picture": True}),
    "lossless.m4a": ("alac", {}),
    "opus.webm": ("libopus", {"rate": 48000}),
    "live.webm": ("libopus", {"rate": 48000, "options": {"live": "1"}}),  # states no length
    "aac.mka": ("aac", {}),
    "picture.mkv": ("aac", {"picture": True}),
    "adts.aac": ("aac", {}),
    "windows.wma": ("wmav2", {}),
    "six.m4a": ("aac", {"channels": 6}),
    "flac.ogg": ("flac", {}),
    "mono.mp2": ("mp2", {"channels": 1}),
    "no_xing.mp3": ("libmp3lame", {"options": {"write_xing": "0"}}),
}


@pytest.mark.parametrize("name", FFMPEG_FORMATS)
def test_what_the_web_serves_is_read_at_its_length_and_pitch(tmp_path, name):
    codec, options = FFMPEG_FORMATS[name]
    path = write_by_ffmpeg(tmp_path / name, codec, **options)
    recording = checked_recording(path, "x")
    rate = options.get("rate", 44100)
    assert (recording.sampling_rate, recording.num_channels) == (rate, options.get("channels", 2))
    assert recording.duration == pytest.approx(3.0, abs=0.1)  # lossy codecs pad by a frame or two
    signal = decoded(path)
    assert signal.dtype == torch.float32
    assert signal.shape[0] == recording.num_channels
    assert signal.shape[1] == pytest.approx(recording.num_samples, abs=0.1 * rate)
    assert pitch(signal[0].numpy(), rate) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".aiff", ".au", ".caf", ".w64"])
def test_what_libsndfile_reads_is_as_libsndfile_reads_it(tmp_path, suffix):
    path = write_sine(tmp_path / f"song{suffix}", 2.5, rate=22050, channels=2)
    assert checked_recording(path, "song") == Recording.from_file(path, recording_id="song")
    blocks = list(audio_blocks(path, 1.0))
    assert [block.shape for block in blocks] == [(2, 22050), (2, 22050), (2, 11025)]
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert np.allclose(torch.cat(blocks, dim=1).numpy(), expected.T, atol=1e-6)  # MP3 is not decoded to the same bit


@pytest.mark.parametrize("suffix", [".wav", ".rf64", ".flac", ".ogg", ".mp3", ".aiff", ".au", ".caf", ".w64"])
def test_truncated_files_that_libsndfile_opens_are_found_out(tmp_path, suffix):
    path = write_sine(tmp_path / f"song{suffix}", 4.0, rate=44100)
    check_audio(path)
    with pytest.raises(BrokenAudio, match="truncated"):
        check_audio(truncate(path))


@pytest.mark.parametrize(
    "name",
    [
        "aac.m4a",
        "header_first.m4a",
        "fragments.mp4",
        "picture.mp4",
        "opus.webm",
        "aac.mka",
        "picture.mkv",
        "lossless.m4a",
    ],
)
def test_truncated_containers_are_found_out(tmp_path, name):
    codec, options = FFMPEG_FORMATS[name]
    path = truncate(write_by_ffmpeg(tmp_path / name, codec, **options))
    with pytest.raises(BrokenAudio, match="truncated"):
        check_audio(path)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_a_wav_that_was_written_to_a_pipe_is_whole(tmp_path, size):
    """Its writer could not know the length: the sizes are what FFmpeg, sox and arecord put in its place."""
    path = write_sine(tmp_path / "song.wav", 2.0)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 4, min(size + 36, 0xFFFFFFFF))
    struct.pack_into("<I", content, content.index(b"data") + 4, size)
    path.write_bytes(content)
    assert check_audio(path) == (1, 16000, 32000)
    assert decoded(path).shape == (1, 32000)


def test_a_flac_that_was_written_to_a_pipe_is_whole(tmp_path):
    path = write_sine(tmp_path / "song.flac", 2.0)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of the number of samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert check_audio(path) == (1, 16000, 32000)
    assert decoded(path).shape == (1, 32000)


@pytest.mark.parametrize("tail", [b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(3000), b"LYRICSBEGIN" + b"la " * 900])
def test_an_mp3_without_a_xing_header_has_the_length_of_its_frames(tmp_path, tail):
    """libsndfile guesses it from the size of the file, tags and all: a cover of 100 kB would be six seconds here."""
    path = write_by_ffmpeg(tmp_path / "song.mp3", "libmp3lame", options={"write_xing": "0"})
    path.write_bytes(b"ID3\x04\x00\x00" + bytes([0, 6, 26, 32]) + bytes(101664) + path.read_bytes() + tail)
    assert check_audio(path).num_samples == decoded(path).shape[1] == pytest.approx(3.0 * 44100, abs=3 * 1152)


def test_the_end_of_a_truncated_file_is_not_made_up(tmp_path):
    path = truncate(write_sine(tmp_path / "song.mp3", 4.0, rate=44100), 0.5)
    assert decoded(path).shape[1] < 2.2 * 44100


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real songs at {REAL} (set ALTPO_TEST_DATA)")
def test_real_songs_are_whole_and_as_long_as_ffmpeg_decodes_them():
    songs = [
        path for folder in ("ultrastar", "jamendolyrics") for path in sorted((REAL / folder).rglob("*.[mo][pg][3g]"))
    ]
    assert len(songs) == 9
    for path in songs:
        with av.open(str(path)) as container:
            samples = sum(frame.samples for frame in container.decode(audio=0))
        assert check_audio(path).num_samples == samples, path


@pytest.mark.parametrize("name", ["song.mp3", "song.wav", "song.m4a", "song.webm"])
@pytest.mark.parametrize("content", [b"", b"404 not found\n" * 100, bytes(range(256)) * 200])
def test_what_is_no_audio_is_a_reason_and_no_traceback(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (check_audio, decoded):
        with pytest.raises(BrokenAudio, match=r"^[^\n]+$"):
            read(path)


def test_a_picture_without_sound_and_a_missing_file_are_reasons(tmp_path):
    with av.open(str(tmp_path / "picture.mp4"), "w") as container:
        add_picture(container, 1)
    with pytest.raises(BrokenAudio, match="no audio in it"):
        check_audio(tmp_path / "picture.mp4")
    with pytest.raises(BrokenAudio, match="no such file"):
        check_audio(tmp_path / "nothing.wav")


def test_samples_that_are_no_numbers_are_a_reason(tmp_path):
    samples = np.zeros(48000, np.float32)
    samples[40000] = np.nan
    soundfile.write(tmp_path / "song.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(BrokenAudio, match="no numbers, after 2 s"):
        decoded(tmp_path / "song.wav")


def test_a_name_that_looks_like_an_address_is_a_name(tmp_path, monkeypatch):
    write_by_ffmpeg(tmp_path / "song.m4a", "aac").rename(tmp_path / "http:live.m4a")
    monkeypatch.chdir(tmp_path)
    assert check_audio(Path("http:live.m4a")).channels == 2


def test_suffixes_count_in_any_case_and_the_first_of_two_files_is_taken(tmp_path):
    for name in ("a.WebM", "b.mp3", "b.m4a", "c.MP4", "d.txt", ".e.mp3"):
        (tmp_path / name).touch()
    assert {name: path.name for name, path in audio_by_name(tmp_path).items()} == {
        "a": "a.WebM",
        "b": "b.m4a",
        "c": "c.MP4",
    }


class Echo:
    """Stands for a separator of which all is vocals."""

    sample_rate = 44100
    channels = 2

    def __call__(self, mixture):
        return mixture


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [
        ("six.wav", 192000, 6),
        ("six.flac", 96000, 6),
        ("mono.wav", 8000, 1),
        ("stereo.ogg", 32000, 2),
        ("song.m4a", 44100, 2),
    ],
)
def test_any_rate_and_any_number_of_channels_is_separated(tmp_path, name, rate, channels):
    if name.endswith(".m4a"):
        path = write_by_ffmpeg(tmp_path / name, "aac", 3.0, rate, channels)
    else:
        path = write_sine(tmp_path / name, 3.0, rate, channels)
    recording = checked_recording(path, "song")
    settings = Separation(chunk_seconds=2.0, overlap_seconds=0.5)
    separated = separate_song(recording, tmp_path / "separated", settings, "echo", Echo())
    for part in (separated.mixture, separated.vocals):
        assert (part.sampling_rate, part.num_channels) == (16000, 1)
        assert part.duration == pytest.approx(3.0, abs=0.05)
        assert pitch(part.load_audio()[0], 16000) == pytest.approx(440, abs=1)


def test_a_song_that_ends_before_its_manifest_says_is_not_separated(tmp_path):
    recording = checked_recording(write_sine(tmp_path / "song.wav", 4.0), "song")
    truncate(tmp_path / "song.wav")
    with pytest.raises(BrokenAudio, match=re.escape("ends at 2.4 of 4.0 s")):
        separate_song(recording, tmp_path / "separated", Separation(chunk_seconds=2.0), "echo", Echo())
    assert not list((tmp_path / "separated").iterdir())
