"""Where the syllables of a spoken sentence lie, from espeak-ng's phonemes."""

from dataclasses import dataclass

from mini_corpora.espeak import Phoneme, Speech, WordGroup

VOWELS = set("aeiouæɐɑɒɔəɚɛɜɪʊʌᵻ")
ONSETS = {a + b for a in "pbtdkɡfθʃ" for b in "ɹlwj"} | {"s" + b for b in "ptkmnlw"}  # consonants that begin a syllable


@dataclass(frozen=True)
class SpokenSyllable:
    """Times in seconds: start <= vowel_start < vowel_end <= end."""

    start: float  # of its first phoneme
    vowel_start: float
    vowel_end: float
    end: float  # the start of the next phoneme, so that the closure before a plosive is not lost


def spoken_syllables(speech: Speech, counts: list[int]) -> list[SpokenSyllable]:
    """One item for each syllable; ``counts`` holds the number of syllables of each word.

    Raises ValueError when espeak-ng speaks a word with another number of vowels.
    """
    bounds = [group.first for group in speech.groups] + [len(counts)]
    syllables: list[list[Phoneme]] = []
    for group, after in zip(speech.groups, bounds[1:], strict=True):
        parts = _parted(group)
        if len(parts) != sum(counts[group.first : after]):
            spoken = " ".join(phoneme.symbol for phoneme in group.phonemes)
            raise ValueError(f"word {group.first}: {sum(counts[group.first : after])} syllables, spoken as {spoken}")
        syllables += parts
    starts = [phonemes[0].start for phonemes in syllables[1:]] + [syllables[-1][-1].end]
    return [_timed(phonemes, following) for phonemes, following in zip(syllables, starts, strict=True)]


def _is_vowel(phoneme: Phoneme) -> bool:
    return any(character in VOWELS for character in phoneme.symbol)


def _parted(group: WordGroup) -> list[list[Phoneme]]:
    """The phonemes of each syllable: one vowel each; of the consonants between two vowels, those that can begin a
    syllable go to the second."""
    phonemes = list(group.phonemes)
    vowels = [i for i, phoneme in enumerate(phonemes) if _is_vowel(phoneme)]
    borders = []
    for left, right in zip(vowels, vowels[1:], strict=False):
        border = right
        if right - left > 1:
            border -= 1
        if right - left > 2 and phonemes[right - 2].symbol + phonemes[right - 1].symbol in ONSETS:
            border -= 1
        borders.append(border)
    return [phonemes[a:b] for a, b in zip([0, *borders], [*borders, len(phonemes)], strict=True)] if vowels else []


def _timed(phonemes: list[Phoneme], following: float) -> SpokenSyllable:
    vowel = next(phoneme for phoneme in phonemes if _is_vowel(phoneme))
    # A longer silence than that of a closure is a pause between phrases, and has no place in a sung line.
    end = min(following, phonemes[-1].end + 0.08)
    return SpokenSyllable(phonemes[0].start, vowel.start, vowel.end, end)
