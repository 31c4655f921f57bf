"""Decoding with graphs: against exhaustive search, against the beam search, and one back end against the other."""

import itertools
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import kaldifst
import kenlm
import numpy as np
import pytest
from decoding_cases import TOKENS, emissions, exhaustive_search, flat_model, lang_of, write_arpa

from altpo_model.config import Decoding
from altpo_model.decoding import hlg
from altpo_model.decoding.beam import BeamSearch
from altpo_model.decoding.graph import METHODS, GraphSearch, backend_of
from altpo_model.decoding.greedy import GreedySearch
from altpo_model.decoding.hypothesis import Hypothesis, Word
from altpo_model.errors import UserError
from altpo_model.lang import Lang
from altpo_model.tokens import CharTokens

try:
    import k2
except ImportError:
    k2 = None

needs_k2 = pytest.mark.skipif(k2 is None, reason="k2 is not installed (an optional package; see the README)")
both_backends = pytest.mark.parametrize("backend", ["kaldi", pytest.param("k2", marks=needs_k2)])

WEIGHTS = {"lm_scale": 0.4, "word_score": 0.5}
EVERYTHING = {"search_beam": 1e4, "output_beam": 1e4, "min_active": 9999, "max_active": 10**6}  # nothing is pruned


def random_model(path, words, random, order):
    """All unigrams and a third of the longer n-grams, with probabilities and back-off weights drawn by lot."""
    ngrams = {("<s>",): (-99.0, -random.uniform(0, 1)), ("<unk>",): (-5.0, 0.0)}
    for n in range(1, order + 1):
        for before in itertools.product(["<s>", *words], repeat=n - 1):
            if "<s>" in before[1:] or (before and before not in ngrams):
                continue
            for word in [*words, "</s>"]:
                is_in = n == 1 or ((*before[1:], word) in ngrams and random.random() < 1 / 3)
                if is_in:
                    ngrams[(*before, word)] = (-random.uniform(0.1, 2), -random.uniform(0, 1))
    return write_arpa(path, ngrams), ngrams


def graph_score(words, ngrams, order):
    """log10 p of a sentence by n-grams up to ``order``: of all ways to back off, the best, as in a graph."""
    ngrams = {ngram: value for ngram, value in ngrams.items() if len(ngram) <= order}
    scores = {("<s>",)[: order - 1]: 0.0}  # by history
    for word in [*words, "</s>"]:
        following: dict = {}
        for history, score in scores.items():
            while True:
                if (*history, word) in ngrams:
                    new = (*history, word)
                    while len(new) > order - 1 or (new and new not in ngrams):
                        new = new[1:]
                    following[new] = max(following.get(new, -math.inf), score + ngrams[(*history, word)][0])
                if not history:
                    break
                score += ngrams[history][1]
                history = history[1:]
        scores = following
    return max(scores.values())


def kenlm_score(model, words):
    return model.score(" ".join(words))


class Case:
    """A network of four classes, five words and a trigram model, all drawn by lot."""

    words = ["a", "b", "ab", "ba", "aa"]

    def __init__(self, seed, folder, order=3):
        random = np.random.default_rng(seed)
        self.folder = folder
        self.log_probs = np.log(random.dirichlet([0.7] * 4, size=6)).astype(np.float32)
        self.lang = lang_of(self.words, CharTokens(" ab"))
        self.arpa, self.ngrams = random_model(folder / "lm.arpa", self.words, random, order)
        self.weights = {"lm_scale": random.uniform(0.1, 1.5), "word_score": random.uniform(-1, 2)}

    def search(self, method, backend="auto", order=None, **options):
        options = Decoding(backend=backend, hlg_order=order, **(EVERYTHING | self.weights | options))
        return GraphSearch(method, self.lang, self.arpa, self.folder / "graphs", options)

    def answer(self, log10_of):
        return exhaustive_search(self.log_probs, self.words, Decoding(**self.weights), log10_of)


@both_backends
@pytest.mark.parametrize("order", [1, 2, 3, None])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_path_is_that_of_exhaustive_search(tmp_path, seed, order, backend):
    case = Case(seed, tmp_path)
    score, words = case.answer(lambda words: graph_score(words, case.ngrams, order or 3))
    hypothesis = case.search("1best", backend, order).decode(case.log_probs)
    assert hypothesis.score == pytest.approx(score, abs=1e-3)
    assert hypothesis.words == words


