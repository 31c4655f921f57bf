import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lhotse import SupervisionSet, validate
from tiny_audio import ROOT, assert_one_clear_line, run_program, truncate, write_conf, write_sine

from alignments import SongAnnotation, Timed, joined_syllables, song_supervision
from altpo_model.errors import UserError
from altpo_model.ultrastar import format_ultrastar
from altpo_model.ultrastar_export import ultrastar_song
from manifests import Report
from prepare_ultrastar import prepare_ultrastar

REAL = Path(os.environ.get("ALTPO_TEST_DATA", ROOT.parent / "shared" / "data")) / "ultrastar"
TICK = 0.01  # seconds, of the default BPM

# BPM 150: a tick is 0.1 s; tick 0 is 0.5 s into the audio.
BODY = ": 0 5 -3 Don't\n: 5 5 9  sing\n* 10 10 12 ing\n- 20\nF 21 2 0 hey\nE\n"


def song_text(body: str = BODY, **tags: str) -> str:
    tags = {"TITLE": "Al to", "ARTIST": "Vera", "LANGUAGE": "English", "MP3": "audio.wav", **tags}
    return "".join(f"#{name}:{value}\n" for name, value in tags.items() if value) + f"#BPM:150\n#GAP:500\n{body}"


def add_song(
    folder: Path, text: str | None = None, name: str = "song.txt", audio: str | None = "audio.wav", seconds: float = 4.0
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(song_text() if text is None else text, encoding="utf-8")
    if audio:
        write_sine(folder / audio, seconds, rate=8000)
    return folder / name


def prepared(corpus: Path, **options) -> tuple[dict, Report]:
    report = Report("ultrastar")
    return prepare_ultrastar(corpus, report=report, **options)["all"], report


def ids(manifests: dict) -> list[str]:
    return [recording.id for recording in manifests["recordings"]]


def test_words_syllables_and_notes_become_alignments(tmp_path):
    add_song(tmp_path / "Vera - Al to")
    manifests, report = prepared(tmp_path)
    supervision = manifests["supervisions"]["Vera_-_Al_to"]
    assert (supervision.text, supervision.speaker, supervision.language) == ("don't singing hey", "Vera", "English")
    items = {
        level: [(item.symbol, item.start, item.duration) for item in alignment]
        for level, alignment in supervision.alignment.items()
    }
    assert items == {
        "word": [("don't", 0.5, 0.5), ("singing", 1.0, 1.5), ("hey", 2.6, 0.2)],
        "syllable": [("don't", 0.5, 0.5), ("sing", 1.0, 0.5), ("ing", 1.5, 1.0), ("hey", 2.6, 0.2)],
        "note": [("57", 0.5, 0.5), ("69", 1.0, 0.5), ("72", 1.5, 1.0)],
    }
    assert supervision.custom["title"] == "Al to"
    assert supervision.custom["annotation"]["left_out"] == {"notes without a pitch (freestyle or rap)": 1}
    assert report.losses.items == {"notes without a pitch (freestyle or rap)": 1} and not report.left_out


def test_lines_that_nobody_reads_and_notes_out_of_range_are_counted_and_told(tmp_path):
    add_song(tmp_path / "A", song_text("what?\n: 0 4 99 high\n: 4 4 0  low\nQ 8 4 0 x\n: 9 0 0  none\nE\n"))
    manifests, report = prepared(tmp_path)
    assert manifests["supervisions"]["A"].text == "high low"
    assert manifests["supervisions"]["A"].custom["unread_lines"] == [7, 10]
    assert report.losses.items == {
        "lines not understood": 2,
        "notes out of MIDI's range": 1,
        "notes without a length": 1,
        "words without a length": 1,
        "syllables without a length": 1,
    }


def test_other_texts_are_passed_over_in_silence(tmp_path):
    song = add_song(tmp_path / "A")
    (song.parent / "license.txt").write_text("Creative Commons\n  * *\n")
    (song.parent / "._song.txt").write_text(song_text())
    (song.parent / "song.txt.bak").write_text(song_text())
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash/song.txt").write_text(song_text())
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 40)
    manifests, report = prepared(tmp_path)
    assert ids(manifests) == ["A"] and not report.left_out


