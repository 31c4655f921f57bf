"""Greedy and beam search on emissions whose answers are known."""

import itertools
import math

import numpy as np
import pytest
import torch
from decoding_cases import TOKENS, emissions, exhaustive_search, flat_model, lang_of, token, write_arpa

from altpo_model.config import Decoding
from altpo_model.decoding.beam import BeamSearch, LexiconFreeBeamSearch
from altpo_model.decoding.greedy import GreedySearch, best_paths
from altpo_model.decoding.hypothesis import Hypothesis, Word
from altpo_model.decoding.search import METHODS, check_methods, make_search
from altpo_model.decoding.words import collapse
from altpo_model.errors import UserError
from altpo_model.lang import Lang, write_lang
from altpo_model.tokens import CharTokens

WEIGHTS = {"lm_scale": 0.4, "word_score": 1.0}


@pytest.fixture
def beam(tmp_path):
    words = ["wind", "wine", "hello", "world", "don't", "a"]
    return BeamSearch(lang_of(words), flat_model(tmp_path / "lm.arpa", words), Decoding(**WEIGHTS))


def test_collapse_merges_neighbours_and_leaves_out_blanks():
    path = collapse(np.array([0, 2, 2, 0, 2, 3, 3, 0, 0, 1]))
    assert path.ids.tolist() == [2, 2, 3, 1]
    assert path.frames.tolist() == [[1, 3], [4, 5], [5, 7], [9, 10]]


def test_collapse_of_nothing_is_nothing():
    for frames in ([], [0, 0, 0]):
        path = collapse(np.array(frames, dtype=int))
        assert path.ids.shape == (0,)
        assert path.frames.shape == (0, 2)


def test_best_paths_end_with_each_utterance():
    batch = torch.from_numpy(np.stack([emissions("ab_b c"), emissions("aab   ")]))
    first, second = best_paths(batch, torch.tensor([6, 3]))
    assert TOKENS.decode(first.ids) == "abb c"
    assert TOKENS.decode(second.ids) == "ab"
    assert second.frames.tolist() == [[0, 2], [2, 3]]
    assert [TOKENS.decode(path.ids) for path in best_paths(batch.numpy())] == ["abb c", "ab "]


def test_greedy_search_finds_words_and_their_frames():
    hypothesis = GreedySearch(TOKENS).decode(emissions("  heel_lo,__  it'ss_"))
    assert hypothesis.words == [Word("hello,", 2, 10), Word("it's", 14, 19)]
    assert hypothesis.text == "hello, it's"
    assert hypothesis.score == pytest.approx(20 * math.log(0.9), abs=1e-4)


@pytest.mark.parametrize("path", ["", "___", "   "])
def test_an_utterance_without_words_has_an_empty_hypothesis(beam, path):
    for search in (GreedySearch(TOKENS), beam):
        hypothesis = search.decode(emissions(path))
        assert hypothesis.words == []
        assert hypothesis.text == ""


def test_beam_search_finds_words_and_their_frames(beam):
    hypothesis = beam.decode(emissions("_hhel_lo__   wo_rrld_ "))
    assert hypothesis.words == [Word("hello", 1, 8), Word("world", 13, 20)]


def test_the_last_word_needs_no_space_after_it(beam):
    without, with_space = beam.decode(emissions("a wind")), beam.decode(emissions("a wind "))
    assert without.words == with_space.words == [Word("a", 0, 1), Word("wind", 2, 6)]
    # The space costs what its frame says (with the dash, which counts as space); the synthetic frame costs nothing.
    assert without.score - with_space.score == pytest.approx(-math.log(0.9 + 0.1 / 33), abs=1e-4)


def test_a_word_of_one_frame_is_found(beam):
    assert beam.decode(emissions("a")).words == [Word("a", 0, 1)]


def test_only_words_of_the_lexicon_are_found(beam):
    assert beam.decode(emissions("hel_lo worls")).text == "hello world"