@both_backends
def test_probabilities_of_the_graph_are_kenlms_where_backing_off_never_pays(tmp_path, backend):
    case = Case(5, tmp_path)
    ngrams = {words: (p, backoff if len(words) == 3 else -3.0) for words, (p, backoff) in case.ngrams.items()}
    case.arpa = write_arpa(tmp_path / "lm.arpa", ngrams)
    model = kenlm.Model(str(case.arpa))
    score, words = case.answer(lambda words: kenlm_score(model, words))
    hypothesis = case.search("1best", backend).decode(case.log_probs)
    assert hypothesis.score == pytest.approx(score, abs=1e-3)
    assert hypothesis.words == words


@needs_k2
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", [1, 2])
def test_whole_lattice_rescoring_is_exhaustive_search_with_the_whole_model(tmp_path, seed, order):
    case = Case(seed, tmp_path)
    score, words = case.answer(lambda words: graph_score(words, case.ngrams, 3))
    hypothesis = case.search("whole-lattice-rescoring", order=order).decode(case.log_probs)
    assert hypothesis.score == pytest.approx(score, abs=1e-3)
    assert hypothesis.words == words


@needs_k2
@pytest.mark.parametrize("seed", range(4))
def test_rescored_samples_are_exhaustive_search_with_kenlm(tmp_path, seed):
    case = Case(seed, tmp_path)
    model = kenlm.Model(str(case.arpa))
    score, words = case.answer(lambda words: kenlm_score(model, words))
    search = case.search("nbest-rescoring", order=1, num_paths=5000, nbest_scale=0.1)
    hypothesis = search.decode(case.log_probs)
    assert hypothesis.score == pytest.approx(score, abs=1e-3)
    assert hypothesis.words == words


@needs_k2
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_many_samples_is_the_best_path(tmp_path, seed):
    case = Case(seed, tmp_path)
    best = case.search("1best", "k2").decode(case.log_probs)
    sampled = case.search("nbest", num_paths=5000, nbest_scale=0.1).decode(case.log_probs)
    assert sampled.words == best.words
    assert sampled.score == pytest.approx(best.score, abs=1e-3)


@needs_k2
def test_the_oracle_takes_the_sample_with_the_fewest_errors(tmp_path):
    case = Case(1, tmp_path)
    search = case.search("nbest-oracle", num_paths=5000, nbest_scale=0.1)
    references = ["a b", "ba, ab!", "aa", "", "b ab zz"]
    found = search.decode_batch([case.log_probs] * 5, references=references)
    assert [hypothesis.text for hypothesis in found[:4]] == ["a b", "ba ab", "aa", ""]
    assert found[4].text.startswith("b ab")
    with pytest.raises(ValueError, match="needs the reference of each utterance"):
        search.decode_batch([case.log_probs] * 2, references=["a"])


@pytest.fixture
def words():
    return ["wind", "wine", "hello", "world", "don't", "a"]


@pytest.fixture
def search(tmp_path, words):
    """A search for each method and back end over one small language model."""
    arpa = flat_model(tmp_path / "lm.arpa", words)

    def make(method="1best", backend="kaldi", hlg_order=None, **options):
        options = Decoding(backend=backend, hlg_order=hlg_order, **(WEIGHTS | options))
        return GraphSearch(method, lang_of(words), arpa, tmp_path / "graphs", options)

    return make


UTTERANCES = [
    "_hhel_lo__   wo_rrld_ ",
    "a wind",
    "a wind ",
    "  a -_ - wine",
    "a",
    "___",
    "",
    "hel_lo, world-a!",
    "worls",
]


@both_backends
def test_words_and_their_frames(search, backend):
    found = search(backend=backend).decode_batch([emissions(path) for path in UTTERANCES])
    assert [hypothesis.words for hypothesis in found] == [
        [Word("hello", 1, 8), Word("world", 13, 20)],
        [Word("a", 0, 1), Word("wind", 2, 6)],
        [Word("a", 0, 1), Word("wind", 2, 6)],
        [Word("a", 2, 3), Word("wine", 9, 13)],
        [Word("a", 0, 1)],
        [],
        [],
        [Word("hello", 0, 6), Word("world", 8, 13), Word("a", 14, 15)],
        [Word("world", 0, 4)] if found[8].words[0].end == 4 else [Word("world", 0, 5)],
    ]
    assert found[6] == Hypothesis()
    assert found[0].words[0].confidence == pytest.approx(0.9, abs=1e-3)


@both_backends
def test_scores_and_words_are_those_of_the_beam_search_with_the_same_weights(tmp_path, words, search, backend):
    options = Decoding(beam=500, beam_tokens=34, beam_threshold=1e3, lm_scale=0.3, word_score=0.3)
    beam = BeamSearch(lang_of(words), flat_model(tmp_path / "lm.arpa", words), options)
    graph = search(backend=backend, lm_scale=0.3, word_score=0.3, search_beam=60.0)
    batch = [emissions(path, surely=0.5) for path in UTTERANCES if path]
    for expected, found in zip(beam.decode_batch(batch), graph.decode_batch(batch), strict=True):
        assert found.score == pytest.approx(expected.score, abs=1e-2)
        assert found.text == expected.text


