"""Beam search over a lexicon with an n-gram word language model (flashlight-text and KenLM).

The score of a word sequence W with a CTC path A is

    sum_t log p(A_t | X)  +  lm_weight * log10 p_LM(W)  +  word_score * |W|

and each W keeps its best path (the maximum, not the sum over paths). flashlight adds KenLM's scores as KenLM gives
them: logarithms to the base 10, where the network's are natural ones. Weights tuned with torchaudio's or flashlight's
decoder carry over; one tuned for natural logarithms is to be multiplied by ln 10 = 2.303.
"""

import copy
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions, SmearingMode, Trie
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary

from altpo_model.config import Decoding
from altpo_model.decoding.hypothesis import Hypothesis, Word, confidence
from altpo_model.errors import UserError
from altpo_model.tokens import CharTokens

_IMPOSSIBLE = -1e4  # a log probability that no path survives; finite, as the search subtracts scores
_UNKNOWN_WORD = "<unk>"
_UTTERANCES_A_PROCESS = 20  # fewer are decoded in less time than it takes to start a process


class BeamSearch:
    """Lexicon beam search.

    ``tokens``: the characters of the network. ``words``: the lexicon, each word spelt with those characters.
    ``language_model``: a KenLM binary (or ARPA) file. ``options``: beam widths and weights, which are numbers here.

    Raises UserError when the language model is missing or cannot be read, or the lexicon is empty or has a word that
    cannot be spelt.
    """

    def __init__(self, tokens: CharTokens, words: Sequence[str], language_model: str | Path, options: Decoding):
        if not Path(language_model).is_file():
            raise UserError(f"{language_model}: no such language model; run stage 5 (local/train_lm.py)")
        words = [word for word in dict.fromkeys(words) if word != _UNKNOWN_WORD]
        if not words:
            raise UserError("the lexicon of the beam search holds no word; run stage 5 (local/train_lm.py)")
        self.tokens = tokens
        self._words = words
        dictionary = Dictionary([*words, _UNKNOWN_WORD])
        try:
            self._language_model = KenLM(str(language_model), dictionary)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{language_model}: no KenLM model ({reason}); make it anew with stage 5") from None
        self._unknown_word = dictionary.get_index(_UNKNOWN_WORD)
        self._trie = self._lexicon_trie()
        self._decoder = self._make_decoder(options)
        # Marks that no word of the lexicon has; see without_marks.
        spelt = set("".join(words))
        self._silent_marks = tokens.encode([mark for mark in ",.?!" if mark in tokens.characters and mark not in spelt])
        self._dashes = tokens.encode([mark for mark in "-" if mark in tokens.characters and mark not in spelt])

    def with_options(self, options: Decoding) -> "BeamSearch":
        """The same search with other beam widths and weights; lexicon and language model are shared."""
        other = copy.copy(self)
        other._decoder = self._make_decoder(options)
        return other

    def _make_decoder(self, options: Decoding) -> LexiconDecoder:
        tokens = self.tokens
        return LexiconDecoder(
            LexiconDecoderOptions(
                beam_size=options.beam,
                beam_size_token=min(options.beam_tokens, len(tokens)),
                beam_threshold=options.beam_threshold,
                lm_weight=options.lm_weight,
                word_score=options.word_score,
                unk_score=float("-inf"),  # only words of the lexicon
                sil_score=0.0,
                log_add=False,
                criterion_type=CriterionType.CTC,
            ),
            self._trie,
            self._language_model,
            tokens.space,
            tokens.blank,
            self._unknown_word,
            [],  # no transition scores in CTC
            False,  # the language model is over words
        )

    @classmethod
    def from_files(
        cls, tokens: CharTokens, lexicon: str | Path, language_model: str | Path, options: Decoding
    ) -> "BeamSearch":
        """Read the words from ``lexicon.txt`` (the word is the first field of each line) or from a plain word list."""
        lexicon = Path(lexicon)
        if not lexicon.is_file():
            raise UserError(f"{lexicon}: no such lexicon; run stage 5 (local/train_lm.py)")
        lines = lexicon.read_text(encoding="utf-8").splitlines()
        return cls(tokens, [line.split()[0] for line in lines if line.strip()], language_model, options)

    def decode(self, log_probs: np.ndarray) -> Hypothesis:
        """The best word sequence of one utterance.

        ``log_probs``: (T, C) natural log probabilities; T may be 0. A word starts at the frame of its first character
        and ends after the last frame of its last one. Raises UserError when C is not the number of tokens.
        """
        frames, classes = log_probs.shape
        if classes != len(self.tokens):
            raise UserError(
                f"the network gives {classes} classes a frame and the token table has {len(self.tokens)}: "
                "they belong to different runs; decode with the lang directory that the network was trained with"
            )
        if frames == 0:
            return Hypothesis()
        # Each word of the lexicon ends with a space and the last word of an utterance has none after it: one frame is
        # appended in which the space is certain. Where the utterance does end with a space, it only prolongs it.
        emissions = np.full((frames + 1, classes), _IMPOSSIBLE, dtype=np.float32)
        emissions[:frames] = np.maximum(self.without_marks(log_probs), _IMPOSSIBLE)
        emissions[frames, self.tokens.space] = 0.0
        best = self._decoder.decode(emissions.ctypes.data, *emissions.shape)[0]
        # The decoder puts its start before the first frame and its end after the last.
        return Hypothesis(
            self._words_of(best.tokens[1 : frames + 2], best.words[1 : frames + 2], emissions), best.score
        )

    def decode_batch(self, batch: Sequence[np.ndarray], jobs: int = 1) -> list[Hypothesis]:
        """Hypotheses of several utterances, each (T, C), in their order, by at most ``jobs`` processes.

        The decoder holds Python's global lock, so threads would take turns. The processes are forked: they share the
        lexicon and the language model with this one, and nothing is loaded or copied for them.
        """
        jobs = min(jobs, len(batch) // _UTTERANCES_A_PROCESS)
        if jobs < 2 or "fork" not in multiprocessing.get_all_start_methods():
            return [self.decode(log_probs) for log_probs in batch]
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_adopt, initargs=(self,)) as pool:
            return list(pool.map(_decode, batch, chunksize=max(1, len(batch) // (4 * jobs))))

    def _lexicon_trie(self) -> Trie:
        """Spellings, with the unigram score of each word spread back to the root: the search's look-ahead."""
        trie = Trie(len(self.tokens), self.tokens.space)
        no_context = self._language_model.start(True)
        for index, word in enumerate(self._words):
            try:
                spelling = self.tokens.spelling(word)
            except ValueError as error:
                raise UserError(f"the lexicon has a word that the token table cannot spell: {error}") from None
            _, score = self._language_model.score(no_context, index)
            trie.insert(spelling, index, score)
        trie.smear(SmearingMode.MAX)
        return trie

    def without_marks(self, log_probs: np.ndarray) -> np.ndarray:
        """Give the probability of marks that no word has to tokens that the search can take.

        The network writes ``hello, world``; the lexicon has ``hello`` and ``world``. A frame that is surely a comma
        would shut out every word, so ``, . ? !`` count as blank and a dash counts as space.
        """
        log_probs = log_probs.copy()
        for marks, heir in ((self._silent_marks, self.tokens.blank), (self._dashes, self.tokens.space)):
            if marks:
                log_probs[:, heir] = np.logaddexp.reduce(log_probs[:, [heir, *marks]], axis=1)
                log_probs[:, marks] = _IMPOSSIBLE
        return log_probs

    def _words_of(self, tokens: Sequence[int], labels: Sequence[int], emissions: np.ndarray) -> list[Word]:
        """Words with frames, from the token and the completed word (or -1) of each frame."""
        words: list[Word] = []
        letters: list[int] = []  # frames
        peaks: list[float] = []  # the highest log posterior of each character
        before = self.tokens.blank
        for frame, (token, label) in enumerate(zip(tokens, labels, strict=True)):
            if label >= 0:
                words.append(Word(self._words[label], letters[0], letters[-1] + 1, confidence(peaks)))
                letters, peaks = [], []
            elif token not in (self.tokens.blank, self.tokens.space):
                letters.append(frame)
                posterior = float(emissions[frame, token])
                if token == before:
                    peaks[-1] = max(peaks[-1], posterior)
                else:
                    peaks.append(posterior)
            before = token
        return words


_search: BeamSearch  # of a forked process


def _adopt(search: BeamSearch) -> None:
    global _search
    _search = search


def _decode(log_probs: np.ndarray) -> Hypothesis:
    return _search.decode(log_probs)