@pytest.mark.parametrize("likely, unlikely", [("wind", "wine"), ("wine", "wind")])
def test_the_language_model_decides_a_tie(tmp_path, likely, unlikely):
    model = flat_model(tmp_path / "lm.arpa", ["wind", "wine"], **{likely: -1.0})
    search = BeamSearch(lang_of(["wind", "wine"]), model, Decoding(**WEIGHTS))
    tie = emissions("win" + unlikely[-1], {3: likely[-1]})
    assert search.decode(tie).words == [Word(likely, 0, 4)]
    against = emissions("win" + unlikely[-1], surely=0.999)
    assert search.decode(against).text == unlikely


def test_the_score_is_the_sum_that_the_module_states(tmp_path):
    model = flat_model(tmp_path / "lm.arpa", ["a", "wind"])
    search = BeamSearch(lang_of(["a", "wind"]), model, Decoding(lm_scale=0.7 / math.log(10), word_score=0.3))
    acoustic = 5 * math.log(0.9) + math.log(0.9 + 0.1 / 33)  # the dash counts as space
    expected = acoustic + 0.7 * (-2 - 2 - 1) + 0.3 * 2  # two words and the end of the sentence
    assert search.decode(emissions("a wind")).score == pytest.approx(expected, abs=1e-4)


def test_marks_that_no_word_has_stand_in_no_words_way(beam):
    hypothesis = beam.decode(emissions("hel_lo, world-a!", surely=0.9999))
    assert hypothesis.words == [Word("hello", 0, 6), Word("world", 8, 13), Word("a", 14, 15)]


def test_a_mark_of_the_lexicon_is_a_character_like_others(tmp_path):
    words = ["wine,", "wine"]
    search = BeamSearch(lang_of(words), flat_model(tmp_path / "lm.arpa", words), Decoding(**WEIGHTS))
    assert search.decode(emissions("wine, wine")).text == "wine, wine"
    assert search.decode(emissions("don't")).text != "don't"


def test_confidence_is_the_geometric_mean_of_the_characters_best_posteriors(beam):
    log_probs = emissions("hheel_lo world", surely=0.9)
    log_probs[1] = emissions("h", surely=0.99)[0]  # the better frame of the h
    expected = (0.99 * 0.9**4) ** (1 / 5)
    for search in (beam, GreedySearch(TOKENS)):
        hello, world = search.decode(log_probs).words
        assert hello.confidence == pytest.approx(expected, abs=1e-3)
        assert world.confidence == pytest.approx(0.9, abs=1e-3)


def test_other_weights_are_taken_without_loading_anything_again(tmp_path):
    words = ["wind", "wine"]
    search = BeamSearch(lang_of(words), flat_model(tmp_path / "lm.arpa", words, wind=-1.0), Decoding(**WEIGHTS))
    tie = emissions("wine", {3: "d"})
    tie[3, token("d")] -= 1.0
    assert search.with_options(Decoding(lm_scale=0.0, word_score=0.0)).decode(tie).text == "wine"
    assert search.with_options(Decoding(lm_scale=1.3, word_score=0.0)).decode(tie).text == "wind"


def test_impossible_tokens_do_no_harm(beam):
    log_probs = np.full((4, len(TOKENS)), -np.inf, dtype=np.float32)
    for frame, character in enumerate("wind"):
        log_probs[frame, token(character)] = 0.0
    assert beam.decode(log_probs).words == [Word("wind", 0, 4)]


NGRAMS = {
    ("a",): (-0.9, -0.2),
    ("b",): (-1.1, -0.4),
    ("ab",): (-0.6, -0.1),
    ("ba",): (-0.8, -0.3),
    ("aa",): (-1.3, -0.5),
    ("<unk>",): (-4.0, 0.0),
    ("<s>",): (-99.0, -0.3),
    ("</s>",): (-0.7, 0.0),
    ("<s>", "ab"): (-0.3, 0.0),
    ("a", "b"): (-0.2, 0.0),
    ("b", "a"): (-0.35, 0.0),
    ("ab", "</s>"): (-0.4, 0.0),
    ("ba", "aa"): (-0.1, 0.0),
}