@both_backends
def test_the_topology_alone_writes_what_greedy_search_writes(search, backend):
    random = np.random.default_rng(3)
    batch = [np.log(random.dirichlet([0.1] * 34, size=length)).astype(np.float32) for length in (0, 1, 40, 17)]
    batch += [emissions(path) for path in UTTERANCES]
    found = search("ctc-decoding", backend).decode_batch(batch)
    for ours, greedy in zip(found, GreedySearch(TOKENS).decode_batch(batch), strict=True):
        assert ours.words == greedy.words
        assert ours.score == pytest.approx(greedy.score, abs=1e-2)
        confidences = [word.confidence for word in greedy.words]
        assert [word.confidence for word in ours.words] == pytest.approx(confidences, abs=1e-4)


@both_backends
def test_other_weights_share_the_graph(tmp_path, words, backend):
    arpa = flat_model(tmp_path / "lm.arpa", ["wind", "wine"], wine=-1.0)
    doubtful = emissions("wind", surely=0.5)
    doubtful[3, TOKENS.encode("e")[0]] = doubtful[3, TOKENS.encode("d")[0]] - 1.0
    lang = lang_of(["wind", "wine"])
    options = Decoding(backend=backend, hlg_order=None, lm_scale=0.3, word_score=0.5)
    weak = GraphSearch("1best", lang, arpa, tmp_path, options)
    assert weak.decode(doubtful).text == "wind"
    assert weak.with_options(replace(options, lm_scale=0.6)).decode(doubtful).text == "wine"
    assert weak.with_options(replace(options, word_score=-20.0)).decode(doubtful).text == ""
    assert weak.decode(doubtful).text == "wind"
    with pytest.raises(ValueError, match="make another search"):
        weak.with_options(replace(options, hlg_order=2))


@pytest.mark.parametrize("backend, beam", [("kaldi", 8.0), pytest.param("k2", 4.0, marks=needs_k2)])
def test_a_beam_that_loses_every_whole_word_is_widened(search, backend, beam, monkeypatch):
    # Without the last letter the cheapest paths are in the midst of a word when the utterance ends. (k2 widens a beam
    # in which there are few states by itself.)
    cut_off = emissions("hel_lo worl", surely=0.8)
    narrow = search(backend=backend, search_beam=beam, min_active=1)
    assert narrow.decode(cut_off).words[0] == Word("hello", 0, 6)
    monkeypatch.setattr("altpo_model.decoding.graph._WIDENINGS", (1.0,))
    assert narrow.decode(cut_off) == Hypothesis([], -math.inf)


def test_processes_give_what_one_gives_in_the_same_order(search):
    one = search()
    batch = [emissions(path) for path in UTTERANCES] * 5
    assert one.decode_batch(batch, jobs=2) == one.decode_batch(batch)


@needs_k2
def test_many_utterances_are_decoded_in_batches(search, monkeypatch):
    batch = [emissions(path) for path in UTTERANCES] * 3
    graph = search(backend="k2")
    together = graph.decode_batch(batch)
    monkeypatch.setattr("altpo_model.decoding.lattice._BATCH_FRAMES", 30)
    assert graph.decode_batch(batch) == together


@needs_k2
@pytest.mark.parametrize("seed", range(3))
def test_both_back_ends_agree_on_random_emissions(search, seed):
    random = np.random.default_rng(seed)
    batch = [np.log(random.dirichlet([0.05] * 34, size=30) + 1e-30).astype(np.float32) for _ in range(5)]
    options = {"search_beam": 40.0}
    for ours, theirs in zip(
        search(**options).decode_batch(batch), search(backend="k2", **options).decode_batch(batch), strict=True
    ):
        assert ours.score == pytest.approx(theirs.score, abs=1e-2)
        assert ours.words == theirs.words


class Pieces:
    """Five pieces, of which ``▁`` begins a word; what a search needs of SentencePieceTokens."""

    blank, space, _symbols = 0, None, ["<blk>", "▁", "▁a", "a", "▁b"]

    def __len__(self):
        return len(self._symbols)

    def symbol(self, index):
        return self._symbols[index]


