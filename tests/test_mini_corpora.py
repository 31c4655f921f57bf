"""The generated corpora: held-out sentences, the same bytes on every run, annotation that is true to the sound."""

import csv
import gzip
import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import soundfile

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "local"))

from altpo_model.config import MiniCorpora  # noqa: E402
from dali_annotation import read_annotation  # noqa: E402
from mini_corpora import voices  # noqa: E402
from mini_corpora.grammar import text_of, vocabulary  # noqa: E402
from mini_corpora.plan import Plan, make_plan  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyworld

SIZES = {
    "speech_train": 9,
    "speech_validation": 2,
    "speech_test": 2,
    "dali_train": 5,
    "dali_validation": 1,
    "dali_test": 2,
    "dali_shifted": 0.2,
    "dali_wrong": 0.2,
    "rwc": 2,
    "jamendo": 1,
    "stems_train": 1,
    "stems_test": 1,
    "song_seconds": 10.0,
    "lm_sentences": 50,
}


@pytest.fixture(scope="module")
def whole_plan() -> Plan:
    return make_plan(MiniCorpora())


@pytest.fixture(scope="module")
def tiny_plan() -> Plan:
    return make_plan(MiniCorpora(**SIZES))


def _make(folder: Path, jobs: int, **environment: str) -> subprocess.CompletedProcess:
    sizes = [item for name, size in SIZES.items() for item in ("--set", f"corpora.mini.{name}={size}")]
    command = [sys.executable, ROOT / "local/make_mini_corpora.py", "--conf", ROOT / "conf/mini.yaml", *sizes]
    command += ["--set", f"corpora.mini.dir={folder}", "--set", f"jobs={jobs}"]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    result = _make(folder, jobs=2)
    assert result.returncode == 0, result.stderr
    return folder


def _sentences(plan: Plan) -> dict[str, set[str]]:
    """The sentences of each part, over all corpora."""
    parts = {"train": set(), "validation": set(), "test": set()}
    names = {"train-clean-360": "train", "dev-clean": "validation", "test-clean": "test"}
    for split, utterances in plan.speech.items():
        parts[names[split]].update(text_of(sentence) for utterance in utterances for sentence in utterance.sentences)
    songs = [(item.split, item.song) for item in plan.dali] + [("train", song) for song in plan.rwc]
    songs += [("test", song) for song in plan.jamendo]
    songs += [(split, song) for split, part in plan.stems.items() for song in part]
    for split, song in songs:
        parts[split].update(line.text for line in song.lines)
    return parts


def test_held_out_sentences_are_in_no_training_set_and_not_in_the_language_model_text(whole_plan):
    parts = _sentences(whole_plan)
    assert parts["test"] and parts["validation"] and parts["train"]
    assert not parts["test"] & parts["train"]
    assert not parts["test"] & parts["validation"]
    assert not parts["validation"] & parts["train"]
    lm_text = "\n".join(f" {line} " for line in whole_plan.lm)
    assert not [sentence for sentence in parts["test"] | parts["validation"] if f" {sentence} " in lm_text]


def test_test_voices_are_in_test_sets_only(whole_plan):
    test = {voice.name for voice in voices.TEST}
    assert len({voice.name for voice in voices.TRAINING}) == 8
    used = {"train": set(), "test": set()}
    for split, utterances in whole_plan.speech.items():
        used["test" if split == "test-clean" else "train"].update(u.voice.name for u in utterances)
    for item in whole_plan.dali:
        used["test" if item.split == "test" else "train"].add(item.song.voice.name)
    used["train"].update(song.voice.name for song in [*whole_plan.rwc, *whole_plan.stems["train"]])
    used["test"].update(song.voice.name for song in [*whole_plan.jamendo, *whole_plan.stems["test"]])
    assert used["test"] == test
    assert not used["train"] & test


def test_every_word_occurs_often_in_training(whole_plan):
    words = [word for utterance in whole_plan.speech["train-clean-360"] for word in utterance.text.split()]
    words += [word.text for item in whole_plan.dali if item.split == "train" for word in item.song.words]
    counts = {word: words.count(word) for word in vocabulary()}
    assert 80 <= len(counts) <= 120
    assert min(counts.values()) >= 30, min(counts, key=counts.get)
    assert set(words) == set(counts)


