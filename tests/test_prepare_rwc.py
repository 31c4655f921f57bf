import mido
import pytest
from tiny_audio import assert_one_clear_line, run_program, truncate, write_conf, write_sine

from altpo_model.errors import UserError
from manifests import Report
from prepare_rwc import BadMidi, find_audio, language_of, melody_notes, prepare_rwc


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


def add_songs(corpus, *names):
    for song in names:
        write_sine(corpus / "audio" / f"{song}.flac", 3.0)
        write_midi(corpus / "smf" / f"{song}.SMF_SYNC.MID")


def test_the_number_tells_japanese_from_english(corpus):
    """By RWC's own list: No. 80 is sung in Japanese, No. 81 (How Deep Is Your Love?) and all after it in English."""
    numbered = {song: language_of(f"RM-P{song:03d}") for song in (1, 80, 81, 100)}
    assert numbered == {1: "Japanese", 80: "Japanese", 81: "English", 100: "English"}
    assert [language_of(name) for name in ("RM-P000", "RM-P101", "RM-C001", "My song")] == [None] * 4
    add_songs(corpus, "RM-P081")
    manifests = prepare_rwc(corpus / "audio", corpus / "smf", train_songs=3)
    languages = [[song.language for song in manifests[part]["supervisions"]] for part in ("train", "test")]
    assert languages == [["Japanese"] * 3, ["English"]]


def test_chosen_languages_are_divided_among_themselves_and_the_others_named(corpus):
    add_songs(corpus, "RM-P081", "RM-P082", "Karaoke")
    report = Report("rwc")
    manifests = prepare_rwc(corpus / "audio", corpus / "smf", languages=["english"], train_songs=1, report=report)
    songs = {part: [recording.id for recording in manifests[part]["recordings"]] for part in ("train", "test")}
    assert songs == {"train": ["RM-P081"], "test": ["RM-P082"]}
    assert report.left_out == {
        "another language": [
            "Karaoke: unknown, not RM-P001 to RM-P100",
            "RM-P001: Japanese",
            "RM-P002: Japanese",
            "RM-P003: Japanese",
        ]
    }


def test_a_song_that_rwc_does_not_know_is_taken_with_every_language(corpus):
    add_songs(corpus, "Karaoke")
    manifests = prepare_rwc(corpus / "audio", corpus / "smf", train_songs=1)
    assert [(song.id, song.language) for song in manifests["train"]["supervisions"]] == [("Karaoke", None)]


def test_audio_by_disc_and_track_is_found(tmp_path):
    """Numbers, discs and tracks as in RWC's own list of songs."""
    places = {
        1: "m01/1",
        16: "m01/16",
        17: "m02/1",
        64: "m04/16",
        80: "m05/16",
        81: "m06/1",
        90: "m06/10",
        100: "m07/10",
    }
    for place in places.values():
        write_sine(tmp_path / f"rwc-p-{place}.wav", 0.1)
    for stray in ("m06/11", "m07/0", "m01/cover"):  # the sixth disc has ten tracks
        write_sine(tmp_path / f"rwc-p-{stray}.wav", 0.1)
    write_sine(tmp_path / "rwc-p-m02/02.wav", 0.1)
    found = {song: str(path.relative_to(tmp_path)) for song, path in find_audio(tmp_path).items()}
    expected = {f"RM-P{number:03d}": f"rwc-p-{place}.wav" for number, place in places.items()}
    assert found == {**expected, "RM-P018": "rwc-p-m02/02.wav"}


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
    add_songs(corpus, "RM-P100")  # the conf's default is Japanese
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
    assert "another language: 1 (RM-P100: English)" in done.stdout
    for part in ("train", "test"):
        assert (corpus / f"data/manifests/rwc_recordings_{part}.jsonl.gz").is_file()


def test_a_part_without_songs_and_a_missing_folder_stop_with_one_line(corpus):
    with pytest.raises(UserError, match="rwc test: no songs"):
        prepare_rwc(corpus / "audio", corpus / "smf", train_songs=3)
    conf = write_conf(corpus, {"corpora": {"rwc": {"audio_dir": str(corpus / "nowhere")}}})
    assert_one_clear_line(run_program("prepare_rwc", "--conf", conf), "nowhere", "corpora.rwc.audio_dir")
