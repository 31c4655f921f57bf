import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_audio import ROOT

from altpo_model.ultrastar import (
    MAX_CHARACTERS,
    BadUltraStar,
    NoteLine,
    TimedText,
    UltraStarSong,
    decode_ultrastar,
    format_ultrastar,
    is_ultrastar,
    parse_ultrastar,
    timed_lyrics,
)
from altpo_model.ultrastar_export import ultrastar_song

REAL = Path(os.environ.get("ALTPO_TEST_DATA", ROOT.parent / "shared" / "data")) / "ultrastar"
TICK = 0.01  # seconds, of the default BPM

# BPM 300: 1200 ticks a minute, so a tick is 50 ms; tick 0 is 1.5 s into the audio.
SONG = """#TITLE:Al to
#ARTIST:Vera
#LANGUAGE:English
#MP3:audio.mp3
#BPM:300
#GAP:1500
: 0 10 0 Be
: 10 5 4 lie
: 16 4 7 ve
* 20 20 -3  me
- 45
F 60 4 0 hey
R 64 4 0  you
G 68 2 0  there
: 80 10 12  te
: 90 10 11 ~r
: 100 10 9 ~
E
"""


def song_of(*body: str, tags: str = "#BPM:300\n") -> UltraStarSong:
    return parse_ultrastar(tags + "\n".join(body) + "\nE\n")


def lyrics_of(*texts: str) -> tuple[list[str], list[str]]:
    """The words and the syllables of notes with these texts; a text ``|`` ends the line of the lyrics."""
    body = ["- 1" if text == "|" else f": {4 * i} 4 0 {text}" for i, text in enumerate(texts)]
    lyrics = timed_lyrics(song_of(*body))
    return [word.symbol for word in lyrics.words], [syllable.symbol for syllable in lyrics.syllables]


def starts(song: UltraStarSong) -> list[int]:
    return [note.start for note in song.notes()]


def rounded(items: list[TimedText]) -> list[tuple[str, float, float]]:
    return [(item.symbol, round(item.start, 6), round(item.end, 6)) for item in items]


def test_a_song_has_the_times_words_syllables_and_notes_calculated_by_hand():
    song = parse_ultrastar(SONG)
    assert song.tags == {"TITLE": "Al to", "ARTIST": "Vera", "LANGUAGE": "English", "MP3": "audio.mp3"}
    assert (song.bpm, song.gap, song.unread_lines) == (300.0, 1500.0, [])
    lyrics = timed_lyrics(song)
    assert rounded(lyrics.words) == [
        ("Believe", 1.5, 2.5),
        ("me", 2.5, 3.5),
        ("hey", 4.5, 4.7),
        ("you", 4.7, 4.9),
        ("there", 4.9, 5.0),
        ("ter", 5.5, 7.0),
    ]
    assert rounded(lyrics.syllables) == [
        ("Be", 1.5, 2.0),
        ("lie", 2.0, 2.25),
        ("ve", 2.3, 2.5),
        ("me", 2.5, 3.5),
        ("hey", 4.5, 4.7),
        ("you", 4.7, 4.9),
        ("there", 4.9, 5.0),
        ("ter", 5.5, 7.0),
    ]
    assert rounded(lyrics.notes) == [
        ("60", 1.5, 2.0),
        ("64", 2.0, 2.25),
        ("67", 2.3, 2.5),
        ("57", 2.5, 3.5),
        ("72", 5.5, 6.0),
        ("71", 6.0, 6.5),
        ("69", 6.5, 7.0),
    ]


# The header as it is in the wild


def test_decimal_commas_and_points_are_read():
    song = song_of(": 0 4 0 la", tags="#BPM:380,4\n#GAP:4160.5\n")
    assert (song.bpm, song.gap) == (380.4, 4160.5)
    assert song.seconds(380.4 * 4) == pytest.approx(4.1605 + 60)


def test_a_gap_may_be_missing_or_negative():
    assert song_of(": 0 4 0 la").seconds(0) == 0
    assert song_of(": 0 4 0 la", tags="#BPM:300\n#GAP:-250,5\n").seconds(10) == pytest.approx(0.2495)