def bigram_score(words):
    """log10 probability of a sentence, from the table above: a bigram, or the back-off and the unigram."""
    pairs = itertools.pairwise(["<s>", *words, "</s>"])
    return sum(NGRAMS[pair][0] if pair in NGRAMS else NGRAMS[pair[:1]][1] + NGRAMS[pair[1:]][0] for pair in pairs)


@pytest.mark.parametrize("seed", range(12))
def test_beam_search_is_exhaustive_search_when_nothing_is_pruned(tmp_path, seed):
    random = np.random.default_rng(seed)
    options = Decoding(
        beam=5000,
        beam_tokens=4,
        beam_threshold=1e6,
        lm_scale=float(random.uniform(0, 1.3)),
        word_score=float(random.uniform(-1, 2)),
    )
    log_probs = np.log(random.dirichlet([0.7] * 4, size=6)).astype(np.float32)
    lexicon = ["a", "b", "ab", "ba", "aa"]
    model = write_arpa(tmp_path / "lm.arpa", NGRAMS)
    score, words = exhaustive_search(log_probs, lexicon, options, bigram_score)
    hypothesis = BeamSearch(lang_of(lexicon, CharTokens(" ab")), model, options).decode(log_probs)
    assert hypothesis.score == pytest.approx(score, abs=1e-3)
    assert hypothesis.words == words


def test_processes_give_what_one_gives_in_the_same_order(beam):
    batch = [emissions(path) for path in ("hel_lo", "", "a wind", "world wine", "don't a", "_")] * 8
    torch.randn(300, 300) @ torch.randn(300, 300)  # with torch's threads running, as after a network
    alone = [beam.decode(log_probs) for log_probs in batch]
    assert beam.decode_batch(batch, jobs=2) == alone
    assert [hypothesis.text for hypothesis in alone[:3]] == ["hello", "", "a wind"]
    assert beam.decode_batch([], jobs=2) == []
    assert GreedySearch(TOKENS).decode_batch(batch[:2], jobs=2) == [GreedySearch(TOKENS).decode(batch[0]), Hypothesis()]


def test_another_number_of_classes_is_refused(beam):
    with pytest.raises(UserError, match="29 classes a frame and the token table has 34"):
        beam.decode(np.zeros((3, 29), dtype=np.float32))


def test_missing_broken_and_foreign_language_models_are_named(tmp_path):
    (tmp_path / "broken.bin").write_bytes(b"mmap lm http://kheafield.com/code" + bytes(range(256)))
    other = flat_model(tmp_path / "other.arpa", ["haus", "hof", "wine"])
    for path, fault in [
        (tmp_path / "gone.bin", r"gone\.bin: no such language model"),
        (tmp_path / "broken.bin", r"broken\.bin: no KenLM model"),
        (other, r"other\.arpa: it knows 1 of the lexicon's 3 words .* another vocabulary"),
    ]:
        with pytest.raises(UserError, match=fault):
            BeamSearch(lang_of(["hello", "world", "wine"]), path, Decoding(**WEIGHTS))


def test_frames_that_are_surely_blank_change_nothing(tmp_path):
    words = ["hello", "wind", "a"]
    lang, model = lang_of(words), flat_model(tmp_path / "lm.arpa", words)
    path = "____hel____lo____ ____wind______a___"
    log_probs = emissions(path, surely=0.9995)
    every = BeamSearch(lang, model, Decoding(blank_threshold=1.0, **WEIGHTS)).decode(log_probs)
    few = BeamSearch(lang, model, Decoding(blank_threshold=0.999, **WEIGHTS)).decode(log_probs)
    assert few.words == every.words == [Word("hello", 4, 13), Word("wind", 22, 26)]
    assert few.score == pytest.approx(every.score, abs=1e-3)
    assert few.words[0].confidence == every.words[0].confidence == pytest.approx(0.9995, abs=1e-4)


def token_model(path, tokens, texts):
    """A bigram model over tokens: the pairs of the texts are ten times as probable as others."""
    symbols = [tokens.symbol(i) for i in range(1, len(tokens)) if tokens.symbol(i) not in ",.?!-"]
    ngrams = {(symbol,): (-2.0, 0.0) for symbol in symbols}
    ngrams |= {("<unk>",): (-6.0, 0.0), ("<s>",): (-99.0, 0.0), ("</s>",): (-1.0, 0.0)}
    for text in texts:
        ngrams |= {pair: (-1.0, 0.0) for pair in itertools.pairwise(tokens.symbol(i) for i in tokens.encode(text))}
    return write_arpa(path, ngrams)


