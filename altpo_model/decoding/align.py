"""Alignment of given lyrics: when each word is sung, by CTC forced alignment of a whole song at once.

The path is torchaudio's ``forced_align``: the most probable one through the words' characters in their order, with
three changes to the network's classes.

- Between words and at both ends stands a *gap* in place of the space. Its probability is that of blank, space and
  punctuation together, for a network writes no space into a pause where its training segments ended, and punctuation
  only if its training text had any. So lyrics are aligned without punctuation (as `scoring_text` leaves them).
- Within a word the blank counts ``blank_weight`` of what the network says: a pause is sooner between two words than
  within one. This holds a word together whose first characters the network did not hear.
- No character costs more than ``log(floor)``, so that words that are not sung do not push others away: they get
  times in some pause, and a low confidence.

With ``star``, lines have a *star* between them and at both ends in place of the gap: a class that matches every frame
with at least ``star_probability``. It takes what is sung there and is not in the lyrics. (A class that is as probable
as the frame's best other one, as in torchaudio's tutorial, takes too much: the first and the last words of lines.)
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import forced_align

from altpo_model.config import Alignment
from altpo_model.decoding.hypothesis import confidence
from altpo_model.decoding.words import collapse
from altpo_model.errors import UserError
from altpo_model.text import normalize_text, scoring_text
from altpo_model.tokens import SPACE_SYMBOL, CharTokens

_MARKS = frozenset(",.?!-'")


@dataclass(frozen=True)
class AlignedWord:
    """A word of the lyrics as it stood there, its times in seconds, and its confidence from 0 to 1.

    The confidence is that of a decoded word (`altpo_model.decoding.hypothesis.Word`). A word without a character that
    is sung (``***``) has confidence 0 and lies between its neighbours.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class AlignedLine:
    """A line of the lyrics, maybe an empty one. ``score``: `alignment_score` of its characters; None if it has none."""

    words: list[AlignedWord]
    score: float | None


@dataclass(frozen=True)
class AlignedLyrics:
    """The lines as they were given.

    ``score``: `alignment_score` of all characters; low where the lyrics are wrong. ``unexplained``: of the frames in
    which the network hears a character, the share that belongs to no word; high where the lyrics lack lines.
    """

    lines: list[AlignedLine]
    score: float
    unexplained: float

    @property
    def words(self) -> list[AlignedWord]:
        return [word for line in self.lines for word in line.words]


def alignment_score(peaks: Sequence[float]) -> float:
    """How well characters fit the audio: the mean of their log posteriors, between ``log(floor)`` and 0.

    peaks: for each character, the highest log posterior of its frames.
    """
    return float(np.mean(peaks))