def test_tags_are_found_in_any_case_with_blanks_and_an_empty_one_is_none():
    song = song_of(": 0 4 0 la", tags="  #title : A: B \n# Bpm:\t300 \n#Artist:\n#gap: 20\n")
    assert song.tags == {"TITLE": "A: B"} and (song.bpm, song.gap) == (300.0, 20.0)


def test_of_a_tag_given_twice_the_last_counts():
    assert song_of(": 0 4 0 la", tags="#BPM:100\n#BPM:300\n").bpm == 300


# The body as it is in the wild


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_gives_the_same_song(end):
    assert parse_ultrastar(SONG.replace("\n", end)) == parse_ultrastar(SONG)


def test_a_byte_order_mark_left_in_the_text_does_no_harm():
    assert parse_ultrastar("\ufeff" + SONG) == parse_ultrastar(SONG)


def test_a_note_may_lack_the_blank_after_its_kind_and_have_tabs():
    song = song_of(":0 8 14 text", "*\t8\t2\t-3\t more", " F10 2 +5 x", ": 12  4  0  y")
    assert song.notes() == [
        NoteLine(":", 0, 8, 14, "text"),
        NoteLine("*", 8, 2, -3, " more"),
        NoteLine("F", 10, 2, 5, "x"),
        NoteLine(":", 12, 4, 0, " y"),
    ]


def test_the_text_of_a_note_stays_as_it_stands():
    song = song_of(": 0 1 0  7 up ", ": 1 1 0", ": 2 1 0 ", ": 3 1 0 E")
    assert [note.text for note in song.notes()] == [" 7 up ", "", "", "E"]


def test_what_follows_the_end_is_ignored_and_the_end_may_be_missing():
    assert parse_ultrastar(SONG + ": 999 4 0 late\n#BPM:1\nnonsense") == parse_ultrastar(SONG)
    assert parse_ultrastar(SONG.removesuffix("E\n")) == parse_ultrastar(SONG)
    assert parse_ultrastar(SONG.replace("E\n", " E \n") + "nonsense") == parse_ultrastar(SONG)


def test_empty_lines_are_passed_over():
    assert parse_ultrastar(SONG.replace("\n", "\n \t\n\n")) == parse_ultrastar(SONG)


def test_a_line_break_with_two_numbers_moves_nothing_in_absolute_ticks():
    song = song_of(": 60 4 0 a", "- 65 66", ": 66 4 0 b", "- ", ": 70 4 0 c")
    assert starts(song) == [60, 66, 70] and len(song.voices[0]) == 3 and song.unread_lines == []


def test_relative_ticks_count_from_the_offset_of_the_line_breaks():
    tags = "#BPM:300\n#RELATIVE:YES\n#GAP:100\n"
    song = song_of(": 0 4 0 a", "- 8 10", ": 0 4 0 b", ": 5 4 0 c", "- 9", ": 1 4 0 d", tags=tags)
    assert starts(song) == [0, 10, 15, 20]
    assert song.seconds(0) == 0.1


def test_relative_ticks_of_two_voices_are_apart():
    body = ["P1", ": 0 4 0 a", "- 8 10", ": 0 4 0 b", "P2", ": 1 4 0 c", "- 5 6", ": 0 4 0 d", "P1", ": 4 4 0 e"]
    song = song_of(*body, tags="#BPM:300\n#RELATIVE:yes\n")
    assert [[note.start for line in voice for note in line] for voice in song.voices] == [[0, 10, 14], [1, 6]]


def test_a_relative_line_break_without_an_offset_is_refused_for_all_later_times_hang_on_it():
    with pytest.raises(BadUltraStar, match="line 4"):
        song_of(": 0 4 0 a", "- x", ": 0 4 0 b", tags="#BPM:300\n#RELATIVE:yes\n")


def test_negative_ticks_lie_before_the_gap():
    song = song_of(": -10 4 0 a", tags="#BPM:300\n#GAP:1000\n")
    assert song.seconds(starts(song)[0]) == pytest.approx(0.5)


