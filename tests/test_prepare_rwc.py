import mido
import pytest
from tiny_audio import assert_one_clear_line, run_program, truncate, write_conf, write_sine

from altpo_model.errors import UserError
from manifests import Report
from prepare_rwc import BadMidi, melody_notes, prepare_rwc


def write_midi(path, track_name="MELODY", tempo=500000):
    """By hand: at 480 ticks a beat, C4 from beat 1 to 2 and E4 from beat 2 to 4, beside a bass that plays on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    conductor = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    melody = mido.MidiTrack(
        [
            mido.MetaMessage("track_name", name=track_name),
            mido.Message("note_on", note=60, velocity=80, time=480),
            mido.Message("note_off", note=60, velocity=0, time=480),
            mido.Message("note_on", note=64, velocity=80, time=0),
            mido.Message("note_off", note=64, velocity=0, time=960),
        ]
    )
    bass = mido.MidiTrack(
        [
            mido.MetaMessage("track_name", name="BASS"),
            mido.Message("note_on", channel=1, note=36, velocity=80, time=0),
            mido.Message("note_off", channel=1, note=36, velocity=0, time=1920),
        ]
    )
    mido.MidiFile(ticks_per_beat=480, tracks=[conductor, melody, bass]).save(path)


@pytest.fixture
def corpus(tmp_path):
    for song, suffix in (("RM-P001", ".wav"), ("RM-P002", ".flac"), ("RM-P003", ".flac")):
        write_sine(tmp_path / "audio" / f"{song}{suffix}", 3.0, rate=44100, channels=2)
        write_midi(tmp_path / "smf" / f"{song}.SMF_SYNC.MID")
    return tmp_path


def test_the_notes_are_those_of_the_melody_track_at_their_seconds(corpus):
    manifests = prepare_rwc(corpus / "audio", corpus / "smf", train_songs=2)
    supervision = manifests["train"]["supervisions"]["RM-P001"]
    notes = [(item.symbol, item.start, item.duration) for item in supervision.alignment["note"]]
    assert notes == [("60", 0.5, 0.5), ("64", 1.0, 1.0)]  # 120 beats a minute
    assert supervision.text == "" and set(supervision.alignment) == {"note"}


def test_the_first_songs_by_name_train_and_a_left_out_song_keeps_its_place(corpus):
    truncate(corpus / "audio/RM-P002.flac")
    report = Report("rwc")
    manifests = prepare_rwc(corpus / "audio", corpus / "smf", train_songs=2, report=report)
    songs = {part: [recording.id for recording in manifests[part]["recordings"]] for part in ("train", "test")}
    assert songs == {"train": ["RM-P001"], "test": ["RM-P003"]}
    [named] = report.left_out["broken audio"]
    assert "RM-P002.flac" in named


def test_the_track_name_matches_in_any_case_and_tempo_changes_hold(tmp_path):
    write_midi(tmp_path / "a.mid", track_name="Vocal melody (main)", tempo=1000000)
    notes = melody_notes(tmp_path / "a.mid", "MELODY")
    assert [(note.symbol, note.start, note.end) for note in notes] == [("60", 1.0, 2.0), ("64", 2.0, 4.0)]


def test_a_file_without_the_track_names_the_tracks_that_it_has(tmp_path):
    write_midi(tmp_path / "a.mid", track_name="FLUTE")
    with pytest.raises(BadMidi, match=r"melody.*BASS, FLUTE"):
        melody_notes(tmp_path / "a.mid", "melody")


def test_broken_midi_and_missing_audio_are_named_and_left_out(corpus):
    (corpus / "smf/RM-P002.SMF_SYNC.MID").write_bytes(b"MThd nothing")
    (corpus / "smf/RM-P000.SMF_SYNC.MID").write_bytes((corpus / "smf/RM-P001.SMF_SYNC.MID").read_bytes())
    report = Report("rwc")
    prepare_rwc(corpus / "audio", corpus / "smf", train_songs=2, report=report)
    assert report.left_out["no audio"] == ["RM-P000"]
    assert report.left_out["broken annotation"][0].startswith("RM-P002: RM-P002.SMF_SYNC.MID")


def test_the_program_writes_both_parts_and_a_summary(corpus):
    conf = write_conf(
        corpus,
        {
            "corpora": {
                "rwc": {"audio_dir": str(corpus / "audio"), "annotation_dir": str(corpus / "smf"), "train_songs": 2}
            }
        },
    )
    done = run_program("prepare_rwc", "--conf", conf)
    assert done.returncode == 0, done.stderr
    assert "train: 2 songs" in done.stdout and "test: 1 songs" in done.stdout
    for part in ("train", "test"):
        assert (corpus / f"data/manifests/rwc_recordings_{part}.jsonl.gz").is_file()


def test_a_part_without_songs_and_a_missing_folder_stop_with_one_line(corpus):
    with pytest.raises(UserError, match="rwc test: no songs"):
        prepare_rwc(corpus / "audio", corpus / "smf", train_songs=3)
    conf = write_conf(corpus, {"corpora": {"rwc": {"audio_dir": str(corpus / "nowhere")}}})
    assert_one_clear_line(run_program("prepare_rwc", "--conf", conf), "nowhere", "corpora.rwc.audio_dir")
