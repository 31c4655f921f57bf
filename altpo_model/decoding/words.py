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
    for index, token in enumerate(path.ids.tolist()):
        symbol = tokens.symbol(token)
        if symbol.startswith(SPACE_SYMBOL):
            words.append(("", []))
        text = symbol.removeprefix(SPACE_SYMBOL).lower()
        if text:  # neither the space nor a piece that only begins a word
            words[-1] = (words[-1][0] + text, [*words[-1][1], index])
    return _with_times([(text, indices) for text, indices in words if text], path, log_probs)


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
    letters = np.flatnonzero(path.ids != (-1 if tokens.space is None else tokens.space)).tolist()
    ids = tuple(path.ids[letters].tolist())
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
    found: list[tuple[str, list[int]]] = []
    for word, ends in zip(reversed(words), reversed(begins), strict=False):
        if end not in ends:
            break
        own = letters[ends[end] : end]
        if tokens.space is None:  # a piece that is `▁` alone does not sound
            own = [index for index in own if tokens.symbol(path.ids[index]) != SPACE_SYMBOL] or own
        found.append((word, own))
        end = ends[end]
    if end != 0 or len(found) != len(words):
        raise ValueError(f"the tokens {ids} do not spell {list(words)}")
    return _with_times(found[::-1], path, log_probs)


def _with_times(words: Sequence[tuple[str, list[int]]], path: TokenPath, log_probs: np.ndarray) -> list[Word]:
    """Words of tokens, which are indices into the path."""
    frames, peaks = path.frames.tolist(), _peaks(path, log_probs)
    return [
        Word(text, frames[own[0]][0], frames[own[-1]][1], confidence([peaks[index] for index in own]))
        for text, own in words
    ]


def _peaks(path: TokenPath, log_probs: np.ndarray) -> list[float]:
    """The highest log posterior of each token among its frames."""
    if not len(path.ids):
        return []
    starts, lengths = path.frames[:, 0], path.frames[:, 1] - path.frames[:, 0]
    offsets = np.cumsum(lengths) - lengths
    frames = np.arange(lengths.sum()) + np.repeat(starts - offsets, lengths)
    return np.maximum.reduceat(log_probs[frames, np.repeat(path.ids, lengths)], offsets).tolist()