def test_a_tempo_change_holds_from_its_tick_on():
    song = song_of(": 0 40 0 a", "B 20 600", ": 40 4 0 b", "B 40,5 150", tags="#BPM:300\n#GAP:1000\n")
    assert song.tempo_changes == [(20.0, 600.0), (40.5, 150.0)]
    # 20 ticks of 50 ms, then of 25 ms, from 40.5 on of 100 ms.
    ticks = (-2, 0, 20, 40, 40.5, 41.5)
    assert [song.seconds(tick) for tick in ticks] == pytest.approx([0.9, 1, 2, 2.5, 2.5125, 2.6125])


def test_duets_have_two_voices_and_p3_is_both():
    song = song_of("P1", ": 0 4 0 a", "P 2", ": 4 4 0 b", "P3 ", ": 8 4 0 c", "- 12", "P1", ": 13 4 0 d")
    texts = [[[note.text for note in line] for line in voice] for voice in song.voices]
    assert texts == [[["a", "c"], ["d"]], [["b", "c"]]]
    assert sorted(note.text for note in song.notes()) == ["a", "b", "c", "d"]


def test_p3_is_a_third_voice_in_a_versioned_file():
    song = song_of("P1", ": 0 4 0 a", "P3", ": 4 4 0 b", "P5", ": 8 4 0 c", tags="#VERSION:1.0.0\n#BPM:300\n")
    assert [[note.text for note in voice[0]] for voice in song.voices] == [["a"], ["b"], ["c"]]


def test_lines_that_cannot_be_read_are_listed_by_number_and_cost_nothing_else():
    unknown = ["X 4 4 0 b", ": 8 4", ": 1.5 4 0 c", ": 9 -1 0 d", "P7", "B 4", "# no colon", "- 3 x"]
    song = song_of(": 0 4 0 a", *unknown, ": 12 4 0 e")
    assert [note.text for note in song.notes()] == ["a", "e"]
    assert song.unread_lines == [3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no #BPM"),
        ("#TITLE:x\n: 0 4 0 a\n", "no #BPM"),
        ("#BPM:\n: 0 4 0 a\n", "no #BPM"),
        ("#TITLE:x\n#BPM:fast\n: 0 4 0 a\n", "line 2: #BPM is not a number"),
        ("#BPM:nan\n: 0 4 0 a\n", "line 1: #BPM is not a number"),
        ("#BPM:0\n: 0 4 0 a\n", "line 1: #BPM is 0"),
        ("#BPM:-300\n: 0 4 0 a\n", "line 1: #BPM is -300"),
        ("#BPM:99999999\n: 0 4 0 a\n", "line 1: #BPM is 99999999"),
        ("#BPM:300\n#GAP:1:30\n: 0 4 0 a\n", "line 2: #GAP is not a number"),
        ("#BPM:300\n#GAP:99999999999\n: 0 4 0 a\n", "line 2: #GAP is 99999999999"),
        ("#BPM:300\n- 4\nE\n", "no notes"),
        ("#BPM:300\nE\n: 0 4 0 a\n", "no notes"),
        ("#BPM:300\n: 0 4 0 a\n" + "x" * MAX_CHARACTERS, "longer than"),
    ],
)
def test_a_song_without_times_or_notes_is_refused_with_the_line(text, why):
    with pytest.raises(BadUltraStar, match=why):
        parse_ultrastar(text)


def test_numbers_of_absurd_size_are_lines_not_read():
    absurd = [f": {'9' * 5000} 4 0 b", ": 0 9999999999 0 c", ": 4 4 9999999999 d", "B 4 1e9", "B 1 9999999"]
    song = song_of(": 0 4 0 a", *absurd)
    assert [note.text for note in song.notes()] == ["a"] and song.unread_lines == [3, 4, 5, 6, 7]
    body = [": 0 4 0 a", "- 1 999999999", ": 0 4 0 b", "- 1 999999999", ": 5 4 0 c"]
    song = song_of(*body, tags="#BPM:1\n#RELATIVE:yes\n")
    assert [note.text for note in song.notes()] == ["a", "b"] and song.unread_lines == [7]