def test_ids_are_the_folders_and_what_the_text_says_more(tmp_path):
    add_song(tmp_path / 'The  B\'s / A "song"'.replace(" / ", "/"))
    add_song(tmp_path / "Pop" / "É clair", name="É clair.txt")
    add_song(tmp_path / "Pop" / "É clair", name="other one.TXT")
    add_song(tmp_path, name="song.txt")
    add_song(tmp_path, name="on its own.txt")
    manifests, report = prepared(tmp_path)
    assert ids(manifests) == sorted(
        ['The_B\'s__A_"song"', "Pop__É_clair", "Pop__É_clair__other_one", "song", "on_its_own"]
    )
    assert not report.left_out


def test_an_id_is_the_same_for_either_unicode_form(tmp_path):
    add_song(tmp_path / unicodedata.normalize("NFD", "Élise"))
    assert ids(prepared(tmp_path)[0]) == [unicodedata.normalize("NFC", "Élise")]


def test_of_two_songs_with_one_id_the_first_stays_and_the_second_is_listed(tmp_path):
    add_song(tmp_path / "A B")
    add_song(tmp_path / "A_B", song_text(TITLE="Second"))
    add_song(tmp_path / "A_B", name="A_B.txt")
    manifests, report = prepared(tmp_path)
    assert ids(manifests) == ["A_B"] and manifests["supervisions"]["A_B"].custom["title"] == "Al to"
    assert report.left_out == {
        "duplicate id": ["A_B: A_B/A_B.txt, beside A B/song.txt", "A_B: A_B/song.txt, beside A B/song.txt"]
    }


@pytest.mark.parametrize(
    ("tag", "file"),
    [
        ('Vera - Élise ("live") #1\'s.wav', 'Vera - Élise ("live") #1\'s.wav'),
        (unicodedata.normalize("NFC", "Élise.wav"), unicodedata.normalize("NFD", "Élise.wav")),
        (unicodedata.normalize("NFD", "Élise.wav"), unicodedata.normalize("NFC", "Élise.wav")),
        ("AUDIO.WAV", "Audio.wav"),
        (unicodedata.normalize("NFC", "ÉLISE.WAV"), unicodedata.normalize("NFD", "élise.wav")),
        ("sub/audio.wav", "sub/audio.wav"),
        ("Sub\\audio.wav", "sub/audio.wav"),
        ("./sub/../audio.wav", "audio.wav"),
        ("AC\\DC.wav", "AC\\DC.wav"),
    ],
)
def test_audio_is_found_by_its_name_in_other_forms_too(tmp_path, tag, file):
    add_song(tmp_path / "A", song_text(MP3=tag), audio=file)
    write_sine(tmp_path / "A" / "another.flac", 1.0)
    [recording] = prepared(tmp_path)[0]["recordings"]
    assert Path(recording.sources[0].source) == tmp_path / "A" / file


def test_a_name_to_the_letter_goes_before_one_in_other_capitals(tmp_path):
    add_song(tmp_path / "A", song_text(MP3="b.wav"), audio="b.wav")
    write_sine(tmp_path / "A" / "B.wav", 1.0)
    [recording] = prepared(tmp_path)[0]["recordings"]
    assert Path(recording.sources[0].source).name == "b.wav"


def test_the_tag_audio_goes_before_mp3(tmp_path):
    add_song(tmp_path / "A", song_text(MP3="old.wav", AUDIO="new.wav"), audio="new.wav")
    write_sine(tmp_path / "A" / "old.wav", 1.0)
    [recording] = prepared(tmp_path)[0]["recordings"]
    assert Path(recording.sources[0].source).name == "new.wav"


def test_without_a_tag_the_audio_of_the_same_name_or_the_only_one_is_taken(tmp_path):
    add_song(tmp_path / "Named", song_text(MP3=""), audio="Song.wav")
    write_sine(tmp_path / "Named" / "other.wav", 1.0)
    add_song(tmp_path / "Only", song_text(MP3=""), audio="x.wav")
    add_song(tmp_path / "Video", song_text(MP3="", VIDEO="Film.mp4"), audio="x.wav")
    (tmp_path / "Video" / "film.mp4").write_bytes(b"film")
    add_song(tmp_path / "Several", song_text(MP3=""), audio="x.wav")
    write_sine(tmp_path / "Several" / "y.wav", 1.0)
    manifests, report = prepared(tmp_path)
    names = {recording.id: Path(recording.sources[0].source).name for recording in manifests["recordings"]}
    assert names == {"Named": "Song.wav", "Only": "x.wav", "Video": "x.wav"}
    assert report.left_out == {"no audio": ["Several: 4 notes read; it names no audio and has 2 audio files beside it"]}


