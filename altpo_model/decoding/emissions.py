"""What a search over a lexicon takes in place of the network's log probabilities."""

from collections.abc import Iterable, Sequence

import numpy as np

from altpo_model.errors import UserError
from altpo_model.lang import Tokens
from altpo_model.tokens import SPACE_SYMBOL

IMPOSSIBLE = -1e4  # a log probability that no path survives; finite, as the searches subtract scores
_SILENT_MARKS = frozenset(",.?!")
_DASHES = frozenset("-")


class LexiconEmissions:
    """Maps the network's output to what spells the words of a lexicon.

    Marks: the network writes ``hello, world`` where the lexicon has ``hello`` and ``world``. A frame that is surely a
    comma would shut out every word, so the probability of ``, . ? !`` goes to the blank and that of a dash to the space
    (with pieces, which have no space token, to the blank), unless a word of the lexicon is spelt with them.

    Last word: where each word ends with a space, the last of an utterance has none after it. One frame is appended in
    which the space is certain; where the utterance does end with a space, it only prolongs it.
    """

    def __init__(self, tokens: Tokens, spellings: Iterable[Sequence[int]]):
        self._tokens = tokens
        used = {token for spelling in spellings for token in spelling}
        free = [index for index in range(1, len(tokens)) if index not in used]
        texts = {index: set(tokens.symbol(index).removeprefix(SPACE_SYMBOL)) for index in free}
        silent = [index for index in free if texts[index] and texts[index] <= _SILENT_MARKS]
        dashes = [index for index in free if texts[index] and texts[index] <= _DASHES]
        self._heirs = [(tokens.blank, silent), (tokens.blank if tokens.space is None else tokens.space, dashes)]

    def __call__(self, log_probs: np.ndarray) -> np.ndarray:
        """(T, C) -> (T, C), or (T + 1, C) with a space token; float32, nothing below `IMPOSSIBLE`."""
        check_classes(log_probs, self._tokens)
        emissions = self.without_marks(log_probs)
        if self._tokens.space is None:
            return emissions
        last = np.full((1, len(self._tokens)), IMPOSSIBLE, dtype=np.float32)
        last[0, self._tokens.space] = 0.0
        return np.concatenate([emissions, last])

    def without_marks(self, log_probs: np.ndarray) -> np.ndarray:
        """(T, C) -> (T, C): the marks' probability given to the blank and the space."""
        emissions = np.maximum(log_probs, IMPOSSIBLE, dtype=np.float32)
        for heir, marks in self._heirs:
            if marks:
                emissions[:, heir] = np.logaddexp.reduce(emissions[:, [heir, *marks]], axis=1)
                emissions[:, marks] = IMPOSSIBLE
        return emissions


def check_classes(log_probs: np.ndarray, tokens: Tokens) -> None:
    """Raise UserError when ``log_probs`` (T, C) has another number of classes than there are tokens."""
    if log_probs.shape[1] != len(tokens):
        raise UserError(
            f"the network gives {log_probs.shape[1]} classes a frame and the token table has {len(tokens)}: "
            "they belong to different runs; decode with the lang directory that the network was trained with"
        )
