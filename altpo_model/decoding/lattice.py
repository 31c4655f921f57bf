"""Lattices on k2: the search that icefall users know, batched, on the CPU or a GPU. Imports k2, which is optional.

A lattice holds what remains of HLG o emissions after pruning. Its scores are natural logarithms,

    acoustic  +  lm_scale * ln p_LM  +  word_score * |W|

and the methods, with icefall's names, take from it

    1best                      its best path
    nbest                      the best of the word sequences of ``num_paths`` sampled paths
    nbest-rescoring            the same, with ln p_LM of the whole model (by KenLM) in place of that in HLG
    whole-lattice-rescoring    the best path of the lattice composed with the whole model as a graph
    nbest-oracle               of the sampled word sequences the one with the fewest errors

``ctc-decoding`` is the best path through H alone, which knows neither lexicon nor language model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jiwer
import k2
import kaldifst
import numpy as np
import torch

from altpo_model.config import Decoding
from altpo_model.decoding import hlg
from altpo_model.decoding.hlg import GraphPath
from altpo_model.files import write_atomically
from altpo_model.lang import Lang
from altpo_model.text import scoring_text

_BATCH_FRAMES = 20000  # of one batch, padding counted


class LatticeSearch:
    """Best paths by any of the methods.

    ``graph``: HLG, from `load_hlg`, or H, from `ctc_topology`. ``vocabulary``: {word id: word}. ``whole_model``: for
    ``whole-lattice-rescoring``, from `load_grammar`. ``sentence_score``: for ``nbest-rescoring``, ln p_LM of words.
    """

    def __init__(
        self,
        method: str,
        graph: k2.Fsa,
        vocabulary: Mapping[int, str],
        options: Decoding,
        whole_model: k2.Fsa | None = None,
        sentence_score: Callable[[Sequence[str]], float] | None = None,
    ):
        self._method = method
        self._vocabulary = vocabulary
        self._options = options
        self._sentence_score = sentence_score
        self._graph = _vector(graph)
        self._graph.aux_labels = graph.aux_labels
        self._graph.lm_scores = graph.scores.clone()
        self._graph.word_counts = _word_counts(graph)
        self._graph.scores = self._weighted(self._graph)
        if whole_model is not None:
            self._whole_model = _vector(whole_model)
            self._whole_model.scores = options.lm_scale * whole_model.scores

    def best_paths(
        self, emissions: Sequence[np.ndarray], widening: float = 1.0, references: Sequence[str] | None = None
    ) -> list[GraphPath | None]:
        """The path of each utterance (T, C), or None where the search lost all paths that end with a word.

        ``widening``: by how much the beams are wider than the options say. ``references``: texts for the oracle.
        """
        paths: list[GraphPath | None] = [None] * len(emissions)
        for chosen in _batches([len(each) for each in emissions]):
            lattice = self._lattice([emissions[index] for index in chosen], widening)
            if self._method in ("ctc-decoding", "1best"):
                found = _linear_paths(k2.shortest_path(lattice, use_double_scores=True))
            elif self._method == "whole-lattice-rescoring":
                found = self._rescored(lattice)
            else:
                texts = None if references is None else [references[index] for index in chosen]
                found = self._best_samples(lattice, texts)
            for index, path in zip(chosen, found, strict=True):
                paths[index] = path
        return paths

    def _weighted(self, graph: k2.Fsa) -> torch.Tensor:
        """What language model and word score contribute to the scores of a graph or lattice."""
        return self._options.lm_scale * graph.lm_scores + self._options.word_score * graph.word_counts

    def _lattice(self, emissions: list[np.ndarray], widening: float) -> k2.Fsa:
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in emissions], batch_first=True)
        segments = torch.tensor([[i, 0, len(each)] for i, each in enumerate(emissions)], dtype=torch.int32)
        lattice = k2.intersect_dense_pruned(
            self._graph,
            k2.DenseFsaVec(padded.to(self._graph.device), segments),
            search_beam=self._options.search_beam * widening,
            output_beam=self._options.output_beam * widening,
            min_active_states=int(self._options.min_active * widening),
            max_active_states=int(self._options.max_active * widening),
            frame_idx_name="frame",
        )
        lattice.frame = lattice.frame + 1  # 0 is for the arcs without a frame, which inversion adds
        return lattice

    def _best_samples(self, lattice: k2.Fsa, references: Sequence[str] | None) -> list[GraphPath | None]:
        """Of the word sequences of sampled paths the best one, by its best path through the lattice."""
        sequences = _sampled_words(lattice, self._options.num_paths, self._options.nbest_scale)
        flat = [list(words) for each in sequences for words in each]
        if not flat:
            return [None] * len(sequences)
        owners = [utterance for utterance, each in enumerate(sequences) for _ in each]
        acceptors = k2.arc_sort(k2.add_epsilon_self_loops(k2.linear_fsa(flat, device=lattice.device)))
        matched = k2.intersect_device(
            k2.arc_sort(k2.invert(lattice)),
            acceptors,
            torch.tensor(owners, dtype=torch.int32, device=lattice.device),
            sorted_match_a=True,
        )
        linear = k2.shortest_path(k2.top_sort(k2.connect(matched)), use_double_scores=True)
        candidates = _linear_paths(k2.invert(linear))
        lm_scores = _sums_of_paths(linear, linear.lm_scores)
        best: list[GraphPath | None] = [None] * len(sequences)
        merits: dict[int, tuple[float, ...]] = {}
        for utterance, path, first_pass in zip(owners, candidates, lm_scores, strict=True):
            words = [self._vocabulary[word] for word in path.words]
            merit: tuple[float, ...] = (path.score,)
            if self._method == "nbest-rescoring":
                score = path.score + self._options.lm_scale * (self._sentence_score(words) - first_pass)
                path, merit = GraphPath(path.tokens, path.words, score), (score,)
            elif self._method == "nbest-oracle":
                merit = (-_errors(references[utterance], words), path.score)
            if utterance not in merits or merit > merits[utterance]:
                best[utterance], merits[utterance] = path, merit
        return best

    def _rescored(self, lattice: k2.Fsa) -> list[GraphPath | None]:
        """The best paths with the language model in HLG taken out and the whole model put in."""
        lattice.scores = lattice.scores - self._options.lm_scale * lattice.lm_scores
        del lattice.lm_scores
        everyone = torch.zeros(lattice.shape[0], dtype=torch.int32, device=lattice.device)
        rescored = k2.intersect_device(self._whole_model, k2.invert(lattice), everyone, sorted_match_a=True)
        best = k2.shortest_path(k2.top_sort(k2.connect(rescored)), use_double_scores=True)
        return _linear_paths(k2.invert(best))


def ctc_topology(num_tokens: int, device: torch.device) -> k2.Fsa:
    """H, as k2 makes it: token ids are labels, 0 the blank; the tokens that are written are the auxiliary labels."""
    return k2.ctc_topo(num_tokens - 1, device=device)


def load_hlg(lang: Lang, arpa: Path, order: int | None, cache: Path, device: torch.device) -> k2.Fsa:
    """HLG from the cache, or made and cached. Its scores are ln p_LM, its auxiliary labels (ragged) word ids."""
    path = hlg.cache_path(cache, "HLG", ".pt", lang, arpa, order, f"k2 {k2.__dev_version__}")
    if not path.is_file():
        graph = hlg.lexicon_and_grammar(lang, arpa, order)[0]
        _save(path, _compose_topology(graph, len(lang.tokens)))
    return _load(path, device)


def load_grammar(lang: Lang, arpa: Path, cache: Path, device: torch.device) -> k2.Fsa:
    """The whole language model as an acceptor of words, with epsilon loops, from the cache, or made and cached."""
    path = hlg.cache_path(cache, "G", ".pt", lang, arpa, f"k2 {k2.__dev_version__}")
    if not path.is_file():
        graph = k2.Fsa.from_openfst(hlg.grammar(arpa, lang).to_str(is_acceptor=False), acceptor=False)
        del graph.aux_labels
        labels = graph.labels.clone()
        labels[labels == hlg.backoff_id(lang)] = 0
        graph.labels = labels
        _save(path, k2.arc_sort(k2.add_epsilon_self_loops(graph)))
    return _load(path, device)


def with_room_for_backoff(graph: k2.Fsa, order: int) -> k2.Fsa:
    """HLG in which each word has ``order`` places instead of one, of which the last holds it.

    k2 takes an epsilon arc of G only along an epsilon arc of the lattice. Between two words an n-gram model may back
    off n - 1 times, so there must be as many places without a word.
    """
    words = graph.aux_labels
    roomy = torch.zeros(words.values.numel() * order, dtype=torch.int32, device=graph.device)
    roomy[order - 1 :: order] = words.values
    shape = k2.ragged.create_ragged_shape2(words.shape.row_splits(1) * order, None, roomy.numel())
    other = k2.Fsa(graph.arcs)
    other.aux_labels = k2.RaggedTensor(shape, roomy)
    return other


def _compose_topology(graph: kaldifst.StdVectorFst, num_tokens: int) -> k2.Fsa:
    """LG with the labels of `hlg` -> HLG in k2's convention: token ids are labels, 0 the blank, no epsilons."""
    graph = k2.Fsa.from_openfst(graph.to_str(is_acceptor=False), acceptor=False)
    labels = graph.labels.clone()
    labels[labels > num_tokens] = 0  # disambiguation symbols
    labels[labels > 0] -= 1
    graph.labels = labels
    graph = k2.connect(k2.remove_epsilon(graph))
    graph.aux_labels = graph.aux_labels.remove_values_eq(0)
    return k2.arc_sort(k2.connect(k2.compose(k2.ctc_topo(num_tokens - 1), k2.arc_sort(graph))))