@pytest.mark.parametrize("start", ["#", "-", "- 5", ":", ": 0 4", ": 0 4 0", "P", "B", "B 4", "B 4.", "", "#ENCODING:"])
def test_a_hostile_line_is_passed_in_a_moment(start):
    began = time.monotonic()
    for filling in (" ", "\t", "1 ", "! ", "~", "#"):
        hostile = start + filling * (200_000 // len(filling)) + "!"
        song = parse_ultrastar(decode_ultrastar(f"#BPM:300\n: 0 4 0 a\n{hostile}\n".encode()))
        timed_lyrics(song)
        is_ultrastar(hostile)
    assert time.monotonic() - began < 10


def test_a_text_with_as_many_notes_as_it_can_have_is_read_in_a_moment():
    began = time.monotonic()
    lines = ["#BPM:300", "P3", *[": 0 1 0 ~a", "B 1 2"] * (MAX_CHARACTERS // 18)]
    lyrics = timed_lyrics(parse_ultrastar("\n".join(lines)))
    assert len(lyrics.words) == 1 and time.monotonic() - began < 30


# Bytes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_an_encoding_is_found_without_a_tag(encoding):
    assert decode_ultrastar("#TITLE:Für Élise\n".encode(encoding)) == "#TITLE:Für Élise\n"


def test_utf_16_is_read_in_either_byte_order():
    assert decode_ultrastar(b"\xff\xfeE\0") == decode_ultrastar(b"\xfe\xff\0E") == "E"


@pytest.mark.parametrize(("tag", "encoding"), [("CP1250", "cp1250"), ("cp1252", "cp1252"), ("Windows-1251", "cp1251")])
def test_the_encoding_that_a_tag_names_is_used(tag, encoding):
    letters = {"cp1250": "Zażółć", "cp1252": "Für €", "cp1251": "Песня"}[encoding]
    text = f"#TITLE:{letters}\r\n # encoding : {tag} \r\n"
    assert decode_ultrastar(text.encode(encoding)) == text
    assert decode_ultrastar(text.replace("\r\n", "\r").encode(encoding)) == text.replace("\r\n", "\r")


@pytest.mark.parametrize("tag", ["UTF8", "utf-8", "AUTO", "base64", "no such", "utf-16", ""])
def test_an_unknown_or_wrong_encoding_tag_is_ignored(tag):
    text = f"#ENCODING:{tag}\n#TITLE:Für Élise\n"
    assert decode_ultrastar(text.encode("utf-8")) == text
    assert decode_ultrastar(text.encode("latin-1")) == text


def test_bytes_that_no_encoding_has_are_read_all_the_same():
    assert decode_ultrastar(b"\x81\xe9") == "\x81é"
    assert decode_ultrastar(b"#ENCODING:CP1252\n\x81") == "#ENCODING:CP1252\n\x81"
    assert decode_ultrastar(b"\xff\xfeE\0E").startswith("E")


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_a_song_or_refused(data):
    text = decode_ultrastar(data)
    is_ultrastar(text)
    try:
        timed_lyrics(parse_ultrastar("#BPM:300\n: 0 4 0 a\n" + text))
    except BadUltraStar as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        (SONG, True),
        ("#title: x\r", True),
        ("# BPM :300", True),
        (":0 8 14 la", True),
        ("", False),
        ("#COVER:x\n- 20\nE\n", False),
        ("  * * ___ *\nThis UltraStar Song File was created using Creative Commons\n", False),
    ],
)
def test_a_text_claims_to_be_ultrastar_by_a_tag_or_a_note(text, claims):
    assert is_ultrastar(text) is claims


# Words from syllables


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["eigh", "teen?", " you"], ["eighteen?", "you"]),
        (["be ", "lie", "ve ", "me"], ["be", "lieve", "me"]),
        (["one", "|", "two", "|", " three"], ["one", "two", "three"]),
        ([" te", "~r"], ["ter"]),
        ([" te", " ~r", "min"], ["termin"]),
        (["te ", "~r ", "min"], ["ter", "min"]),
        ([" a", "~", "~nd", " b"], ["and", "b"]),
        ([" ly", "~", "ing"], ["lying"]),
        ([" a~", "re."], ["are."]),
        ([" be", "~ ,", " or"], ["be,", "or"]),
        ([" you", "~?"], ["you?"]),
        (["vous ?", " non"], ["vous?", "non"]),
        (["of a", "ny"], ["of", "any"]),
        (["ma", "~ke it", " so"], ["make", "it", "so"]),
        (["go", "~ on"], ["go", "on"]),
        (["te", "|", "~r", " x"], ["ter", "x"]),
        (["~", " oh"], ["oh"]),
        (["~oh"], ["oh"]),
        (["", "la", " ", "la"], ["la", "la"]),
    ],
)
def test_texts_make_words(texts, words):
    assert lyrics_of(*texts)[0] == words