def test_songs_have_rests_and_last_half_a_minute(whole_plan):
    songs = [item.song for item in whole_plan.dali]
    assert min(song.duration for song in songs) >= 30.0
    for song in songs:
        rests = [after.start - before.end for before, after in zip(song.lines, song.lines[1:], strict=False)]
        assert len(rests) >= 3
        assert min(rests) >= 0.6 and max(rests) <= 1.5
        assert all(song.voice.lowest <= note.pitch <= song.voice.highest for note in song.notes)
        assert song.lines[-1].end <= song.duration


def test_planted_faults_have_their_shares_and_spare_validation_and_test(whole_plan):
    conf, kinds = MiniCorpora(), [item.fault.kind for item in whole_plan.dali]
    assert kinds.count("shifted") == np.ceil(conf.dali_shifted * len(kinds))
    assert kinds.count("wrong") == np.ceil(conf.dali_wrong * len(kinds))
    assert all(item.fault.kind == "good" for item in whole_plan.dali if item.split != "train")
    shifts = [item.fault.shift for item in whole_plan.dali if item.fault.kind == "shifted"]
    assert all(-12 <= shift <= 12 for shift in shifts)
    assert any(item.fault.of_song is not None for item in whole_plan.dali)
    assert any(item.fault.delay >= 3.0 for item in whole_plan.dali)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_second_run_with_another_number_of_jobs_makes_the_same_bytes(made, tmp_path):
    result = _make(tmp_path, jobs=1, PYTHONHASHSEED="7")
    assert result.returncode == 0, result.stderr
    assert _digests(tmp_path) == _digests(made)


def test_nothing_partial_is_left(made):
    assert sorted(path.name for path in made.iterdir()) == ["DALI", "JamendoLyrics", "LibriSpeech", "RWC", "stems"]


def test_a_corpus_that_is_not_generated_is_not_replaced(tmp_path):
    (tmp_path / "DALI").mkdir()
    (tmp_path / "DALI" / "precious.flac").write_bytes(b"real")
    result = _make(tmp_path, jobs=1)
    assert result.returncode == 1
    assert "DALI" in result.stderr and "Traceback" not in result.stderr
    assert (tmp_path / "DALI" / "precious.flac").read_bytes() == b"real"


def _vocals(made: Path, plan: Plan) -> list:
    """(song, its vocals) of all stems."""
    found = []
    for split, songs in plan.stems.items():
        for song in songs:
            samples, rate = soundfile.read(made / "stems" / split / f"{song.artist} - {song.title}" / "vocals.wav")
            assert rate == 22050
            found.append((song, samples))
    return found


def test_the_voice_has_the_annotated_pitch_at_the_middle_of_the_notes(made, tiny_plan):
    right = []
    for song, samples in _vocals(made, tiny_plan):
        f0, times = pyworld.harvest(samples, 22050, f0_floor=60.0, f0_ceil=800.0)
        for note in song.notes:
            heard = f0[np.argmin(np.abs(times - (note.start + note.end) / 2))]
            right.append(heard > 0 and abs(69 + 12 * np.log2(heard / 440.0) - note.pitch) <= 0.5)
    assert len(right) >= 20
    assert np.mean(right) >= 0.9


def test_the_voice_starts_and_ends_with_each_line_and_is_silent_between(made, tiny_plan):
    for song, samples in _vocals(made, tiny_plan):
        sung = np.zeros(len(samples), dtype=bool)
        for line in song.lines:
            start, end = round(line.start * 22050), round((line.end + 0.05) * 22050)
            sung[start:end] = True
            # Heard within 50 ms of the first onset, and still within 100 ms of the last end
            assert np.abs(samples[start : start + 1100]).max() > 0.01
            assert np.abs(samples[end - 3300 : end]).max() > 0.001
        assert np.abs(samples[~sung]).max() < 1e-4


def test_repeated_notes_are_parted_by_a_dip(made, tiny_plan):
    dips = []
    for song, samples in _vocals(made, tiny_plan):
        for line in song.lines:
            for syllable in line.syllables[1:]:
                at = round(syllable.start * 22050)
                near = np.sqrt(np.mean(samples[at - 110 : at + 110] ** 2))
                around = np.sqrt(np.mean(samples[at - 3300 : at + 3300] ** 2))
                dips.append(near < 0.7 * around)
    assert np.mean(dips) >= 0.85


def test_mixtures_do_not_clip_and_hold_the_vocals_at_the_configured_level(made, tiny_plan):
    for path in sorted(made.glob("stems/*/*/mixture.wav")):
        mixture, _ = soundfile.read(path)
        vocals, _ = soundfile.read(path.with_name("vocals.wav"))
        assert 0.5 < np.abs(mixture).max() < 0.95
        accompaniment = mixture - vocals
        sung = np.abs(vocals) > 1e-4
        level = 10 * np.log10(np.mean(accompaniment**2) / np.mean(vocals[sung] ** 2))
        assert abs(level - MiniCorpora().accompaniment_db) < 2.0