def _save(path: Path, graph: k2.Fsa) -> None:
    """Plain tensors, so that the file can be loaded without running anything that it names."""
    content = {"arcs": graph.arcs.values()}
    if hasattr(graph, "aux_labels"):
        content |= {"words": graph.aux_labels.values, "words_of_arcs": graph.aux_labels.shape.row_splits(1)}
    with write_atomically(path) as temporary:
        torch.save(content, temporary)


def _load(path: Path, device: torch.device) -> k2.Fsa:
    content = torch.load(path, weights_only=True, map_location=device)
    graph = k2.Fsa(content["arcs"])
    if "words" in content:
        shape = k2.ragged.create_ragged_shape2(content["words_of_arcs"], None, content["words"].numel())
        graph.aux_labels = k2.RaggedTensor(shape, content["words"])
    return graph


def _vector(graph: k2.Fsa) -> k2.Fsa:
    """The arcs of a graph as a vector of one, with scores of its own."""
    vector = k2.create_fsa_vec([k2.Fsa(graph.arcs)])
    vector.scores = graph.scores.clone()
    return vector


def _word_counts(graph: k2.Fsa) -> torch.Tensor:
    """(arcs,) float32."""
    words = graph.aux_labels
    if isinstance(words, torch.Tensor):
        return torch.zeros_like(graph.scores)  # of H, which writes tokens
    return k2.RaggedTensor(words.shape, (words.values > 0).float()).sum()


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Indices of utterances of about the same length, at most `_BATCH_FRAMES` frames together, the longest first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > _BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _sampled_words(lattice: k2.Fsa, num_paths: int, scale: float) -> list[list[tuple[int, ...]]]:
    """The different word sequences of ``num_paths`` paths of each lattice, drawn by their scores times ``scale``."""
    scores = lattice.scores.clone()
    lattice.scores = scale * scores
    arcs = k2.random_paths(lattice, use_double_scores=True, num_paths=num_paths)  # [utterance][path][arc]
    lattice.scores = scores
    words = lattice.aux_labels.index(arcs)  # [utterance][path][arc][word]
    words = words.remove_axis(2).remove_values_leq(0)
    return [sorted({tuple(path) for path in paths}) for paths in words.tolist()]