@pytest.mark.parametrize(
    ("texts", "words", "syllables"),
    [
        (["some-", "thing"], "something", "some thing"),
        (["e-", "very-", "thing", " goes"], "everything goes", "e very thing goes"),
        (["some-", "~", "thing"], "something", "some thing"),
        (["well-", " known"], "well- known", "well- known"),
        (["well-known", " to", "day"], "well-known today", "well-known to day"),
        # One hyphen at three joints: this song does not mark its joints.
        (["uh-", "huh", " eigh", "teen", " e", "ven"], "uh-huh eighteen even", "uh- huh eigh teen e ven"),
    ],
)
def test_hyphens_at_joints_are_marks_where_the_song_marks_its_joints(texts, words, syllables):
    assert lyrics_of(*texts) == (words.split(), syllables.split())


def test_a_melisma_is_one_syllable_with_several_notes():
    lyrics = timed_lyrics(song_of(": 0 4 0  lo", ": 4 4 2 ~", ": 10 4 4 ~ve", ": 20 4 0  me"))
    assert rounded(lyrics.syllables) == [("love", 0.0, 0.7), ("me", 1.0, 1.2)]
    assert [note.symbol for note in lyrics.notes] == ["60", "62", "64", "60"]


def test_a_bare_tilde_first_in_its_line_is_a_note_of_no_syllable():
    lyrics = timed_lyrics(song_of(": 0 4 0 la", "- 4", ": 20 4 2 ~", ": 24 4 2 ~", ": 28 4 0  lo"))
    assert rounded(lyrics.words) == rounded(lyrics.syllables) == [("la", 0.0, 0.2), ("lo", 1.4, 1.6)]
    assert len(lyrics.notes) == 4


def test_words_that_share_a_note_share_its_time_by_letters():
    lyrics = timed_lyrics(song_of(": 0 20 0 I love"))
    assert rounded(lyrics.words) == [("I", 0.0, 0.2), ("love", 0.2, 1.0)]


def test_freestyle_and_rap_have_words_and_no_notes():
    lyrics = timed_lyrics(song_of("F 0 4 9 a", "R 4 4 9  b", "G 8 4 9  c", ": 12 4 9 ~"))
    assert [word.symbol for word in lyrics.words] == ["a", "b", "c"]
    assert rounded(lyrics.notes) == [("69", 0.6, 0.8)]


def test_two_voices_are_merged_in_time_and_never_mixed_into_one_word():
    lyrics = timed_lyrics(song_of("P1", ": 0 4 0 hel", ": 8 4 0 lo", "P2", ": 4 4 7 good", ": 12 4 7 bye"))
    assert rounded(lyrics.words) == [("hello", 0.0, 0.6), ("goodbye", 0.2, 0.8)]
    assert [syllable.symbol for syllable in lyrics.syllables] == ["hel", "good", "lo", "bye"]
    assert [note.symbol for note in lyrics.notes] == ["60", "67", "60", "67"]


def test_what_both_voices_sing_counts_once_and_harmony_keeps_both_notes():
    lyrics = timed_lyrics(song_of("P1", ": 0 4 0 oh", ": 4 4 0  yes", "P2", ": 0 4 0 oh", ": 4 4 4  yes"))
    assert [word.symbol for word in lyrics.words] == ["oh", "yes"]
    assert [note.symbol for note in lyrics.notes] == ["60", "60", "64"]
    assert len(song_of("P3", ": 0 4 0 oh", "F 4 4 0  yes").notes()) == 2


