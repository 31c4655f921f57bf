"""Text normalisation: the one place that decides which characters lyrics are written with.

The character set is that of Deng, Nakamura and Yoshii (ISMIR 2022), section 3.2: space, a-z and ``, . ? ! - '``.
"""

import unicodedata
from collections import Counter

from altpo_model.spoken_numbers import spell_out_numbers

CHARACTERS = " abcdefghijklmnopqrstuvwxyz,.?!-'"  # the 33 characters, space first

_APOSTROPHES = "\u2018\u2019\u201b\u02bc\u02b9\u2032\u00b4`\uff07"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2e3a\u2e3b\ufe58\ufe63\uff0d"

# What Unicode's own decomposition (NFKD) does not take to a-z, and the signs that are typography, not text.
_REPLACEMENTS = str.maketrans(
    {
        **dict.fromkeys(_APOSTROPHES, "'"),
        **dict.fromkeys(_DASHES, "-"),
        "\u00ad": "",  # soft hyphen: a place where a line may break
        "\u200b": "",  # zero-width space
        "\u200d": "",  # zero-width joiner
        "\ufeff": "",  # byte-order mark
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ħ": "h",
        "ı": "i",
        "ł": "l",
        "ŋ": "ng",
        "ŧ": "t",
        "&": " and ",
    }
)

_KEPT = frozenset(CHARACTERS)
_SCORING = str.maketrans({",": None, ".": None, "?": None, "!": None, "-": " "})


def normalize_text(text: str, language: str | None = None) -> tuple[str, Counter]:
    """Write ``text`` with the 33 characters of the model.

    language: what numbers are spelled out in, by its name ("German") or code ("de"); English where it is None or a
    language in which num2words cannot count.

    Lower case; typographic apostrophes and dashes become ``'`` and ``-``; accents are folded (``é`` to ``e``, ``ß`` to
    ``ss``); numbers are spelled out; white space of every kind becomes one space, none at the ends. A character that
    has no place among the 33 (a double quote, a letter of another script) becomes a space.

    Returns: the normalised text, and how often each character was dropped (as it stood, in lower case).
    """
    # Apostrophes and dashes go first: NFKD would take some of them (U+00B4) apart into a space and a combining mark.
    lowered = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()).translate(_REPLACEMENTS)
    lowered = spell_out_numbers(lowered, language)
    kept: list[str] = []
    dropped: Counter = Counter()
    for character in lowered:
        if character in _KEPT:
            kept.append(character)
        elif character.isspace():
            kept.append(" ")
        elif unicodedata.combining(character):
            continue  # an accent that has no composed form: folded like the others
        else:
            folded = _fold(character)
            kept.append(folded or " ")
            if not folded:
                dropped[character] += 1
    return " ".join("".join(kept).split()), dropped


def scoring_text(text: str) -> str:
    """What word error rates compare: normalised text with no ``, . ? !``, with ``-`` as a space.

    An apostrophe stays inside a word (``don't``, ``rock'n'roll``) and is removed at a word's ends (``'cause``), where
    editions of one song differ.
    """
    words = (word.strip("'") for word in text.translate(_SCORING).split())
    return " ".join(word for word in words if word)


def _fold(character: str) -> str:
    """The characters of the 33 that ``character`` is made of (without its accents), or nothing."""
    decomposed = unicodedata.normalize("NFKD", character).lower().translate(_REPLACEMENTS)
    return "".join(part for part in decomposed if part in _KEPT and part != " ")