@pytest.mark.parametrize(
    "tag",
    ["{root}/Other/audio.wav", "../Other/audio.wav", "x/../../Other/audio.wav", "..\\Other\\audio.wav", "C:\\a.wav"],
)
def test_audio_outside_of_the_songs_folder_is_refused(tmp_path, tag):
    add_song(tmp_path / "Other")
    add_song(tmp_path / "A", song_text(MP3=tag.format(root=tmp_path)))
    manifests, report = prepared(tmp_path)
    assert ids(manifests) == ["Other"]
    [left_out] = report.left_out["no audio"]
    assert left_out.startswith("A: 4 notes read; ") and ("outside" in left_out or "absolute" in left_out)


def test_a_song_without_audio_is_listed_with_what_was_read(tmp_path):
    add_song(tmp_path / "A")
    add_song(tmp_path / "B", song_text(MP3="b.mp3"), audio=None)
    (tmp_path / "C.mp3").mkdir()
    add_song(tmp_path, song_text(MP3="C.mp3"), name="C.txt", audio=None)
    _, report = prepared(tmp_path, output_dir=tmp_path / "manifests")
    assert report.left_out == {
        "no audio": ["B: 4 notes read; b.mp3 is not there", "C: 4 notes read; C.mp3 is not there"]
    }
    listed = (tmp_path / "manifests/ultrastar_left_out.tsv").read_text()
    assert listed.splitlines()[0] == "B: 4 notes read; b.mp3 is not there\tno audio"


@pytest.mark.parametrize(
    ("title", "audio"),
    [
        ("Al to (Kar)", "audio.wav"),
        ("Al to [Karaoke]", "audio.wav"),
        ("Al to (Instrumental) ", "audio.wav"),
        ("Al to [karaoke version]", "audio.wav"),
        ("Al to", "Vera - Al to INSTRUMENTAL.wav"),
        ("Al to", "karaoke.wav"),
        ("Al to (Kar)", None),
        ("Al to", "not/there/instrumental.wav"),
    ],
)
def test_an_instrumental_version_is_left_out_as_such(tmp_path, title, audio):
    add_song(tmp_path / "Sung")
    there = audio is not None and "/" not in audio
    text = song_text(TITLE=title, MP3=audio or "audio.wav")
    add_song(tmp_path / "Other", text, audio=audio if there else None)
    manifests, report = prepared(tmp_path)
    assert ids(manifests) == ["Sung"]
    assert report.left_out == {"instrumental version": ["Other: 4 notes read"]}


@pytest.mark.parametrize(
    ("title", "audio"),
    [("(Kar) Al to", "audio.wav"), ("Al to (Karma)", "a.wav"), ("Karaoke Queen", "Catatonia - Karaoke Queen.wav")],
)
def test_a_song_that_only_looks_instrumental_is_kept(tmp_path, title, audio):
    add_song(tmp_path / "A", song_text(TITLE=title, MP3=audio), audio=audio)
    assert ids(prepared(tmp_path)[0]) == ["A"]


def test_languages_choose_by_any_name_and_are_stored_in_english(tmp_path):
    tags = {
        "a": "English",
        "b": "Englisch",
        "c": "eng",
        "d": " english, German",
        "e": "Deutsch",
        "f": "",
        "g": "Gibberish (?)",
        "h": "日本語",
    }
    for song, language in tags.items():
        add_song(tmp_path / song, song_text(LANGUAGE=language))
    manifests, report = prepared(tmp_path, languages=["en", "Japanisch"])
    assert {supervision.id: supervision.language for supervision in manifests["supervisions"]} == {
        "a": "English",
        "b": "English",
        "c": "English",
        "d": "English",
        "h": "Japanese",
    }
    assert report.left_out == {"another language": ["e: Deutsch", "f: none given", "g: Gibberish (?)"]}
    assert len(prepared(tmp_path)[0]["recordings"]) == len(tags)
    with pytest.raises(UserError, match="Gibberish"):
        prepared(tmp_path, languages=["Gibberish"])