def test_a_pitch_beyond_midi_is_told_by_its_number():
    assert [note.symbol for note in timed_lyrics(song_of(": 0 4 -61 a", ": 4 4 68  b")).notes] == ["-1", "128"]


# Writing


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=8)
NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=8).filter(
    lambda name: name not in ("BPM", "GAP", "RELATIVE", "ENCODING")
)
VALUES = TEXTS.map(str.strip).filter(bool)
TICKS = st.integers(-(10**6), 10**6)
NOTES = st.builds(NoteLine, st.sampled_from(":*FRG"), TICKS, st.integers(0, 10**4), st.integers(-99, 99), TEXTS)
VOICES = st.lists(st.lists(NOTES, min_size=1, max_size=4), min_size=1, max_size=3)
BPMS = st.floats(0.01, 1e5)
SONGS = st.builds(
    UltraStarSong,
    tags=st.dictionaries(NAMES, VALUES, max_size=3),
    bpm=BPMS,
    gap=st.floats(-1e9, 1e9),
    voices=st.lists(VOICES, min_size=1, max_size=2),
    tempo_changes=st.dictionaries(st.one_of(TICKS, st.floats(-1e6, 1e6)), BPMS, max_size=3).map(
        lambda changes: sorted(changes.items())
    ),
)


@given(SONGS)
@settings(deadline=None)
def test_a_written_song_is_read_as_it_was(song):
    assert parse_ultrastar(decode_ultrastar(format_ultrastar(song).encode("utf-8"))) == song


def test_three_voices_are_written_so_that_they_stay_three():
    song = UltraStarSong({}, 300.0, 0.0, [[[NoteLine(":", 0, 4, 0, text)]] for text in "abc"])
    assert parse_ultrastar(format_ultrastar(song)).voices == song.voices


def test_a_written_song_is_laid_out_as_karaoke_programs_expect():
    song = ultrastar_song(
        words=[TimedText("be,", 1.0, 2.0), TimedText("love", 2.0, 3.0), TimedText("uh", 5.0, 5.5)],
        syllables=[
            TimedText("be,", 1.0, 2.0),
            TimedText("lo", 2.0, 2.5),
            TimedText("ve", 2.5, 3.0),
            TimedText("uh", 5.0, 5.5),
        ],
        notes=[
            TimedText("60", 1.0, 1.5),
            TimedText("62", 1.5, 2.0),
            TimedText("57", 2.0, 2.5),
            TimedText("59", 2.5, 3.0),
        ],
        tags={"mp3": "a.mp3", "Title": "A\nB", "artist": "", "genre": "Pop"},
    )
    assert format_ultrastar(song) == (
        "#TITLE:A B\n#MP3:a.mp3\n#GENRE:Pop\n#BPM:1500\n#GAP:0\n"
        ": 100 50 0 be,\n: 150 50 2 ~\n: 200 50 -3  lo\n: 250 50 -1 ve\n- 300\nF 500 50 0 uh\nE\n"
    )


def test_a_note_of_no_syllable_prolongs_no_word_even_inside_of_one():
    words = [TimedText("hello", 1.0, 3.0)]
    syllables = [TimedText("hel", 1.0, 1.5), TimedText("lo", 2.5, 3.0)]
    notes = [TimedText(str(60 + i), 0.5 + i / 2, 1.0 + i / 2) for i in range(6)]
    lyrics = timed_lyrics(ultrastar_song(words, syllables, notes))
    assert (rounded(lyrics.words), rounded(lyrics.syllables)) == (words, syllables)
    assert rounded(lyrics.notes) == notes


def test_hyphens_of_the_text_outlive_the_writing():
    words = [TimedText("uh-huh", 0.0, 1.0), TimedText("a-", 1.0, 2.0)]
    syllables = [TimedText("uh-", 0.0, 0.5), TimedText("huh", 0.5, 1.0), TimedText("a-", 1.0, 2.0)]
    lyrics = timed_lyrics(ultrastar_song(words, syllables))
    assert (rounded(lyrics.words), rounded(lyrics.syllables)) == (words, syllables)


