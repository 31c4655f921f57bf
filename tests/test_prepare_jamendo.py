import csv
import os
import unicodedata
from pathlib import Path

import pytest
import soundfile
from lhotse import SupervisionSet, validate
from tiny_audio import ROOT, assert_one_clear_line, run_program, truncate, write_conf, write_sine

from altpo_model.errors import UserError
from manifests import Report
from prepare_jamendo import list_songs, prepare_jamendo, read_times, read_words

REAL = Path(os.environ.get("ALTPO_TEST_DATA", ROOT.parent / "shared" / "data")) / "jamendolyrics"
COLUMNS = "URL,Filepath,Artist,Title,Genre,LicenseType,Language,LyricOverlap,Polyphonic,NonLexical".split(",")
WORDS = [("J'ai", 0.5, 1.0), ("été", 1.0, 1.5), ("là", 1.5, 2.0)]


def add_song(root: Path, song: str, language: str = "French", suffix: str | None = ".mp3", words=WORDS) -> None:
    for folder in ("lyrics", "annotations/words", "annotations/lines", "mp3"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    new = not (root / "JamendoLyrics.csv").exists()
    with (root / "JamendoLyrics.csv").open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(COLUMNS)
        url = f"https://www.jamendo.com/track/1/{song}"
        writer.writerow([url, f"{song}.mp3", "Éva, Ltd", song, "Pop", "BY-ND", language, "false", "false", "false"])
    (root / "lyrics" / f"{song}.words.txt").write_text("\n".join(word for word, _, _ in words), encoding="utf-8")
    (root / "lyrics" / f"{song}.txt").write_text(" ".join(word for word, _, _ in words), encoding="utf-8")
    rows = "".join(f"{start},{end},nan\n" for _, start, end in words)
    (root / "annotations/words" / f"{song}.csv").write_text("word_start,word_end,line_end\n" + rows)
    if suffix:
        write_sine(root / "mp3" / f"{song}{suffix}", 3.0, rate=44100, channels=2)


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "JamendoLyrics"
    add_song(root, "Capotes_à_un_Franc_-_elmanu")
    add_song(root, "Culture_&_Co._-_'cool'(2)", language="English")
    add_song(root, "No_audio", suffix=None)
    return root


def test_words_have_their_times_and_songs_without_audio_are_listed(corpus):
    report = Report("jamendo")
    manifests = prepare_jamendo(corpus, report=report)["test"]
    supervision = manifests["supervisions"]["Capotes_à_un_Franc_-_elmanu"]
    assert supervision.text == "j'ai ete la"
    assert [(item.symbol, item.start, item.duration) for item in supervision.alignment["word"]] == [
        ("j'ai", 0.5, 0.5),
        ("ete", 1.0, 0.5),
        ("la", 1.5, 0.5),
    ]
    assert (supervision.speaker, supervision.language) == ("Éva, Ltd", "French")
    assert "Culture_&_Co._-_'cool'(2)" in {recording.id for recording in manifests["recordings"]}
    assert report.left_out == {"no audio": ["No_audio: 3 words"]}
    assert report.remarks == ["3 songs with 9 words read"]


def test_languages_choose_in_any_case(corpus):
    manifests = prepare_jamendo(corpus, languages=["english"])["test"]
    assert [recording.id for recording in manifests["recordings"]] == ["Culture_&_Co._-_'cool'(2)"]
    with pytest.raises(UserError, match="another language: 3"):
        prepare_jamendo(corpus, languages=["Welsh"])


def test_audio_is_found_under_a_decomposed_name(corpus):
    audio = corpus / "mp3" / "Capotes_à_un_Franc_-_elmanu.mp3"
    audio.rename(audio.with_name(unicodedata.normalize("NFD", audio.name)))
    assert len(prepare_jamendo(corpus)["test"]["recordings"]) == 2


def test_times_are_in_order_and_inside_the_audio(tmp_path):
    words = [("a", -0.1, 0.5), ("b", 0.4, 1.0), ("c", 2.0, 2.2), ("d", 1.5, 2.5), ("e", 2.9, 3.4), ("f", 4.0, 5.0)]
    add_song(tmp_path, "song", words=words)
    report = Report("jamendo")
    manifests = prepare_jamendo(tmp_path, report=report)["test"]
    recording, supervision = manifests["recordings"]["song"], manifests["supervisions"]["song"]
    items = supervision.alignment["word"]
    assert [item.symbol for item in items] == supervision.text.split() == ["a", "b", "d", "c", "e"]
    assert [(item.start, item.end) for item in items[:4]] == [(0.0, 0.4), (0.4, 1.0), (1.5, 2.0), (2.0, 2.2)]
    assert items[4].end <= recording.duration
    assert report.losses.items == {"words outside the audio": 1}


def test_a_word_with_a_space_in_it_shares_out_its_time_and_one_without_letters_is_counted(tmp_path):
    add_song(tmp_path, "song", words=[("la/laaa", 0.0, 1.2), ("--", 1.2, 1.4), ("*", 1.4, 1.6)])
    report = Report("jamendo")
    supervision = prepare_jamendo(tmp_path, report=report)["test"]["supervisions"]["song"]
    assert [(item.symbol, item.start, item.end) for item in supervision.alignment["word"]] == [
        ("la", 0.0, 0.4),
        ("laaa", 0.4, 1.2),
    ]
    assert report.losses.items == {"words without letters": 2}
    assert report.losses.characters == {"/": 1, "*": 1}


@pytest.mark.parametrize(
    "rows", ["word_start,word_end\n0,1\n", "start,end\n0,1\n1,2\n2,3\n", "word_start,word_end\nx,y\n"]
)
def test_words_that_do_not_fit_their_times_leave_the_song_out(corpus, rows):
    (corpus / "annotations/words/Capotes_à_un_Franc_-_elmanu.csv").write_text(rows)
    report = Report("jamendo")
    assert len(prepare_jamendo(corpus, report=report)["test"]["recordings"]) == 1
    assert report.left_out["broken annotation"][0].startswith("Capotes_à_un_Franc_-_elmanu")


def test_a_broken_annotation_is_named_although_there_is_no_audio(corpus):
    (corpus / "annotations/words/No_audio.csv").write_text("word_start,word_end\n0,1\n")
    report = Report("jamendo")
    prepare_jamendo(corpus, report=report)
    assert report.left_out == {
        "broken annotation": ["No_audio: its lyrics have 3 words, its annotation times for 1"],
    }
    assert report.remarks == ["2 songs with 6 words read"]


def test_a_song_of_the_present_layout_without_times_is_broken(corpus):
    (corpus / "annotations/words/No_audio.csv").unlink()
    report = Report("jamendo")
    prepare_jamendo(corpus, report=report)
    assert report.left_out["broken annotation"] == ["No_audio: annotations/words/No_audio.csv: no such file"]


@pytest.fixture
def first_layout(tmp_path):
    """The layout of 2019, with times for the first of two songs."""
    root = tmp_path / "jamendolyrics"
    for folder in ("lyrics", "annotations"):
        (root / folder).mkdir(parents=True)
    (root / "lyrics/The_Band_-_Hold__Live_.raw.txt").write_text("Hold on \nto me 4\n\nHold\n")
    (root / "lyrics/The_Band_-_Hold__Live_.words.txt").write_text("hold\non\nto\nme\n4\nhold\n")
    (root / "annotations/The_Band_-_Hold__Live_.wordonset.txt").write_text("0.25\n0.5\n0.75\n2\n2\n2.5\n")
    write_sine(root / "mp3/The_Band_-_Hold__Live_.mp3", 5.0)
    (root / "lyrics/Other_-_Song.raw.txt").write_text("Ça va,\n  (my) 2 friends\n")
    write_sine(root / "mp3/Other_-_Song.wav", 3.0)
    return root


def test_in_the_first_layout_a_word_ends_where_the_next_begins_or_a_second_after_its_start(first_layout):
    supervision = prepare_jamendo(first_layout, ["English"])["test"]["supervisions"]["The_Band_-_Hold__Live_"]
    assert supervision.text == "hold on to me four hold"
    assert [(item.start, item.end) for item in supervision.alignment["word"]] == [
        (0.25, 0.5),
        (0.5, 0.75),
        (0.75, 1.75),
        (2.0, 2.5),  # two words begin at once
        (2.0, 2.5),
        (2.5, 3.5),
    ]
    assert (supervision.speaker, supervision.language) == ("The Band", "English")


def test_in_the_first_layout_a_song_without_times_has_its_text(first_layout):
    report = Report("jamendo")
    manifests = prepare_jamendo(first_layout, report=report)["test"]
    supervision = manifests["supervisions"]["Other_-_Song"]
    assert supervision.text == "ca va, my two friends" and not supervision.alignment
    assert manifests["recordings"]["Other_-_Song"].sources[0].source.endswith(".wav")
    assert report.remarks == ["2 songs with 11 words read", "1 songs have text without times"]
    assert report.losses.characters == {"(": 1, ")": 1}
    assert supervision.custom["annotation"]["characters"] == len("Çava,(my)2friends")
    assert supervision.custom["annotation"]["dropped"] == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [("0.1\n0.2\n", "6 words, its annotation times for 2"), ("a\n" * 6, "'a'"), ("nan\n" * 6, "no number")],
)
def test_onsets_that_do_not_fit_the_words_leave_the_song_out(first_layout, content, told):
    (first_layout / "annotations/The_Band_-_Hold__Live_.wordonset.txt").write_text(content)
    report = Report("jamendo")
    assert len(prepare_jamendo(first_layout, report=report)["test"]["recordings"]) == 1
    [broken] = report.left_out["broken annotation"]
    assert broken.startswith("The_Band_-_Hold__Live_: ") and told in broken


