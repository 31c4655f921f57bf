"""Graph decoding with icefall's methods, on k2 or on kaldi-decoder.

The score of a word sequence W with a CTC path A is

    sum_t ln p(A_t | X)  +  lm_scale * ln p_LM(W)  +  word_score * |W|

and W keeps its best path (the maximum, not the sum over paths), as in `altpo_model.decoding.beam`. icefall divides the
acoustic scores by its ``lm_scale`` instead, which is our lm_scale for the same best path.

Methods: ``ctc-decoding`` searches H alone (its words are those of greedy decoding); ``1best`` searches HLG; ``nbest``,
``nbest-rescoring``, ``whole-lattice-rescoring`` and ``nbest-oracle`` take their words from a lattice and need k2; see
`altpo_model.decoding.lattice`. The graphs are described in `altpo_model.decoding.hlg`.
"""

import copy
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import kaldi_decoder
import kaldifst
import numpy as np
import torch

from altpo_model.config import Decoding
from altpo_model.decoding import hlg
from altpo_model.decoding.emissions import LexiconEmissions, check_classes
from altpo_model.decoding.hlg import GraphPath
from altpo_model.decoding.hypothesis import Hypothesis
from altpo_model.decoding.language_model import check_vocabulary, load_kenlm
from altpo_model.decoding.parallel import decode_in_processes
from altpo_model.decoding.words import collapse, lexicon_words, written_words
from altpo_model.errors import UserError
from altpo_model.files import write_atomically
from altpo_model.k2_package import import_k2, problem_of_k2
from altpo_model.lang import Lang

METHODS = ("ctc-decoding", "1best", "nbest", "nbest-rescoring", "whole-lattice-rescoring", "nbest-oracle")
KALDI_METHODS = METHODS[:2]  # which kaldi-decoder has too
BACKENDS = ("auto", "k2", "kaldi")

# By how much the beams are widened, one after the other, until a path ends with a whole word.
_WIDENINGS = (1.0, 2.0, 4.0)


