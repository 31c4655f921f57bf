from collections import Counter

import pytest

from altpo_model.text import CHARACTERS, normalize_text, scoring_text


def test_the_characters_are_the_papers_33():
    assert sorted(CHARACTERS) == sorted("abcdefghijklmnopqrstuvwxyz ,.?!-'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HELLO World", "hello world"),
        ("don\u2019t \u2018cause it\u00b4s", "don't 'cause it's"),
        ("one\u2014two\u2013three\u2010four", "one-two-three-four"),
        ("caf\u00e9 cafe\u0301 na\u00efve", "cafe cafe naive"),
        ("Stra\u00dfe \u0152uvre \u00c6sir sm\u00f8rrebr\u00f8d", "strasse oeuvre aesir smorrebrod"),
        ("\u00bfQu\u00e9? \u00a1S\u00ed!", "que? si!"),
        ("  a\t b\n\u00a0c  ", "a b c"),
        ("wait\u2026", "wait..."),
        ("rock & roll", "rock and roll"),
        ("\u0130stanbul", "istanbul"),
        ("a/b", "a b"),
        ("\u266a", ""),
        ("", ""),
    ],
)
def test_text_is_written_with_the_33_characters(text, expected):
    assert normalize_text(text)[0] == expected


def test_what_is_dropped_is_counted_by_character():
    text, dropped = normalize_text('\u0416 "Luftballons" \u0416\u266a \u00bf')
    assert text == "luftballons"
    assert dropped == Counter({"\u0436": 2, '"': 2, "\u266a": 1, "\u00bf": 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm 18", "i'm eighteen"),
        ("99 red balloons", "ninety-nine red balloons"),
        ("party like it's 1999!", "party like it's nineteen ninety-nine!"),
        ("in 2001, 2010", "in two thousand and one, twenty ten"),
        ("like in the 70\u2019s", "like in the seventies"),
        ("the '80s and 1990s", "the eighties and nineteen nineties"),
        ("2nd 21st", "second twenty-first"),
        ("1,000 miles, 10,000", "one thousand miles, ten thousand"),
        ("3.14.", "three point one four."),
        ("agent 007", "agent zero zero seven"),
        ("8675309", "eight six seven five three zero nine"),
        ("b4 4ever 24-7", "b four four ever twenty-four-seven"),
        ("0", "zero"),
        ("\uff11\u0661\u00b2", "one hundred and twelve"),  # full-width, Arabic-Indic, raised
    ],
)
def test_numbers_are_spelled_out(text, expected):
    assert normalize_text(text) == (expected, Counter())


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("German", "einundzwanzig"),
        ("french", "vingt et un"),
        ("es", "veintiuno"),
        ("no such language", "twenty-one"),
        (None, "twenty-one"),
    ],
)
def test_numbers_are_spelled_out_in_the_songs_language(language, expected):
    assert normalize_text("21", language)[0] == expected


def test_absurdly_long_numbers_and_every_language_end_well():
    assert normalize_text("9" * 5000)[0].count("nine") == 5000
    for language in ("ja", "ru", "ar", "zh", "German", "tlh"):
        normalize_text("1999 2nd 1,000.5 007", language)


def test_accents_and_white_space_do_not_count_as_dropped():
    assert not normalize_text("e\u0301t\u00e9\u00a0\u2014 \u0153\u2019")[1]


def test_normalised_text_stays_as_it_is():
    text = "it's a well-known song, isn't it? yes! no."
    assert normalize_text(text) == (text, Counter())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("well-known, isn't it?", "well known isn't it"),
        ("'cause rock'n'roll' !", "cause rock'n'roll"),
        ("- . '", ""),
    ],
)
def test_scoring_text_keeps_words_and_the_apostrophes_inside_them(text, expected):
    assert scoring_text(text) == expected