@both_backends
@pytest.mark.parametrize("seed", range(4))
def test_words_that_sound_alike_or_begin_each_other_are_told_apart(tmp_path, seed, backend):
    random = np.random.default_rng(seed)
    lexicon = [
        ("a", (2,)),
        ("ah", (2,)),
        ("aa", (2, 3)),
        ("aha", (2, 3)),
        ("a", (1, 3)),
        ("b", (4,)),
        ("aab", (2, 3, 4)),
    ]
    words = list(dict.fromkeys(word for word, _ in lexicon))
    table = {symbol: index for index, symbol in enumerate(["<eps>", *words, "<UNK>"])}  # no #0, <s>, </s>
    arpa, ngrams = random_model(tmp_path / "lm.arpa", words, random, 2)
    options = Decoding(backend=backend, hlg_order=None, lm_scale=0.5, word_score=0.7, **EVERYTHING)
    search = GraphSearch("1best", Lang(Pieces(), table, lexicon), arpa, tmp_path, options)
    log_probs = np.log(random.dirichlet([0.7] * 5, size=5)).astype(np.float32)

    best = {}  # acoustic score of each token sequence
    for path in itertools.product(range(5), repeat=5):
        tokens = tuple(token for token, _ in itertools.groupby(path) if token)
        best[tokens] = max(best.get(tokens, -math.inf), sum(log_probs[range(5), path]))
    scores = {}
    for count in range(6):
        for entries in itertools.product(lexicon, repeat=count):
            acoustic = best.get(tuple(token for _, spelling in entries for token in spelling))
            if acoustic is not None:
                said = tuple(word for word, _ in entries)
                score = acoustic + 0.5 * math.log(10) * graph_score(said, ngrams, 2) + 0.7 * count
                scores[said] = max(scores.get(said, -math.inf), score)
    hypothesis = search.decode(log_probs)
    assert hypothesis.score == pytest.approx(max(scores.values()), abs=1e-3)
    assert tuple(word.text for word in hypothesis.words) == max(scores, key=scores.get)


def graphs_in(folder):
    return {path.name for path in (folder / "graphs").iterdir()}


@both_backends
def test_an_unchanged_graph_is_loaded_and_a_changed_language_model_gives_a_new_one(
    tmp_path, words, search, backend, monkeypatch
):
    utterance = emissions("winx", surely=0.6)
    search(backend=backend).decode(utterance)
    first = graphs_in(tmp_path)
    assert len(first) == 1

    def fail(*arguments):
        raise AssertionError("the graph is made again")

    with monkeypatch.context() as patch:
        patch.setattr(hlg, "lexicon_and_grammar", fail)
        search(backend=backend, lm_scale=0.9).decode(utterance)  # the scale is no part of the graph
    assert graphs_in(tmp_path) == first
    flat_model(tmp_path / "lm.arpa", words, wine=-0.1)
    assert search(backend=backend).decode(utterance).text == "wine"
    assert len(graphs_in(tmp_path)) == 2
    flat_model(tmp_path / "lm.arpa", words, wind=-0.1)
    assert search(backend=backend).decode(utterance).text == "wind"
    assert len(graphs_in(tmp_path)) == 3


def test_the_key_knows_all_that_goes_into_a_graph(tmp_path, words):
    arpa = flat_model(tmp_path / "lm.arpa", words)
    lang = lang_of(words)
    spelt_otherwise = [(word, spelling[1:] if word == "hello" else spelling) for word, spelling in lang.lexicon]
    variants = {
        hlg.cache_path(tmp_path, *arguments)
        for arguments in [
            ("HLG", ".fst", lang, arpa, None, "kaldi"),
            ("HLG", ".fst", lang, arpa, 2, "kaldi"),
            ("HLG", ".fst", lang, arpa, None, "k2 1"),
            ("HLG", ".fst", lang, arpa, None, "k2 2"),
            ("HLG", ".fst", lang_of(words[:-1]), arpa, None, "kaldi"),
            ("HLG", ".fst", lang_of(words, CharTokens(TOKENS.characters + "*")), arpa, None, "kaldi"),
            ("HLG", ".fst", Lang(TOKENS, lang.words, spelt_otherwise), arpa, None, "kaldi"),
            ("HLG", ".fst", Lang(TOKENS, lang.words | {"<UNK>": 50}, lang.lexicon), arpa, None, "kaldi"),
        ]
    }
    assert len(variants) == 8