def test_dali_annotations_read_as_dali_and_have_the_planted_faults(made, tiny_plan):
    with open(made / "DALI/ground_truth.csv", newline="") as file:
        truth = {row["id"]: row for row in csv.DictReader(file)}
    assert sorted(truth) == sorted(path.stem for path in (made / "DALI/audio").glob("*.flac"))
    by_id = {item.id: item for item in tiny_plan.dali}
    kinds = []
    for id, row in truth.items():
        annotation, song = read_annotation(made / f"DALI/annotations/{id}.gz"), by_id[id].song
        assert (annotation.id, annotation.artist, annotation.language) == (id, song.artist, "english")
        pitches = [69 + 12 * np.log2(np.mean(note.frequencies) / 440.0) for note in annotation.notes]
        right = (
            len(pitches) == len(song.notes)
            and np.allclose([note.start for note in annotation.notes], [note.start for note in song.notes])
            and np.allclose(np.array(pitches) + int(row["shift"]), [note.pitch for note in song.notes])
        )
        assert right == (row["kind"] != "wrong")
        assert (int(row["shift"]) != 0) == (row["kind"] == "shifted")
        if row["kind"] != "wrong":
            assert [word.text for word in annotation.words] == [word.text for word in song.words]
        kinds.append(row["kind"])
    assert {"good", "shifted", "wrong"} == set(kinds)


def test_lhotse_reads_the_speech(made, tiny_plan):
    from lhotse.recipes import prepare_librispeech

    splits = ["train-clean-360", "dev-clean", "test-clean"]
    manifests = prepare_librispeech(made / "LibriSpeech", dataset_parts=splits)
    for split in splits:
        recordings, supervisions = manifests[split]["recordings"], manifests[split]["supervisions"]
        assert sorted(s.text for s in supervisions) == sorted(u.text.upper() for u in tiny_plan.speech[split])
        for recording in recordings:
            samples = recording.load_audio()
            assert recording.sampling_rate == 16000
            assert 0.25 < np.abs(samples).max() < 1.0
            assert 1.0 < recording.duration < 8.0
    with gzip.open(made / "LibriSpeech/librispeech-lm-norm.txt.gz", "rt") as file:
        assert file.read().splitlines() == [line.upper() for line in tiny_plan.lm]


def test_pretty_midi_reads_the_melody_of_rwc_within_two_milliseconds(made, tiny_plan):
    for i, song in enumerate(tiny_plan.rwc):
        midi = pretty_midi.PrettyMIDI(str(made / f"RWC/AIST.RWC-MDB-P-2001.SMF_SYNC/RM-P{i + 1:03d}.SMF_SYNC.MID"))
        melody = next(instrument for instrument in midi.instruments if instrument.name == "MELODY")
        assert len(midi.instruments) >= 4
        assert [note.pitch for note in melody.notes] == [note.pitch for note in song.notes]
        for read, meant in zip(melody.notes, song.notes, strict=True):
            assert abs(read.start - meant.start) < 0.002 and abs(read.end - meant.end) < 0.002
        audio = soundfile.info(made / f"RWC/audio/RM-P{i + 1:03d}.wav")
        assert abs(audio.duration - song.duration) < 0.001


def test_jamendo_has_one_word_row_a_word_and_mp3_of_the_song_s_length(made, tiny_plan):
    corpus = made / "JamendoLyrics"
    with open(corpus / "JamendoLyrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["Title"] for row in rows] == [song.title for song in tiny_plan.jamendo]
    for row, song in zip(rows, tiny_plan.jamendo, strict=True):
        name = row["Filepath"].removesuffix(".mp3")
        words = (corpus / f"lyrics/{name}.words.txt").read_text().split()
        printed = (corpus / f"lyrics/{name}.txt").read_text()
        assert words == [word.text for word in song.words]
        assert printed.lower().replace(",", "").split() == words
        assert printed[0].isupper()
        with open(corpus / f"annotations/words/{name}.csv", newline="") as file:
            times = list(csv.DictReader(file))
        assert len(times) == len(words)
        assert abs(float(times[0]["word_start"]) - song.words[0].start) < 1e-6
        assert [time["line_end"] for time in times].count("nan") == len(words) - len(song.lines)
        assert abs(soundfile.info(corpus / f"mp3/{name}.mp3").duration - song.duration) < 0.1
