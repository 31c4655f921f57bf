"""The searches by the names of their methods: where decoding starts.

    ctc-greedy-search               the best path: no lexicon, no language model
    ctc-beam-search                 lexicon and word n-gram model, on flashlight-text
    ctc-beam-search-lexicon-free    n-gram model over characters or pieces, on flashlight-text
    ctc-decoding                    the graph H
    1best                           the graph HLG
    nbest, nbest-rescoring, whole-lattice-rescoring, nbest-oracle    lattices of HLG, on k2

Names and meanings are icefall's, where it has the method. ``nbest-oracle`` looks at the true texts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from altpo_model.config import Decoding
from altpo_model.decoding import graph
from altpo_model.decoding.beam import BeamSearch, LexiconFreeBeamSearch
from altpo_model.decoding.graph import GraphSearch
from altpo_model.decoding.greedy import GreedySearch
from altpo_model.decoding.hypothesis import Hypothesis
from altpo_model.errors import UserError
from altpo_model.lang import Tokens, read_lang

LEXICON_FREE = "ctc-beam-search-lexicon-free"
METHODS = ("ctc-greedy-search", "ctc-beam-search", LEXICON_FREE, *graph.METHODS)
WITHOUT_LANGUAGE_MODEL = ("ctc-greedy-search", "ctc-decoding")


class Search(Protocol):
    """What every method has."""

    def with_options(self, options: Decoding) -> "Search":
        """The same search with other beams and weights; what was loaded is shared."""

    def decode_batch(
        self, batch: Sequence[np.ndarray], jobs: int = 1, references: Sequence[str] | None = None
    ) -> list[Hypothesis]:
        """Hypotheses of utterances, each (T, C) natural log probabilities, in their order.

        ``jobs``: processes at most. ``references``: the true texts, which ``nbest-oracle`` alone looks at.
        """


def make_search(method: str, tokens: Tokens, lang: str | Path, lm: str | Path, options: Decoding) -> Search:
    """A search for a network that writes ``tokens``.

    ``lang``: the lang directory. ``lm``: the folder of the language models, lm.arpa and lm.bin over words and <name of
    the lang directory>.bin over tokens; decoding graphs are cached there. Raises UserError for an unknown method and
    for files that are missing, broken or do not fit.
    """
    check_methods([method])
    lang, lm = Path(lang), Path(lm)
    if method == "ctc-greedy-search":
        return GreedySearch(tokens)
    if method == LEXICON_FREE:
        return LexiconFreeBeamSearch(tokens, token_model_path(lm, lang), options)
    if method == "ctc-beam-search":
        return BeamSearch(read_lang(lang, tokens), lm / "lm.bin", options)
    return GraphSearch(method, read_lang(lang, tokens), lm / "lm.arpa", lm / "graphs", options, lm / "lm.bin")


def token_model_path(lm: Path, lang: Path) -> Path:
    """The n-gram model over the tokens of a lang directory."""
    return lm / f"{lang.name}.bin"


def check_methods(methods: Sequence[str]) -> None:
    """Raise UserError for a method that is not one of `METHODS`, or for none at all."""
    if not methods:
        raise UserError(f"`decoding.methods` is empty; it may hold {', '.join(METHODS)}")
    for method in methods:
        if method not in METHODS:
            raise UserError(f"`decoding.methods` has {method!r}; it may hold {', '.join(METHODS)}")
