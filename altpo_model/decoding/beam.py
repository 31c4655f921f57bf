"""CTC beam search by flashlight-text: over a lexicon with a word n-gram model, or over tokens with a model of tokens.

The score of a word sequence W with a CTC path A is

    sum_t ln p(A_t | X)  +  lm_scale * ln p_LM(W)  +  word_score * |W|

and hypotheses with the same words keep their best path (the maximum, not the sum over paths). flashlight and torchaudio
multiply KenLM's logarithms to the base 10, so that their ``lm_weight`` is our lm_scale times ln 10.

Frames that are surely blank cost most of a search and say nothing: of several in a row whose blank is surer than
``blank_threshold`` only the first is searched, the others count as blank (the phone synchronous decoding of Chen et
al., "Phone Synchronous Speech Recognition With CTC Lattices", TASLP 2017).
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from flashlight.lib.text.decoder import (
    CriterionType,
    LexiconDecoder,
    LexiconDecoderOptions,
    LexiconFreeDecoder,
    LexiconFreeDecoderOptions,
    SmearingMode,
    Trie,
)
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary

from altpo_model.config import Decoding
from altpo_model.decoding.emissions import LexiconEmissions
from altpo_model.decoding.hypothesis import Hypothesis
from altpo_model.decoding.language_model import check_vocabulary, load_kenlm
from altpo_model.decoding.parallel import decode_in_processes
from altpo_model.decoding.words import collapse, lexicon_words, written_words
from altpo_model.lang import Lang, Tokens

_UNKNOWN_WORD = "<unk>"


class FlashlightSearch(ABC):
    """What both searches share: a decoder of flashlight, made of options."""

    tokens: Tokens

    def with_options(self, options: Decoding) -> Self:
        """The same search with other beam widths and weights; lexicon and language model are shared."""
        other = copy.copy(self)
        other._set(options)
        return other

    @abstractmethod
    def decode(self, log_probs: np.ndarray) -> Hypothesis:
        """The best words of one utterance: (T, C) natural log probabilities; T may be 0.

        A word starts at the frame of its first token and ends after the last frame of its last one. Raises UserError
        when C is not the number of tokens.
        """

    def decode_batch(
        self, batch: Sequence[np.ndarray], jobs: int = 1, references: Sequence[str] | None = None
    ) -> list[Hypothesis]:
        """Hypotheses of several utterances, each (T, C), in their order, by at most ``jobs`` processes."""
        return decode_in_processes(self.decode, batch, jobs)

    def _set(self, options: Decoding) -> None:
        self._blank_threshold = options.blank_threshold
        self._decoder = self._make_decoder(
            options,
            {
                "beam_size": options.beam,
                "beam_size_token": min(options.beam_tokens, len(self.tokens)),
                "beam_threshold": options.beam_threshold,
                "lm_weight": options.lm_scale * math.log(10),
                "sil_score": 0.0,
                "log_add": False,
                "criterion_type": CriterionType.CTC,
            },
        )

    @abstractmethod
    def _make_decoder(self, options: Decoding, shared: dict[str, Any]) -> LexiconDecoder | LexiconFreeDecoder: ...


class BeamSearch(FlashlightSearch):
    """Beam search over the words of a lexicon.

    ``lang``: the network's tokens and the lexicon. ``language_model``: a KenLM binary (or ARPA) file over words.
    ``options``: beam widths and weights, which are numbers here.

    With SentencePiece pieces nothing marks a word's end, and flashlight takes no second frame of a word's last piece.
    So where the network's best token is that of the frame before, its probability counts as blank's too.

    Raises UserError when the language model is missing, cannot be read or is of another vocabulary.
    """

    def __init__(self, lang: Lang, language_model: str | Path, options: Decoding):
        self.tokens = lang.tokens
        self._spellings = lang.spellings
        self._words = list(self._spellings)
        check_vocabulary(language_model, self._words, load_kenlm(language_model))
        dictionary = Dictionary([*self._words, _UNKNOWN_WORD])
        self._language_model = KenLM(str(language_model), dictionary)
        self._unknown_word = dictionary.get_index(_UNKNOWN_WORD)
        self._trie = self._lexicon_trie(lang, dictionary)
        self.emissions = LexiconEmissions(lang.tokens, (spelling for _, spelling in lang.lexicon))
        self._set(options)

    def decode(self, log_probs: np.ndarray) -> Hypothesis:
        emissions = self.emissions(log_probs)
        if len(log_probs) == 0:
            return Hypothesis()
        searched = emissions if self.tokens.space is not None else _repeats_as_blank(emissions, self.tokens.blank)
        found = _search(self._decoder, searched, self.tokens.blank, self._blank_threshold)
        ends = np.flatnonzero(found.words >= 0)
        words = [self._words[index] for index in found.words[ends]]
        # Where the beam has lost every whole word, what was begun is left out.
        path = collapse(found.tokens[: ends[-1] + 1] if words else found.tokens[:0], self.tokens.blank)
        return Hypothesis(lexicon_words(path, words, self._spellings, self.tokens, emissions), found.score)

    def _make_decoder(self, options: Decoding, shared: dict[str, Any]) -> LexiconDecoder:
        unknown = float("-inf")  # only words of the lexicon
        return LexiconDecoder(
            LexiconDecoderOptions(word_score=options.word_score, unk_score=unknown, **shared),
            self._trie,
            self._language_model,
            _silence(self.tokens),
            self.tokens.blank,
            self._unknown_word,
            [],  # no transition scores in CTC
            False,  # the language model is over words
        )

    def _lexicon_trie(self, lang: Lang, dictionary: Dictionary) -> Trie:
        """Spellings, with the unigram score of each word spread back to the root: the search's look-ahead."""
        trie = Trie(len(self.tokens), _silence(self.tokens))
        no_context = self._language_model.start(True)
        for word, spelling in lang.lexicon:
            index = dictionary.get_index(word)
            trie.insert(list(spelling), index, self._language_model.score(no_context, index)[1])
        trie.smear(SmearingMode.MAX)
        return trie