class Aligner:
    """Aligns lyrics with the log probabilities of a network that writes ``tokens``.

    These are characters, or pieces of SentencePiece with the same methods, whose ``space`` is None.
    """

    def __init__(self, tokens: CharTokens, options: Alignment):
        self.tokens = tokens
        self.options = options
        symbols = {index: tokens.symbol(index).removeprefix(SPACE_SYMBOL) for index in range(1, len(tokens))}
        self._silent = [tokens.blank, *(index for index, symbol in symbols.items() if set(symbol) <= _MARKS)]
        self._gap = len(tokens)
        self._star = self._gap + 1

    def align(
        self,
        log_probs: Tensor | np.ndarray,
        lines: Sequence[Sequence[str]],
        frame_seconds: float,
        language: str | None = None,
    ) -> AlignedLyrics:
        """Times of the words of ``lines``, which may be empty.

        log_probs: (T, C) natural log probabilities of the song, frame ``i`` centred at ``i * frame_seconds``.
        language: what numbers in the lyrics are spoken in (see `altpo_model.text.normalize_text`).

        Raises UserError when no word has a character that can be sung, when there are more characters than the audio
        can hold, or when C is not the number of tokens.
        """
        log_probs = torch.as_tensor(log_probs).float().cpu()
        frames, classes = log_probs.shape
        if classes != len(self.tokens):
            raise UserError(
                f"the network gives {classes} classes a frame and the token table has {len(self.tokens)}: "
                "they belong to different runs"
            )
        labels, owners = self._labels(lines, language)
        if all(owner is None for owner in owners):
            raise UserError("the lyrics are empty: they have no word with a letter from a to z")
        needed = len(labels) + sum(before == after for before, after in zip(labels, labels[1:], strict=False))
        if needed > frames:
            raise UserError(
                f"the lyrics are too long for the audio: nobody sings their {len(labels)} characters in less than "
                f"{needed * frame_seconds:.1f} s, and the audio has {frames * frame_seconds:.1f} s"
            )
        floored = log_probs.clamp(min=float(np.log(self.options.floor)))
        path, _ = forced_align(self._emissions(floored)[None], torch.tensor([labels]), blank=self.tokens.blank)
        runs = collapse(path[0].numpy(), self.tokens.blank)

        peaks: dict[tuple[int, int], list[float]] = {}  # of the words, by line and place in it
        spans: dict[tuple[int, int], tuple[int, int]] = {}  # frames
        explained = np.zeros(frames, dtype=bool)
        for owner, token, (start, end) in zip(owners, runs.ids, runs.frames.tolist(), strict=True):
            if owner is not None:
                peaks.setdefault(owner, []).append(floored[start:end, token].max().item())
                spans[owner] = (spans.get(owner, (start, end))[0], end)
                explained[start:end] = True
        heard = ~np.isin(log_probs.argmax(dim=1).numpy(), self._silent)
        times = self._times(lines, spans, frames, frame_seconds)
        return AlignedLyrics(
            [self._line(number, line, times, peaks) for number, line in enumerate(lines)],
            alignment_score([peak for word in peaks.values() for peak in word]),
            float((heard & ~explained).sum() / max(1, heard.sum())),
        )

    def _labels(
        self, lines: Sequence[Sequence[str]], language: str | None
    ) -> tuple[list[int], list[tuple[int, int] | None]]:
        """The classes in the order of the path, and the word (line, place in it) of each; None for a gap or a star."""
        between_lines = self._star if self.options.star else self._gap
        labels, owners = [between_lines], [None]
        for i, line in enumerate(lines):
            for j, word in enumerate(line):
                for part in self._spelling(word, language):
                    labels += [*part, self._gap]
                    owners += [(i, j)] * len(part) + [None]
            labels[-1] = between_lines
        return labels, owners

    def _spelling(self, word: str, language: str | None) -> list[list[int]]:
        """The tokens of a word as it is sung, in parts: ``24-hour`` has three. None, where they cannot spell it."""
        parts = []
        for part in scoring_text(normalize_text(word, language)[0]).split():
            with suppress(ValueError):
                parts.append([token for token in self.tokens.spelling(part) if token != self.tokens.space])
        return parts

    def _emissions(self, log_probs: Tensor) -> Tensor:
        """(T, C) -> (T, C + 1) with the gap's class, or (T, C + 2) with the star's too."""
        gap = log_probs[:, self._silent].logsumexp(dim=1, keepdim=True).clamp(max=0.0)
        columns = [log_probs.clone(), gap]
        columns[0][:, self.tokens.blank] += float(np.log(self.options.blank_weight))
        if self.options.star:
            columns.append(gap.clamp(min=float(np.log(self.options.star_probability))))
        return torch.cat(columns, dim=1)

    def _times(
        self,
        lines: Sequence[Sequence[str]],
        spans: dict[tuple[int, int], tuple[int, int]],
        frames: int,
        frame_seconds: float,
    ) -> dict[tuple[int, int], tuple[float, float]]:
        """Start and end of each word in seconds.

        The network's peaks stand inside the sound of their characters. So a word reaches ``margin`` frames beyond its
        own, and where two words would overlap then, they meet in the middle.
        """
        margin = self.options.margin
        words = sorted(spans)
        before = [2 * margin, *(spans[b][0] - spans[a][1] for a, b in zip(words, words[1:], strict=False))]
        after = [*before[1:], 2 * margin]
        length = frames * frame_seconds
        times = {}
        for word, room_before, room_after in zip(words, before, after, strict=True):
            start = spans[word][0] - 0.5 - min(margin, room_before / 2)  # frames begin before their centre
            end = spans[word][1] - 0.5 + min(margin, room_after / 2)
            times[word] = (max(0.0, start * frame_seconds), min(length, end * frame_seconds))
        return self._interpolated(lines, times)

    @staticmethod
    def _interpolated(
        lines: Sequence[Sequence[str]], times: dict[tuple[int, int], tuple[float, float]]
    ) -> dict[tuple[int, int], tuple[float, float]]:
        """The words without characters share the pause that they stand in; at the song's ends they have no length."""
        places = [(i, j) for i, line in enumerate(lines) for j in range(len(line))]
        known = [index for index, place in enumerate(places) if place in times]
        borders = [(-1, times[places[known[0]]][0]), *((index, times[places[index]][1]) for index in known)]
        for (index, left), following in zip(borders, [*known, len(places)], strict=True):
            right = times[places[following]][0] if following < len(places) else left
            silent = places[index + 1 : following]
            edges = np.linspace(left, right, len(silent) + 1).tolist()
            times |= {place: (edges[k], edges[k + 1]) for k, place in enumerate(silent)}
        return times

    @staticmethod
    def _line(
        number: int,
        line: Sequence[str],
        times: dict[tuple[int, int], tuple[float, float]],
        peaks: dict[tuple[int, int], list[float]],
    ) -> AlignedLine:
        heard = [peaks.get((number, j), []) for j in range(len(line))]
        words = [
            AlignedWord(word, *times[number, j], confidence(heard[j]) if heard[j] else 0.0)
            for j, word in enumerate(line)
        ]
        characters = [peak for word in heard for peak in word]
        return AlignedLine(words, alignment_score(characters) if characters else None)