def test_a_word_whose_syllables_do_not_spell_it_is_one_syllable_and_words_can_do_without_any():
    words = [TimedText("hello", 0.0, 1.0), TimedText("you", 1.0, 2.0)]
    for syllables in ([TimedText("hal", 0.0, 0.5), TimedText("lo", 0.5, 1.0), TimedText("you", 1.0, 2.0)], []):
        lyrics = timed_lyrics(ultrastar_song(words, syllables))
        assert rounded(lyrics.words) == rounded(lyrics.syllables) == words


def test_a_long_line_ends_with_a_word_though_there_is_no_pause():
    words = [TimedText("lalala", i / 2, i / 2 + 0.5) for i in range(40)]
    song = ultrastar_song(words)
    assert max(sum(len(note.text) for note in line) for line in song.voices[0]) < 60
    assert [word.symbol for word in timed_lyrics(song).words] == ["lalala"] * 40


def test_short_freestyle_can_be_left_out():
    words, notes = [TimedText("la", 1.0, 2.0)], [TimedText("60", 1.1, 1.8)]
    kinds = [[n.kind for n in ultrastar_song(words, [], notes, shortest_freestyle=s).notes()] for s in (0.0, 0.15, 0.3)]
    assert kinds == [["F", ":", "F"], [":", "F"], [":"]]
    assert [note.kind for note in ultrastar_song(words, shortest_freestyle=9.0).notes()] == ["F"]


def test_a_rest_inside_of_a_melisma_stays_a_rest():
    words, notes = [TimedText("la", 1.0, 2.0)], [TimedText("60", 1.0, 1.4), TimedText("62", 1.6, 2.0)]
    assert [note.kind for note in ultrastar_song(words, [], notes).notes()] == [":", ":"]


def test_a_song_of_nothing_is_written():
    assert format_ultrastar(ultrastar_song([])) == "#BPM:1500\n#GAP:0\nE\n"


def test_times_that_are_none_are_refused():
    with pytest.raises(ValueError, match="'la' lasts"):
        ultrastar_song([TimedText("la", 2.0, 1.0)])
    with pytest.raises(ValueError, match="'60' lasts"):
        ultrastar_song([], notes=[TimedText("60", 0.0, float("inf"))])


SPELLING = st.text("abcdefghijklmnopqrstuvwxyz'-,.?!", min_size=1, max_size=4)
STEP = st.integers(1, 700).map(lambda milliseconds: milliseconds / 1000)
MIDI = st.integers(0, 127).map(str)


@st.composite
def sung_sequences(draw):
    """Words, their syllables, and notes inside of the syllables or between them; as a karaoke corpus has them."""
    words, syllables, notes = [], [], []
    now = draw(STEP)

    def add_note() -> None:
        nonlocal now
        end = now + draw(STEP)
        notes.append(TimedText(draw(MIDI), now, end))
        now = end

    for _ in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            now += draw(STEP)
        if draw(st.integers(0, 3)) == 0:
            add_note()
        word_start, text = now, ""
        for _ in range(draw(st.integers(1, 3))):
            if text and draw(st.integers(0, 3)) == 0:
                add_note()
            syllable_start = now
            for part in draw(st.lists(st.sampled_from(["note", "silence"]), min_size=1, max_size=3)):
                if part == "note":
                    add_note()
                else:
                    now += draw(STEP)
            syllables.append(TimedText(draw(SPELLING), syllable_start, now))
            text += syllables[-1].symbol
        words.append(TimedText(text, word_start, now))
    return words, syllables, notes


def assert_agree(read: list[TimedText], originals: list[TimedText], tick: float = TICK) -> None:
    assert [item.symbol for item in read] == [item.symbol for item in originals]
    for item, original in zip(read, originals, strict=True):
        assert abs(item.start - original.start) <= tick + 1e-9 and abs(item.end - original.end) <= tick + 1e-9