def test_search_without_a_lexicon_finds_any_word_and_the_token_model_decides_a_tie(tmp_path):
    model = token_model(tmp_path / "lm.arpa", TOKENS, ["wine "])
    search = LexiconFreeBeamSearch(TOKENS, model, Decoding(lm_scale=0.4, word_score=0.0))
    found = search.decode(emissions("__hhel_lo,__ wine", {16: "d"}))
    assert found.words == [Word("hello", 2, 9), Word("wine", 13, 17)]
    assert search.decode(emissions("xqz")).text == "xqz"
    assert search.decode(emissions("")) == Hypothesis()
    weak = search.with_options(Decoding(lm_scale=0.0, word_score=0.0))
    tilted = emissions("wind", {3: "e"})
    tilted[3, token("e")] -= 0.5
    assert weak.decode(tilted).text == "wind"
    assert search.decode(tilted).text == "wine"
    with pytest.raises(UserError, match=r"other\.arpa: it knows 2 of the lexicon's"):
        other = flat_model(tmp_path / "other.arpa", ["a", "b"])
        LexiconFreeBeamSearch(TOKENS, other, Decoding(lm_scale=0.4, word_score=0.0))


class Pieces:
    """Pieces of which ``▁`` begins a word; what a search needs of SentencePieceTokens."""

    blank, space, _symbols = 0, None, ["<blk>", "▁a", "b", "▁b", "c"]

    def __len__(self):
        return len(self._symbols)

    def symbol(self, index):
        return self._symbols[index]


def test_words_of_pieces_are_found_also_where_their_last_piece_lasts(tmp_path):
    lang = Lang(
        Pieces(), {"a": 1, "ab": 2, "b": 3, "bc": 4}, [("a", (1,)), ("ab", (1, 2)), ("b", (3,)), ("bc", (3, 4))]
    )
    model = flat_model(tmp_path / "lm.arpa", ["a", "ab", "b", "bc"])
    best = np.array([0, 1, 1, 2, 2, 2, 3, 0, 3, 3, 4, 4, 1, 1])
    log_probs = np.log(np.full((len(best), 5), 0.02))
    log_probs[np.arange(len(best)), best] = np.log(0.92)
    found = BeamSearch(lang, model, Decoding(**WEIGHTS)).decode(log_probs)
    assert found.text == "ab b bc a"
    assert [(word.start, word.end) for word in found.words] == [(1, 4), (6, 7), (8, 11), (12, 13)]


def test_each_method_is_made_by_its_name_from_the_runs_files(tmp_path):
    words = ["hello", "wind", "a"]
    write_lang(tmp_path / "lang_char", TOKENS, words)
    lm = tmp_path / "lm"
    lm.mkdir()
    flat_model(lm / "lm.arpa", words)
    flat_model(lm / "lm.bin", words)  # KenLM knows by the content what a file is
    token_model(lm / "lang_char.bin", TOKENS, words)
    options = Decoding(backend="kaldi", hlg_order=None, **WEIGHTS)
    for method in METHODS[:5]:
        search = make_search(method, TOKENS, tmp_path / "lang_char", lm, options)
        found = search.with_options(options).decode_batch([emissions("hel_lo wind")], jobs=1, references=["hello wind"])
        assert found[0].text == "hello wind"
    assert len(list((lm / "graphs").glob("HLG-*.fst"))) == 1
    with pytest.raises(UserError, match="other tokens than the network has"):
        make_search("ctc-beam-search", CharTokens(" ab"), tmp_path / "lang_char", lm, options)
    with pytest.raises(UserError, match="`decoding.methods` has 'greedy'; it may hold ctc-greedy-search, "):
        make_search("greedy", TOKENS, tmp_path / "lang_char", lm, options)
    with pytest.raises(UserError, match="`decoding.methods` is empty"):
        check_methods([])