def test_without_a_file_of_words_those_of_the_lyrics_are_taken(first_layout):
    (first_layout / "lyrics/The_Band_-_Hold__Live_.words.txt").unlink()
    assert read_words(first_layout, "The_Band_-_Hold__Live_") == ["Hold", "on", "to", "me", "4", "Hold"]


def test_a_table_without_languages_is_the_first_layouts(first_layout):
    """As the data set was from 2019 to 2022; its last version has the ends of lines, and no file of onsets."""
    (first_layout / "JamendoLyrics.csv").write_text("URL,Filepath,Artist\nu,The_Band_-_Hold__Live_.mp3,THE BAND\n")
    (first_layout / "annotations/words").mkdir()
    (first_layout / "annotations/words/The_Band_-_Hold__Live_.csv").write_text(
        "word_start,line_end\n0.25,nan\n0.5,nan\n0.75,\n2,nan\n2.25,2.4\n2.5,4.5\n"
    )
    assert [(song.id, song.artist, song.language) for song in list_songs(first_layout)] == [
        ("The_Band_-_Hold__Live_", "THE BAND", "English")
    ]
    ends = [end for _, end in read_times(first_layout, "The_Band_-_Hold__Live_")]
    assert ends == [0.5, 0.75, 1.75, 2.25, 2.4, 4.5]
    assert len(prepare_jamendo(first_layout, ["English"])["test"]["recordings"]) == 1