class GraphSearch:
    """Decoding by one of `METHODS`.

    ``lang``: tokens and lexicon. ``arpa``: the language model (``ctc-decoding`` does not read it). ``cache``: the
    folder in which the graphs made of them are kept; a graph is made anew when anything that went into it changes.
    ``rescoring_model``: a KenLM file (binary or ARPA) for ``nbest-rescoring``; default: ``arpa``. ``device``: of k2;
    default: the GPU where k2 has one.

    Raises UserError for an unknown or unavailable method or backend, and for a language model that is missing, broken
    or of another vocabulary.
    """

    def __init__(
        self,
        method: str,
        lang: Lang,
        arpa: str | Path,
        cache: str | Path,
        options: Decoding,
        rescoring_model: str | Path | None = None,
        device: str | torch.device | None = None,
    ):
        self.method = method
        self.backend = backend_of(method, options.backend)
        self.tokens = lang.tokens
        self._vocabulary = {index: word for word, index in lang.words.items()}
        self._spellings = lang.spellings
        self._emissions = LexiconEmissions(lang.tokens, (spelling for _, spelling in lang.lexicon))
        if options.hlg_order is not None and options.hlg_order < 1:
            raise UserError(
                f"`decoding.hlg_order` is {options.hlg_order}; it must be at least 1, or null for all orders"
            )
        if self.backend == "k2":
            graphs = _k2_graphs(method, lang, arpa, Path(cache), options, rescoring_model or arpa, device)
        elif method == "ctc-decoding":
            graphs = {"graph": hlg.ctc_topology(len(lang.tokens))}
        else:
            graphs = {"graph": _kaldi_hlg(lang, Path(arpa), Path(cache), options.hlg_order)}
        self._graphs = graphs
        self._order = options.hlg_order
        self._set(options)

    def with_options(self, options: Decoding) -> "GraphSearch":
        """The same search with other beams and weights; the graphs are shared, so order and backend stay."""
        if options.hlg_order != self._order:
            raise ValueError("the order of the language model in HLG is part of the graph; make another search")
        other = copy.copy(self)
        other._set(options)
        return other

    def decode(self, log_probs: np.ndarray) -> Hypothesis:
        """The best word sequence of one utterance (T, C); see `decode_batch`."""
        return self.decode_batch([log_probs])[0]

    def decode_batch(
        self, batch: Sequence[np.ndarray], jobs: int = 1, references: Sequence[str] | None = None
    ) -> list[Hypothesis]:
        """Hypotheses of several utterances, each (T, C) natural log probabilities, in their order; T may be 0.

        ``jobs``: processes of kaldi-decoder; k2 decodes utterances together. ``references``: the true texts, for
        ``nbest-oracle``. An utterance through which no path ends with a whole word gets no words and the score
        -inf. Raises UserError when C is not the number of tokens.
        """
        if self.method == "nbest-oracle" and (references is None or len(references) != len(batch)):
            raise ValueError("nbest-oracle needs the reference of each utterance")
        for log_probs in batch:
            check_classes(log_probs, self.tokens)
        spoken = [index for index, log_probs in enumerate(batch) if len(log_probs)]
        emissions = [self._prepared(batch[index]) for index in spoken]
        if self.backend == "kaldi":
            paths = decode_in_processes(self._search, emissions, jobs)
        else:
            paths = self._k2_paths(emissions, None if references is None else [references[i] for i in spoken])
        hypotheses = [Hypothesis()] * len(batch)
        for index, path, log_probs in zip(spoken, paths, emissions, strict=True):
            hypotheses[index] = self._hypothesis(path, log_probs)
        return hypotheses

    def _set(self, options: Decoding) -> None:
        if self.method == "ctc-decoding":
            options = replace(options, lm_scale=1.0, word_score=0.0)  # H has neither language model nor words
        if options.lm_scale <= 0:
            raise UserError(f"`decoding.lm_scale` is {options.lm_scale}; it must be greater than 0")
        if self.backend == "k2":
            from altpo_model.decoding.lattice import LatticeSearch

            self._search = LatticeSearch(self.method, vocabulary=self._vocabulary, options=options, **self._graphs)
        else:
            self._search = _KaldiSearch(self._graphs["graph"], options, self._vocabulary)

    def _prepared(self, log_probs: np.ndarray) -> np.ndarray:
        if self.method == "ctc-decoding":
            return np.ascontiguousarray(log_probs, dtype=np.float32)
        return self._emissions(log_probs)

    def _k2_paths(self, emissions: list[np.ndarray], references: list[str] | None) -> list[GraphPath | None]:
        paths: list[GraphPath | None] = [None] * len(emissions)
        for widening in _WIDENINGS:
            lost = [index for index, path in enumerate(paths) if path is None]
            texts = None if references is None else [references[index] for index in lost]
            found = self._search.best_paths([emissions[index] for index in lost], widening, texts) if lost else []
            for index, path in zip(lost, found, strict=True):
                paths[index] = path
        return paths

    def _hypothesis(self, path: GraphPath | None, log_probs: np.ndarray) -> Hypothesis:
        if path is None:
            return Hypothesis(score=-math.inf)
        tokens = collapse(path.tokens, self.tokens.blank)
        if self.method == "ctc-decoding":
            return Hypothesis(written_words(tokens, self.tokens, log_probs), path.score)
        words = [self._vocabulary[index] for index in path.words]
        return Hypothesis(lexicon_words(tokens, words, self._spellings, self.tokens, log_probs), path.score)