def test_a_graph_that_could_not_be_made_leaves_nothing_behind(tmp_path, search, monkeypatch):
    def fail(self, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(kaldifst.StdVectorFst, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        search()
    assert graphs_in(tmp_path) == set()


def test_unusable_language_models_are_refused(tmp_path, words, search):
    arpa = tmp_path / "lm.arpa"
    arpa.unlink()
    for backend in ["kaldi", "k2"] if k2 else ["kaldi"]:
        with pytest.raises(UserError, match=r"lm\.arpa: no such language model"):
            search(backend=backend)
    arpa.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    with pytest.raises(UserError, match=r"lm\.arpa: a KenLM binary file"):
        search()
    arpa.write_text("a text\n")
    with pytest.raises(UserError, match=r"lm\.arpa: no ARPA file"):
        search()
    flat_model(arpa, ["a", "haus", "und", "hof"])
    with pytest.raises(UserError, match="knows 1 of the lexicon's 6 words .* another vocabulary"):
        search()
    flat_model(arpa, words)
    arpa.write_text(arpa.read_text().replace("-2.0\twine", "none\twine"))
    with pytest.raises(UserError, match=r"lm\.arpa: kaldilm cannot make a graph of it"):
        search()
    assert not (tmp_path / "graphs").exists() or graphs_in(tmp_path) == set()


@needs_k2
def test_unusable_rescoring_models_are_refused(tmp_path, words, search):
    lang, arpa = lang_of(words), tmp_path / "lm.arpa"
    other = flat_model(tmp_path / "other.arpa", ["a", "haus"])
    (tmp_path / "broken.bin").write_bytes(b"mmap lm http://kheafield.com/code" + bytes(range(256)))
    search()
    for model, fault in [
        (tmp_path / "gone.bin", r"gone\.bin: no such language model"),
        (tmp_path / "broken.bin", r"broken\.bin: no KenLM model"),
        (other, r"other\.arpa: it knows 1 of the lexicon's 6 words"),
    ]:
        with pytest.raises(UserError, match=fault):
            GraphSearch("nbest-rescoring", lang, arpa, tmp_path / "graphs", Decoding(**WEIGHTS), model)


def test_another_number_of_classes_is_refused(search):
    with pytest.raises(UserError, match="29 classes a frame and the token table has 34"):
        search().decode(np.zeros((3, 29), dtype=np.float32))


def test_unknown_methods_back_ends_and_weights_are_refused(search):
    with pytest.raises(UserError, match="`2best` is no graph decoding method; they are ctc-decoding, 1best, nbest"):
        backend_of("2best", "auto")
    with pytest.raises(UserError, match="`decoding.backend` is 'cuda'; it must be one of auto, k2, kaldi"):
        backend_of("1best", "cuda")
    for method in METHODS[2:]:
        with pytest.raises(UserError, match=f"method `{method}` needs k2, but `decoding.backend` is kaldi"):
            backend_of(method, "kaldi")
    with pytest.raises(UserError, match="`decoding.lm_scale` is 0.0; it must be greater than 0"):
        search(lm_scale=0.0)
    with pytest.raises(UserError, match="`decoding.hlg_order` is 0; it must be at least 1, or null"):
        search(hlg_order=0)


def test_where_k2_is_absent_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "k2", None)
    monkeypatch.setattr("torch.__version__", "2.11.0+cu130")
    monkeypatch.setattr("torch.version.cuda", "13.0")
    assert backend_of("1best", "auto") == backend_of("ctc-decoding", "kaldi") == "kaldi"
    page = "https://k2-fsa.github.io/k2/cuda.html"
    advice = (
        f"it is not installed; look up the version for torch 2.11.0 on {page} and install it: "
        f"pip install k2==VERSION+cuda13.0.torch2.11.0 -f {page}"
    )
    with pytest.raises(UserError, match=re.escape("`decoding.backend` is k2, but " + advice)):
        backend_of("1best", "k2")
    with pytest.raises(UserError, match=re.escape("method `nbest` needs k2, but " + advice)):
        backend_of("nbest", "auto")
    monkeypatch.setattr("torch.version.cuda", None)
    with pytest.raises(
        UserError, match=re.escape("k2==VERSION+cpu.torch2.11.0 -f https://k2-fsa.github.io/k2/cpu.html")
    ):
        backend_of("1best", "k2")


def test_a_k2_of_another_torch_is_named_and_auto_does_without(monkeypatch, tmp_path):
    (tmp_path / "k2").mkdir()
    (tmp_path / "k2" / "__init__.py").write_text(
        'raise ImportError("k2 was built using PyTorch 1.13.1\\nBut you are using PyTorch 2.11.0 to run it")\n'
    )
    monkeypatch.delitem(sys.modules, "k2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert backend_of("1best", "auto") == "kaldi"
    fault = (
        "it cannot be loaded (k2 was built using PyTorch 1.13.1 But you are using PyTorch 2.11.0 to run it); look up"
    )
    with pytest.raises(UserError, match=re.escape(fault)):
        backend_of("1best", "k2")