@given(sung_sequences())
@settings(deadline=None, max_examples=200)
def test_words_syllables_and_notes_are_read_again_within_a_tick(sequences):
    song = ultrastar_song(*sequences)
    lyrics = timed_lyrics(parse_ultrastar(format_ultrastar(song)))
    for read, originals in zip((lyrics.words, lyrics.syllables, lyrics.notes), sequences, strict=True):
        assert_agree(read, originals)


SPANS = st.tuples(st.integers(0, 2000), st.integers(1, 300)).map(lambda span: (span[0] / 100, sum(span) / 100))
LOOSE_WORDS = st.lists(st.builds(lambda text, span: TimedText(text, *span), SPELLING, SPANS), min_size=1, max_size=6)
LOOSE_NOTES = st.lists(st.builds(lambda note, span: TimedText(note, *span), MIDI, SPANS), max_size=8)


@given(LOOSE_WORDS, LOOSE_NOTES)
@settings(deadline=None, max_examples=200)
def test_words_and_notes_that_do_not_fit_each_other_lose_no_word_and_no_note(words, notes):
    lyrics = timed_lyrics(parse_ultrastar(format_ultrastar(ultrastar_song(words, [], notes))))
    assert sorted(word.symbol for word in lyrics.words) == sorted(word.symbol for word in words)
    assert sorted(rounded(lyrics.notes)) == sorted(rounded(notes))


# Real songs


needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real songs are not at {REAL} (set ALTPO_TEST_DATA)")


def real_texts() -> list[Path]:
    return sorted(REAL.glob("*/song.txt")) + sorted(REAL.glob("*/instrumental.txt"))


@needs_real
def test_every_note_and_syllable_of_the_real_songs_is_read():
    assert len(real_texts()) == 7
    for path in real_texts():
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [tuple(line.split(" ", 4)) for line in lines if line and line[0] in ":*FRG"]
        song = parse_ultrastar(decode_ultrastar(path.read_bytes()))
        read = [(note.kind, str(note.start), str(note.length), str(note.pitch), note.text) for note in song.notes()]
        assert read == rows and song.unread_lines == []
        lyrics = timed_lyrics(song)
        assert len(lyrics.notes) == sum(row[0] in ":*" for row in rows)
        assert len(lyrics.syllables) == sum(not row[4].strip().startswith("~") for row in rows)
        letters = "".join(row[4] for row in rows).replace("~", "")
        assert "".join(word.symbol for word in lyrics.words) == "".join(letters.split())


@needs_real
@pytest.mark.parametrize(
    ("song", "words", "count"),
    [
        ("Dead Smiling Pirates - I", "Don’t you believe that I’m eighteen? Yeah, heah! Don’t you believe", 182),
        ("Jonathan Coulton - Furry Old Lobster", "The beaches are empty and bare Sing hey hidey ho Where'd", 202),
        ("Jonathan Coulton - Monkey Shines", "do you believe It will get better Can you forgive a big mistake?", 78),
        ("Jonathan Coulton - Mr. Fancy Pants", "The whole world knows It's only clothes And deep inside He's sad", 197),
        ("Pornophonique - Space Invaders", "They seem to be, at least to me, like the undead walk on earth.", 281),
        (
            "Steven Dunston - Northern Star",
            "in things, I can't deny. I wanna get lost, I wanna get lost at any cost,",
            174,
        ),
    ],
)
def test_the_words_of_the_real_songs_are_those_that_are_sung(song, words, count):
    lyrics = timed_lyrics(parse_ultrastar(decode_ultrastar((REAL / song / "song.txt").read_bytes())))
    assert words in " ".join(word.symbol for word in lyrics.words)
    assert len(lyrics.words) == count


@needs_real
def test_the_real_songs_are_written_and_read_again():
    for path in real_texts():
        song = parse_ultrastar(decode_ultrastar(path.read_bytes()))
        assert parse_ultrastar(format_ultrastar(song)) == song
        lyrics = timed_lyrics(song)
        written = format_ultrastar(ultrastar_song(lyrics.words, lyrics.syllables, lyrics.notes))
        again = timed_lyrics(parse_ultrastar(written))
        assert_agree(again.words, lyrics.words)
        assert_agree(again.syllables, lyrics.syllables)
        assert_agree(again.notes, lyrics.notes)