class _KaldiSearch:
    """Viterbi search by kaldi-decoder's FasterDecoder.

    The graph's costs are -ln p_LM, and it is the acoustic scores that are divided by the scale, beam included, so that
    one graph serves all scales; the word score, divided too, is composed to the graph. ``words``: the ids of those
    that the graph may give.
    """

    def __init__(self, graph: kaldifst.StdVectorFst, options: Decoding, words: Collection[int]):
        self._scale = options.lm_scale
        self._options = options
        if options.word_score:
            graph = _with_word_costs(graph, words, -options.word_score / self._scale)
        self._graph = kaldifst.StdConstFst(graph)

    def __call__(self, emissions: np.ndarray) -> GraphPath | None:
        decodable = kaldi_decoder.DecodableCtc(emissions / np.float32(self._scale))
        for widening in _WIDENINGS:
            decoder = kaldi_decoder.FasterDecoder(
                self._graph,
                kaldi_decoder.FasterDecoderOptions(
                    beam=self._options.search_beam * widening / self._scale,
                    max_active=int(self._options.max_active * widening),
                    min_active=int(self._options.min_active * widening),
                ),
            )
            decoder.decode(decodable)
            if decoder.reached_final():
                _, labels, words, cost = kaldifst.get_linear_symbol_sequence(decoder.get_best_path()[1])
                return GraphPath(np.array(labels) - 1, list(words), -(cost.value1 + cost.value2) * self._scale)
        return None


def backend_of(method: str, backend: str) -> str:
    """``k2`` or ``kaldi``: what ``backend`` (one of `BACKENDS`) means for this method, here and now."""
    if method not in METHODS:
        raise UserError(f"`{method}` is no graph decoding method; they are {', '.join(METHODS)}")
    if backend not in BACKENDS:
        raise UserError(f"`decoding.backend` is {backend!r}; it must be one of {', '.join(BACKENDS)}")
    if backend == "kaldi" and method not in KALDI_METHODS:
        raise UserError(
            f"method `{method}` needs k2, but `decoding.backend` is kaldi, which has {' and '.join(KALDI_METHODS)}"
        )
    if backend == "kaldi":
        return backend
    if backend == "auto" and method in KALDI_METHODS and problem_of_k2() is not None:
        return "kaldi"
    import_k2("`decoding.backend` is k2" if backend == "k2" else f"method `{method}` needs k2")
    return "k2"


def _k2_graphs(
    method: str,
    lang: Lang,
    arpa: str | Path,
    cache: Path,
    options: Decoding,
    rescoring_model: str | Path,
    device: str | torch.device | None,
) -> dict[str, Any]:
    import k2

    from altpo_model.decoding import lattice

    if device is None:
        device = "cuda" if k2.with_cuda and torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if method == "ctc-decoding":
        return {"graph": lattice.ctc_topology(len(lang.tokens), device)}
    graphs: dict[str, Any] = {"graph": lattice.load_hlg(lang, Path(arpa), options.hlg_order, cache, device)}
    if method == "nbest-rescoring":
        graphs["sentence_score"] = _kenlm_score(Path(rescoring_model), lang)
    elif method == "whole-lattice-rescoring":
        graphs["graph"] = lattice.with_room_for_backoff(graphs["graph"], hlg.highest_order(arpa))
        graphs["whole_model"] = lattice.load_grammar(lang, Path(arpa), cache, device)
    return graphs


def _kenlm_score(path: Path, lang: Lang) -> Callable[[Sequence[str]], float]:
    """ln p_LM of the words of a sentence, by a KenLM file."""
    model = load_kenlm(path)
    check_vocabulary(path, lang.spellings, model)
    return lambda words: math.log(10) * model.score(" ".join(words))


def _kaldi_hlg(lang: Lang, arpa: Path, cache: Path, order: int | None) -> kaldifst.StdVectorFst:
    """HLG from the cache, or made and cached."""
    path = hlg.cache_path(cache, "HLG", ".fst", lang, arpa, order, "kaldi")
    if not path.is_file():
        graph = hlg.decoding_graph(lang, arpa, order)
        with write_atomically(path) as temporary:
            graph.write(str(temporary))
    return kaldifst.StdVectorFst.read(str(path))


def _with_word_costs(graph: kaldifst.StdVectorFst, words: Iterable[int], cost: float) -> kaldifst.StdVectorFst:
    """The graph with ``cost`` added for each of the words."""
    costs = kaldifst.StdVectorFst()
    costs.start = costs.add_state()
    costs.set_final(0, 0)
    for word in sorted(set(words) - {0}):
        costs.add_arc(0, kaldifst.StdArc(word, word, cost, 0))
    return kaldifst.compose(graph, costs)
