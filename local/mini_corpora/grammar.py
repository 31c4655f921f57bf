"""The sentences: a small vocabulary and a grammar of song lines.

A line has 4 to 7 words. The slots of a pattern are filled independently, so that there are some hundred thousand
lines: an n-gram language model learns the patterns, and the acoustic model has to tell the fillers apart.
"""

from dataclasses import dataclass

import numpy as np

# Syllables are parted by hyphens: one for each vowel that espeak-ng speaks in the word ("fire" has one).
FILLERS = {
    "SUBJECT": "i you we they".split(),
    "OWNER": "my your the".split(),
    "VERB": "fol-low re-mem-ber car-ry hold hear find need know call be-lieve want lose".split(),
    "MOVE": "dance sing wait fall run fly whis-per wan-der sleep cry stay shine".split(),
    "NOUN": (
        "riv-er moun-tain o-cean cit-y gar-den win-dow shad-ow thun-der sto-ry sum-mer win-ter morn-ing si-lence "
        "heart dream song moon voice star road rain fire light sky"
    ).split(),
    "ADJECTIVE": (
        "gold-en sil-ver bro-ken lone-ly gen-tle emp-ty burn-ing o-pen lit-tle beau-ti-ful wild cold blue"
    ).split(),
    "ADVERB": "to-night for-ev-er to-geth-er to-mor-row a-gain al-ways slow-ly soft-ly a-lone".split(),
    "PLACE": "in un-der o-ver in-to be-yond through a-long".split(),
}
PATTERNS = [
    pattern.split()
    for pattern in (
        "SUBJECT will VERB OWNER ADJECTIVE NOUN",
        "SUBJECT MOVE PLACE the ADJECTIVE NOUN",
        "the NOUN will MOVE ADVERB",
        "the ADJECTIVE NOUN will nev-er MOVE",
        "oh my ADJECTIVE NOUN VERB me ADVERB",
        "OWNER NOUN is like the ADJECTIVE NOUN",
        "don't MOVE ADVERB PLACE the NOUN",
        "SUBJECT nev-er VERB OWNER NOUN ADVERB",
        "ev-ery NOUN is ADJECTIVE ADVERB",
        "can you VERB the NOUN ADVERB",
        "NOUN and NOUN MOVE PLACE OWNER NOUN",
        "we can MOVE ADVERB un-til the NOUN",
        "when SUBJECT MOVE the NOUN is ADJECTIVE",
        "i can't VERB you PLACE the NOUN",
        "oh ADVERB SUBJECT MOVE with OWNER NOUN",
    )
]
TITLES = [
    f"{adjective.replace('-', '')} {noun.replace('-', '')}".title()
    for adjective in FILLERS["ADJECTIVE"]
    for noun in FILLERS["NOUN"]
]


@dataclass(frozen=True)
class Lyric:
    """A word on paper: its spelling (lower case) is its syllables joined."""

    syllables: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.syllables)


Sentence = tuple[Lyric, ...]


def vocabulary() -> list[str]:
    """All words, sorted."""
    literals = [word for pattern in PATTERNS for word in pattern if not word.isupper()]
    words = {word.replace("-", "") for word in literals + [word for slot in FILLERS.values() for word in slot]}
    return sorted(words)


def text_of(sentence: Sentence) -> str:
    """The words of a sentence, lower case, joined by one space."""
    return " ".join(word.text for word in sentence)


def draw_sentence(rng: np.random.Generator, forbidden: set[str] | frozenset[str] = frozenset()) -> Sentence:
    """A random line without a word twice in its slots, whose text is not in ``forbidden``."""
    while True:
        pattern = PATTERNS[rng.integers(len(PATTERNS))]
        words = [str(rng.choice(FILLERS[slot])) if slot in FILLERS else slot for slot in pattern]
        filled = [word for word, slot in zip(words, pattern, strict=True) if slot in FILLERS]
        sentence = tuple(Lyric(tuple(word.split("-"))) for word in words)
        if len(set(filled)) == len(filled) and text_of(sentence) not in forbidden:
            return sentence