def test_a_text_that_claims_to_be_ultrastar_and_cannot_be_used_is_listed(tmp_path):
    add_song(tmp_path / "A")
    add_song(tmp_path / "B", "#TITLE:x\n: 0 4 0 la\nE\n")
    add_song(tmp_path / "C", "#TITLE:x\n#BPM:fast\n: 0 4 0 la\nE\n")
    add_song(tmp_path / "D", "#TITLE:x\n#BPM:300\nE\n")
    add_song(tmp_path / "E", song_text(": 900 4 0 late\nE\n"))
    add_song(tmp_path / "F", song_text() + "x" * 2**20)
    manifests, report = prepared(tmp_path)
    assert ids(manifests) == ["A"]
    assert report.left_out == {
        "broken annotation": [
            "B: no #BPM",
            "C: line 2: #BPM is not a number: 'fast'",
            "D: no notes",
            "F: longer than 1048576 characters",
        ],
        "no words inside the audio": ["E"],
    }


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_texts_of_other_encodings_are_read(tmp_path, encoding):
    song = add_song(tmp_path / "A", audio="Élise.wav")
    song.write_bytes(song_text(": 0 4 0 Élise\nE\n", MP3="Élise.wav", ARTIST="Bjørk").encode(encoding))
    supervision = prepared(tmp_path)[0]["supervisions"]["A"]
    assert (supervision.text, supervision.speaker) == ("elise", "Bjørk")


def test_truncated_audio_is_named_left_out_and_counted(tmp_path):
    add_song(tmp_path / "songs/A")
    add_song(tmp_path / "songs/B", song_text(MP3="b.flac"), audio="b.flac")
    truncate(tmp_path / "songs/B/b.flac")
    conf = write_conf(tmp_path, {"corpora": {"ultrastar": {"dir": str(tmp_path / "songs")}}})
    done = run_program("prepare_ultrastar", "--conf", conf)
    assert done.returncode == 0, done.stderr
    assert "all: 1 songs" in done.stdout and "broken audio: 1 (B: b.flac" in done.stdout
    assert (tmp_path / "data/manifests/ultrastar_recordings_all.jsonl.gz").exists()
    assert (tmp_path / "data/manifests/ultrastar_supervisions_all.jsonl.gz").exists()


def test_no_folder_no_texts_and_no_songs_left_stop_with_one_line(tmp_path):
    conf = write_conf(tmp_path, {"corpora": {"ultrastar": {"dir": str(tmp_path / "nowhere")}}})
    assert_one_clear_line(run_program("prepare_ultrastar", "--conf", conf), "nowhere", "corpora.ultrastar.dir")
    (tmp_path / "songs").mkdir()
    with pytest.raises(UserError, match="holds no UltraStar text"):
        prepare_ultrastar(tmp_path / "songs")
    add_song(tmp_path / "songs/A", audio=None)
    with pytest.raises(UserError, match="no audio: 1"):
        prepare_ultrastar(tmp_path / "songs")


def test_linked_folders_are_walked_and_a_circle_of_links_ends(tmp_path):
    add_song(tmp_path / "elsewhere/A")
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs/Linked").symlink_to(tmp_path / "elsewhere/A")
    (tmp_path / "songs/circle").symlink_to(tmp_path / "songs")
    assert ids(prepared(tmp_path / "songs")[0]) == ["Linked"]


def test_a_name_that_is_not_unicode_is_left_out_and_stops_nothing(tmp_path):
    add_song(tmp_path / "A")
    add_song(tmp_path / "X")
    add_song(tmp_path / "B", song_text(MP3=""))
    try:
        os.rename(tmp_path / "X", tmp_path / os.fsdecode(b"X\xe9"))
        os.rename(tmp_path / "B/audio.wav", tmp_path / "B" / os.fsdecode(b"\xe9.wav"))
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    manifests, report = prepared(tmp_path, output_dir=tmp_path / "manifests")
    assert ids(manifests) == ["A"]
    assert report.left_out == {"file name that is not Unicode": ["X?", "B: its audio; 4 notes read"]}