class LexiconFreeBeamSearch(FlashlightSearch):
    """Beam search over tokens with an n-gram model over tokens; any word may come out.

    ``language_model``: a KenLM file over the tokens' symbols (local/prepare_lang.py trains one), in whose logarithms
    ``lm_scale`` counts; there is no word score. Raises UserError as `BeamSearch` does.
    """

    def __init__(self, tokens: Tokens, language_model: str | Path, options: Decoding):
        self.tokens = tokens
        symbols = [tokens.symbol(index) for index in range(len(tokens))]
        vocabulary = load_kenlm(language_model)
        check_vocabulary(language_model, symbols, vocabulary)
        self._language_model = KenLM(str(language_model), Dictionary(symbols))
        # What the model does not know, such as punctuation marks, is part of no word.
        self._emissions = LexiconEmissions(tokens, [[i] for i, symbol in enumerate(symbols) if symbol in vocabulary])
        self._set(options)

    def decode(self, log_probs: np.ndarray) -> Hypothesis:
        emissions = self._emissions(log_probs)
        if len(log_probs) == 0:
            return Hypothesis()
        found = _search(self._decoder, emissions, self.tokens.blank, self._blank_threshold)
        return Hypothesis(written_words(collapse(found.tokens, self.tokens.blank), self.tokens, emissions), found.score)

    def _make_decoder(self, options: Decoding, shared: dict[str, Any]) -> LexiconFreeDecoder:
        blank, silence = self.tokens.blank, _silence(self.tokens)
        return LexiconFreeDecoder(LexiconFreeDecoderOptions(**shared), self._language_model, silence, blank, [])


@dataclass(frozen=True)
class _Path:
    """The best path: of each frame the token, (T,), and the index of the word that it completes or -1, (T,)."""

    tokens: np.ndarray
    words: np.ndarray
    score: float


def _search(decoder: Any, emissions: np.ndarray, blank: int, blank_threshold: float) -> _Path:
    """The path of flashlight's decoder through ``emissions`` (T, C), in which frames that are surely blank are few."""
    is_blank = emissions[:, blank] > math.log(blank_threshold)
    is_searched = ~is_blank
    is_searched[1:] |= ~is_blank[:-1]
    is_searched[0] = True
    searched = np.ascontiguousarray(emissions[is_searched])
    best = decoder.decode(searched.ctypes.data, *searched.shape)[0]
    tokens, words = np.full(len(emissions), blank), np.full(len(emissions), -1)
    inside = slice(1, len(searched) + 1)  # flashlight puts its start before the first frame and its end after the last
    tokens[is_searched], words[is_searched] = best.tokens[inside], best.words[inside]
    return _Path(tokens, words, best.score + float(emissions[~is_searched, blank].sum()))


def _silence(tokens: Tokens) -> int:
    """What flashlight may take between words: the space or, where there is none, the blank."""
    return tokens.blank if tokens.space is None else tokens.space


def _repeats_as_blank(emissions: np.ndarray, blank: int) -> np.ndarray:
    """The blank gets the probability of the best token of each frame that was the best of the frame before too."""
    best = emissions.argmax(axis=1)
    repeats = np.flatnonzero((best[1:] == best[:-1]) & (best[1:] != blank)) + 1
    emissions = emissions.copy()
    emissions[repeats, blank] = np.logaddexp(emissions[repeats, blank], emissions[repeats, best[repeats]])
    return emissions
