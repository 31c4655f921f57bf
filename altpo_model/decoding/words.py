"""From the tokens of a CTC path to words with their frames and confidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from altpo_model.decoding.hypothesis import Word, confidence
from altpo_model.lang import Tokens
from altpo_model.tokens import SPACE_SYMBOL


@dataclass(frozen=True)
class TokenPath:
    """Tokens of a CTC path: ``ids`` (N,); ``frames`` (N, 2), each token's first frame and the one after its last."""

    ids: np.ndarray
    frames: np.ndarray


def collapse(best: np.ndarray, blank: int = 0) -> TokenPath:
    """Merge equal neighbours of a frame-wise token sequence (T,), then leave out the blanks."""
    starts = np.flatnonzero(np.diff(best, prepend=-1))  # [runs]
    ends = np.append(starts[1:], len(best)) if len(best) else starts
    is_token = best[starts] != blank
    return TokenPath(best[starts][is_token], np.stack([starts[is_token], ends[is_token]], axis=1))


def written_words(path: TokenPath, tokens: Tokens, log_probs: np.ndarray) -> list[Word]:
    """The words that the tokens themselves write: what stands between spaces, or what the ``▁`` of pieces begins.

    ``log_probs`` (T, C): where the words' confidence comes from.
    """
    words: list[tuple[str, list[int]]] = [("", [])]
    for index, token in enumerate(path.ids):
        symbol = tokens.symbol(token)
        if symbol.startswith(SPACE_SYMBOL):
            words.append(("", []))
        text = symbol.removeprefix(SPACE_SYMBOL).lower()
        if text:  # neither the space nor a piece that only begins a word
            words[-1] = (words[-1][0] + text, [*words[-1][1], index])
    return [_word(text, indices, path, log_probs) for text, indices in words if text]


def lexicon_words(
    path: TokenPath,
    words: Sequence[str],
    spellings: Mapping[str, Sequence[tuple[int, ...]]],
    tokens: Tokens,
    log_probs: np.ndarray,
) -> list[Word]:
    """The words of a path through a lexicon. ``words``: which they are; ``spellings``: of each word of the lexicon.

    Raises ValueError when the path does not spell the words.
    """
    letters = [index for index, token in enumerate(path.ids) if token != tokens.space]
    ids = tuple(int(path.ids[index]) for index in letters)
    # Of each word, where it can end, and where it begins then: a word may have several spellings.
    begins: list[dict[int, int]] = [{0: 0}]
    for word in words:
        ends: dict[int, int] = {}
        for begin in begins[-1]:
            for spelling in spellings[word]:
                spelt = tuple(token for token in spelling if token != tokens.space)
                if ids[begin : begin + len(spelt)] == spelt:
                    ends.setdefault(begin + len(spelt), begin)
        begins.append(ends)
    end = len(ids)
    found: list[Word] = []
    for word, ends in zip(reversed(words), reversed(begins), strict=False):
        if end not in ends:
            break
        own = letters[ends[end] : end]
        sounding = [index for index in own if tokens.symbol(path.ids[index]) != SPACE_SYMBOL]
        found.append(_word(word, sounding or own, path, log_probs))
        end = ends[end]
    if end != 0 or len(found) != len(words):
        raise ValueError(f"the tokens {ids} do not spell {list(words)}")
    return found[::-1]


def _word(text: str, indices: list[int], path: TokenPath, log_probs: np.ndarray) -> Word:
    """A word of the tokens ``indices`` of the path."""
    peaks = [log_probs[slice(*path.frames[index]), path.ids[index]].max() for index in indices]
    return Word(text, int(path.frames[indices[0], 0]), int(path.frames[indices[-1], 1]), confidence(peaks))