def test_any_executor_gives_what_one_process_gives(tmp_path):
    for name in "ABC":
        add_song(tmp_path / name)
    alone = prepared(tmp_path)[0]
    with ThreadPoolExecutor(2) as executor:
        together = prepared(tmp_path, executor=executor)[0]
    assert list(alone["recordings"]) == list(together["recordings"])
    assert list(alone["supervisions"]) == list(together["supervisions"])


def test_a_supervision_like_dalis_is_exported_and_read_again_within_a_tick(tmp_path):
    add_song(tmp_path / "first", seconds=9.0)
    sung = [
        ("Don’t", 0.512, 0.998, 57),
        ("sing", 0.998, 1.5, 69),
        ("ing", 1.5, 2.123, 72),
        ("~", 2.2, 2.48, 71),
        ("uh-", 4.001, 4.333, 60),
        ("huh", 4.333, 4.7, None),  # freestyle: a syllable that has no note
        ("te", 5.0, 5.25, 62),
        ("~r,", 5.25, 6.006, 64),
    ]
    annotation = SongAnnotation(
        "first",
        artist="Vera",
        language="English",
        words=[
            Timed("Don’t", 0.512, 0.998),
            Timed("singing", 0.998, 2.48),
            Timed("uh-huh", 4.001, 4.7),
            Timed("ter,", 5.0, 6.006),
        ],
        syllables=joined_syllables(Timed(text, start, end) for text, start, end, _ in sung),
        notes=[Timed(str(number), start, end) for _, start, end, number in sung if number is not None],
    )
    [recording] = prepared(tmp_path)[0]["recordings"]
    supervision, _ = song_supervision(annotation, recording)
    song = ultrastar_song(
        *(supervision.alignment[level] for level in ("word", "syllable", "note")),
        tags={"Title": "First", "Artist": supervision.speaker, "Language": supervision.language, "MP3": "audio.wav"},
    )
    (tmp_path / "first/song.txt").write_text(format_ultrastar(song), encoding="utf-8", newline="\n")
    manifests, report = prepared(tmp_path, languages=["English"])
    again = manifests["supervisions"]["first"]
    assert (again.text, again.speaker, again.language) == ("don't singing uh-huh ter,", "Vera", "English")
    assert again.text == supervision.text and report.losses.items == {"notes without a pitch (freestyle or rap)": 1}
    for level in ("word", "syllable", "note"):
        read, original = again.alignment[level], supervision.alignment[level]
        assert [item.symbol for item in read] == [item.symbol for item in original]
        for item, before in zip(read, original, strict=True):
            assert abs(item.start - before.start) <= TICK and abs(item.end - before.end) <= TICK


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real songs are not at {REAL} (set ALTPO_TEST_DATA)")
def test_the_real_songs_are_read_whole(tmp_path):
    report = Report("ultrastar")
    manifests = prepare_ultrastar(REAL, ["English"], output_dir=tmp_path, report=report)["all"]
    assert ids(manifests) == [
        "Dead_Smiling_Pirates_-_I",
        "Jonathan_Coulton_-_Furry_Old_Lobster",
        "Jonathan_Coulton_-_Monkey_Shines",
        "Jonathan_Coulton_-_Mr._Fancy_Pants",
        "Pornophonique_-_Space_Invaders",
        "Steven_Dunston_-_Northern_Star",
    ]
    assert report.left_out == {"instrumental version": ["Pornophonique_-_Space_Invaders__instrumental: 394 notes read"]}
    assert report.losses.items == {"notes without a pitch (freestyle or rap)": 12} and not report.losses.changes
    validate(manifests["recordings"], read_data=True)
    for supervision in SupervisionSet.from_file(tmp_path / "ultrastar_supervisions_all.jsonl.gz"):
        [text] = [path for path in REAL.glob("*/song.txt") if path.parent.name.replace(" ", "_") == supervision.id]
        lines = text.read_text(encoding="utf-8").splitlines()
        rows = [line.split(" ", 4) for line in lines if line and line[0] in ":*FRG"]
        assert len(supervision.alignment["note"]) == sum(row[0] in ":*" for row in rows)
        assert len(supervision.alignment["syllable"]) == sum(not row[4].strip().startswith("~") for row in rows)
        assert len(supervision.alignment["word"]) == len(supervision.text.split())
        assert supervision.language == "English" and supervision.speaker == text.parent.name.split(" - ")[0]