def test_the_first_layout_is_english(first_layout):
    with pytest.raises(UserError, match="another language: 2"):
        prepare_jamendo(first_layout, ["German"])


def test_truncated_audio_is_named_left_out_and_counted(corpus):
    add_song(corpus, "Broken", suffix=".flac")
    truncate(corpus / "mp3/Broken.flac")
    conf = write_conf(corpus.parent, {"corpora": {"jamendo": {"dir": str(corpus), "languages": None}}})
    done = run_program("prepare_jamendo", "--conf", conf)
    assert done.returncode == 0, done.stderr
    assert "test: 2 songs" in done.stdout and "broken audio: 1 (Broken: Broken.flac" in done.stdout


def test_a_missing_folder_or_table_stops_with_one_line(tmp_path):
    conf = write_conf(tmp_path, {"corpora": {"jamendo": {"dir": str(tmp_path / "nowhere")}}})
    assert_one_clear_line(run_program("prepare_jamendo", "--conf", conf), "nowhere", "corpora.jamendo.dir")
    with pytest.raises(UserError, match="neither JamendoLyrics.csv .* nor lyrics/<song>.raw.txt"):
        prepare_jamendo(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real JamendoLyrics is not at {REAL} (set ALTPO_TEST_DATA)")
def test_the_real_data_set_is_read_whole(tmp_path):
    report = Report("jamendo")
    manifests = prepare_jamendo(REAL, output_dir=tmp_path, report=report)["test"]
    with_audio = {path.stem for path in (REAL / "mp3").glob("*.mp3")}
    assert {recording.id for recording in manifests["recordings"]} == with_audio
    assert len(with_audio) + len(report.left_out["no audio"]) == 79 and set(report.left_out) == {"no audio"}
    assert report.remarks == ["79 songs with 21580 words read"]
    for supervision in SupervisionSet.from_file(tmp_path / "jamendo_supervisions_test.jsonl.gz"):
        lines = (REAL / "lyrics" / f"{supervision.id}.words.txt").read_text(encoding="utf-8").split()
        words = supervision.alignment["word"]
        assert len(words) == len(lines) == len(supervision.text.split())
        assert all(first.end <= second.start for first, second in zip(words, words[1:], strict=False))
        frames = soundfile.info(REAL / "mp3" / f"{supervision.id}.mp3").duration
        assert words[0].start >= 0 and words[-1].end <= frames
    validate(manifests["recordings"], read_data=True)
    for path in (REAL / "lyrics").glob("*.words.txt"):
        song = path.name.removesuffix(".words.txt")
        assert (
            len(read_words(REAL, song)) == len(path.read_text(encoding="utf-8").split()) == len(read_times(REAL, song))
        )
