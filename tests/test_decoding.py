"""Greedy and beam search on emissions whose answers are known."""

import itertools
import math

import numpy as np
import pytest
import torch

from altpo_model.config import Decoding
from altpo_model.decoding.beam import BeamSearch
from altpo_model.decoding.greedy import GreedySearch, best_paths, collapse
from altpo_model.decoding.hypothesis import Hypothesis, Word
from altpo_model.errors import UserError
from altpo_model.tokens import CharTokens

TOKENS = CharTokens()
WEIGHTS = {"lm_weight": 1.0, "word_score": 1.0}
SYMBOLS = {"_": TOKENS.blank, **{character: TOKENS.encode(character)[0] for character in TOKENS.characters}}


def emissions(path, doubts=None, surely=0.9):
    """Log probabilities (T, 34) of ``path``, one character a frame, ``_`` the blank.

    ``doubts``: {frame: another character that is as probable as the path's}.
    """
    probabilities = np.full((len(path), len(TOKENS)), (1 - surely) / (len(TOKENS) - 1))
    for frame, character in enumerate(path):
        probabilities[frame, SYMBOLS[character]] = surely
    for frame, character in (doubts or {}).items():
        probabilities[frame, SYMBOLS[character]] = surely
    return np.log(probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)


def write_arpa(path, unigrams, bigrams):
    """A bigram model in ARPA format. ``unigrams``: {word: (log10 p, log10 back-off)}; ``bigrams``: {(v, w): p}."""
    lines = ["\\data\\", f"ngram 1={len(unigrams)}", f"ngram 2={len(bigrams)}", "", "\\1-grams:"]
    lines += [f"{p}\t{word}\t{backoff}" for word, (p, backoff) in unigrams.items()]
    lines += ["", "\\2-grams:", *(f"{p}\t{v} {w}" for (v, w), p in bigrams.items()), "", "\\end\\", ""]
    path.write_text("\n".join(lines))
    return path


def flat_model(path, words, **better):
    """A unigram model: each word has log10 p = -2, those of ``better`` what it says."""
    unigrams = {word: (better.get(word, -2.0), 0.0) for word in words}
    unigrams |= {"<unk>": (-6.0, 0.0), "<s>": (-99.0, 0.0), "</s>": (-1.0, 0.0)}
    return write_arpa(path, unigrams, {("<s>", "</s>"): -5.0})


@pytest.fixture
def beam(tmp_path):
    words = ["wind", "wine", "hello", "world", "don't", "a"]
    return BeamSearch(TOKENS, words, flat_model(tmp_path / "lm.arpa", words), Decoding(**WEIGHTS))


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
    search = BeamSearch(TOKENS, ["wind", "wine"], model, Decoding(**WEIGHTS))
    tie = emissions("win" + unlikely[-1], {3: likely[-1]})
    assert search.decode(tie).words == [Word(likely, 0, 4)]
    against = emissions("win" + unlikely[-1], surely=0.999)
    assert search.decode(against).text == unlikely


def test_the_score_is_the_sum_that_the_module_states(tmp_path):
    model = flat_model(tmp_path / "lm.arpa", ["a", "wind"])
    search = BeamSearch(TOKENS, ["a", "wind"], model, Decoding(lm_weight=0.7, word_score=0.3))
    acoustic = 5 * math.log(0.9) + math.log(0.9 + 0.1 / 33)  # the dash counts as space
    expected = acoustic + 0.7 * (-2 - 2 - 1) + 0.3 * 2  # two words and the end of the sentence
    assert search.decode(emissions("a wind")).score == pytest.approx(expected, abs=1e-4)


def test_marks_that_no_word_has_stand_in_no_words_way(beam):
    hypothesis = beam.decode(emissions("hel_lo, world-a!", surely=0.9999))
    assert hypothesis.words == [Word("hello", 0, 6), Word("world", 8, 13), Word("a", 14, 15)]


def test_a_mark_of_the_lexicon_is_a_character_like_others(tmp_path):
    words = ["wine,", "wine"]
    search = BeamSearch(TOKENS, words, flat_model(tmp_path / "lm.arpa", words), Decoding(**WEIGHTS))
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
    search = BeamSearch(TOKENS, words, flat_model(tmp_path / "lm.arpa", words, wind=-1.0), Decoding(**WEIGHTS))
    tie = emissions("wine", {3: "d"})
    tie[3, SYMBOLS["d"]] -= 1.0
    assert search.with_options(Decoding(lm_weight=0.0, word_score=0.0)).decode(tie).text == "wine"
    assert search.with_options(Decoding(lm_weight=3.0, word_score=0.0)).decode(tie).text == "wind"