def _linear_paths(graphs: k2.Fsa) -> list[GraphPath | None]:
    """What linear graphs with tokens as labels and words as auxiliary labels hold; None for an empty one."""
    arcs = graphs.arcs.shape().remove_axis(1)  # [utterance][arc]
    words = graphs.aux_labels
    if isinstance(words, torch.Tensor):
        words = k2.RaggedTensor(arcs, words)
    else:
        words = k2.RaggedTensor(arcs.compose(words.shape), words.values).remove_axis(1)
    tokens = torch.where(graphs.frame > 0, graphs.labels, -1)
    tokens = k2.RaggedTensor(arcs, tokens).remove_values_eq(-1)
    scores = _sums_of_paths(graphs, graphs.scores)
    sizes = arcs.row_splits(1).diff().tolist()
    found = zip(tokens.tolist(), words.remove_values_leq(0).tolist(), scores, sizes, strict=True)
    return [GraphPath(np.array(t, dtype=int), w, score) if size else None for t, w, score, size in found]


def _sums_of_paths(graphs: k2.Fsa, scores: torch.Tensor) -> list[float]:
    """The sum over the arcs of each linear graph."""
    arcs = graphs.arcs.shape().remove_axis(1)
    return k2.RaggedTensor(arcs, scores.double().contiguous()).sum().tolist()


def _errors(reference: str, words: Sequence[str]) -> int:
    """Word errors as they are scored."""
    reference, hypothesis = scoring_text(reference), scoring_text(" ".join(words))
    if not reference:
        return len(hypothesis.split())
    counts = jiwer.process_words(reference, hypothesis)
    return counts.substitutions + counts.deletions + counts.insertions
