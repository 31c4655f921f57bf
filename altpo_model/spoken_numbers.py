"""Numbers as they are sung: digits spelled out, by the package num2words."""

import functools
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal

import num2words

from altpo_model.languages import language_code

_YEARS = range(1100, 2100)  # four digits in a song are a year
_LONGEST = 6  # digits; more, or a zero in front, are read one by one: 007, 8675309

# 70's, '80s, 1990s | 2nd | 1,000 | 3.14 | 12
_DECADE = re.compile(r"'?\b((?:\d\d)?\d0)'?s\b")
_ORDINAL = re.compile(r"\b(\d+)(?:st|nd|rd|th)\b")
_NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+(?!\d)|\d+\.\d+|\d+)")


def spell_out_numbers(text: str, language: str | None = None) -> str:
    """``text``, in lower case, with every number in words.

    English has decades ("'80s": eighties), ordinals ("2nd": second), years ("1999": nineteen ninety-nine) and commas in
    thousands; other languages have cardinal numbers. Digits of other scripts and raised ones count as digits.
    """
    if not any(map(_is_digit, text)):
        return text
    text = "".join(str(unicodedata.digit(c)) if _is_digit(c) else c for c in text)
    code = language_code(language) or "en"
    if code not in num2words.CONVERTER_CLASSES:
        code = "en"
    if code == "en":
        text = _replace(_DECADE, text, _decade)
        text = _replace(_ORDINAL, text, lambda digits: _words(digits, "ordinal", code))
    return _replace(_NUMBER, text, lambda digits: _number(digits, code))


def _replace(pattern: re.Pattern, text: str, words: Callable[[str], str]) -> str:
    """Each match in words, with a space where a letter would touch them ("4ever")."""

    def in_words(match: re.Match) -> str:
        before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        return " " * before.isalpha() + words(match[1]) + " " * after.isalpha()

    return pattern.sub(in_words, text)


def _is_digit(character: str) -> bool:
    return unicodedata.digit(character, None) is not None


@functools.cache
def _number(digits: str, code: str) -> str:
    if "," in digits:
        thousands = code == "en" or digits.count(",") > 1
        return _words(digits.replace(",", "" if thousands else "."), "cardinal", code)
    if "." in digits:
        return _words(digits, "cardinal", code)
    if len(digits) > _LONGEST or (digits[0] == "0" and len(digits) > 1):
        return " ".join(_words(digit, "cardinal", code) for digit in digits)
    is_year = code == "en" and len(digits) == 4 and int(digits) in _YEARS
    return _words(digits, "year" if is_year else "cardinal", code)


def _decade(digits: str) -> str:
    words = _words(digits, "year" if len(digits) == 4 else "cardinal", "en")
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def _words(number: str, kind: str, code: str) -> str:
    convert: Callable = num2words.num2words
    longest = _LONGEST if "." in number else 2 * _LONGEST  # nobody sings the name of a larger number
    if len(number.partition(".")[0]) > longest or len(number) > 2 * _LONGEST:
        return " ".join(convert(int(digit), lang=code) for digit in number if digit.isdigit())
    value = Decimal(number) if "." in number else int(number)
    try:
        return convert(value, to=kind, lang=code)
    except Exception:  # num2words cannot say every number in every language, and fails in many ways
        return convert(value, to=kind, lang="en")