def test_impossible_tokens_do_no_harm(beam):
    log_probs = np.full((4, len(TOKENS)), -np.inf, dtype=np.float32)
    for frame, character in enumerate("wind"):
        log_probs[frame, SYMBOLS[character]] = 0.0
    assert beam.decode(log_probs).words == [Word("wind", 0, 4)]


UNIGRAMS = {
    "a": (-0.9, -0.2),
    "b": (-1.1, -0.4),
    "ab": (-0.6, -0.1),
    "ba": (-0.8, -0.3),
    "aa": (-1.3, -0.5),
    "<unk>": (-4.0, 0.0),
    "<s>": (-99.0, -0.3),
    "</s>": (-0.7, 0.0),
}
BIGRAMS = {("<s>", "ab"): -0.3, ("a", "b"): -0.2, ("b", "a"): -0.35, ("ab", "</s>"): -0.4, ("ba", "aa"): -0.1}


def bigram_score(words):
    """log10 probability of a sentence, from the tables above: a bigram, or the back-off and the unigram."""
    sentence = ["<s>", *words, "</s>"]
    return sum(
        BIGRAMS.get((v, w), UNIGRAMS[v][1] + UNIGRAMS[w][0]) for v, w in zip(sentence, sentence[1:], strict=False)
    )


def exhaustive_search(log_probs, lexicon, options):
    """The best word sequence over all C**T CTC paths, with its score and word frames, each path taken by itself."""
    best = (-math.inf, [])
    for path in itertools.product("_ ab", repeat=len(log_probs)):
        words, spelling, start, end, previous = [], "", None, 0, "_"
        for frame, symbol in enumerate([*path, " "]):
            if symbol == " " and start is not None:
                words.append(Word(spelling, start, end))
                start = None
            elif symbol not in "_ ":
                if start is None:
                    spelling, start = symbol, frame
                elif symbol != previous:
                    spelling += symbol
                end = frame + 1
            previous = symbol
        texts = [word.text for word in words]
        if set(texts) <= set(lexicon):
            acoustic = sum(log_probs[frame, "_ ab".index(symbol)] for frame, symbol in enumerate(path))
            score = acoustic + options.lm_weight * bigram_score(texts) + options.word_score * len(texts)
            best = max(best, (score, words), key=lambda found: found[0])
    return best


@pytest.mark.parametrize("seed", range(12))
def test_beam_search_is_exhaustive_search_when_nothing_is_pruned(tmp_path, seed):
    random = np.random.default_rng(seed)
    options = Decoding(
        beam=5000,
        beam_tokens=4,
        beam_threshold=1e6,
        lm_weight=float(random.uniform(0, 3)),
        word_score=float(random.uniform(-1, 2)),
    )
    log_probs = np.log(random.dirichlet([0.7] * 4, size=6)).astype(np.float32)
    lexicon = ["a", "b", "ab", "ba", "aa"]
    model = write_arpa(tmp_path / "lm.arpa", UNIGRAMS, BIGRAMS)
    score, words = exhaustive_search(log_probs, lexicon, options)
    hypothesis = BeamSearch(CharTokens(" ab"), lexicon, model, options).decode(log_probs)
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


def test_missing_and_broken_files_are_named(tmp_path):
    lexicon, model = tmp_path / "lexicon.txt", flat_model(tmp_path / "lm.arpa", ["a"])
    with pytest.raises(UserError, match=r"lexicon\.txt: no such lexicon"):
        BeamSearch.from_files(TOKENS, lexicon, model, Decoding(**WEIGHTS))
    lexicon.write_text("a a ▁\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"gone\.bin: no such language model"):
        BeamSearch.from_files(TOKENS, lexicon, tmp_path / "gone.bin", Decoding(**WEIGHTS))
    (tmp_path / "broken.bin").write_bytes(b"mmap lm http://kheafield.com/code" + bytes(range(256)))
    with pytest.raises(UserError, match=r"broken\.bin: no KenLM model"):
        BeamSearch.from_files(TOKENS, lexicon, tmp_path / "broken.bin", Decoding(**WEIGHTS))
    assert BeamSearch.from_files(TOKENS, lexicon, model, Decoding(**WEIGHTS)).decode(emissions("a")).text == "a"


def test_a_lexicon_that_cannot_be_used_is_refused(tmp_path):
    model = flat_model(tmp_path / "lm.arpa", ["a"])
    with pytest.raises(UserError, match="holds no word"):
        BeamSearch(TOKENS, [], model, Decoding(**WEIGHTS))
    with pytest.raises(UserError, match="'é'"):
        BeamSearch(TOKENS, ["café"], model, Decoding(**WEIGHTS))
