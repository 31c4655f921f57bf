"""Emissions, language models and answers that tests of several searches share."""

import itertools
import math

import numpy as np

from altpo_model.decoding.hypothesis import Word
from altpo_model.lang import Lang
from altpo_model.tokens import CharTokens

TOKENS = CharTokens()


def lang_of(words, tokens=TOKENS):
    symbols = ["<eps>", *words, "#0", "<s>", "</s>"]
    table = {symbol: index for index, symbol in enumerate(symbols)}
    return Lang(tokens, table, [(word, tuple(tokens.spelling(word))) for word in words])


def token(character):
    """The id of a character, ``_`` the blank."""
    return TOKENS.blank if character == "_" else TOKENS.encode(character)[0]


def emissions(path, doubts=None, surely=0.9):
    """Log probabilities (T, 34) of ``path``, one character a frame, ``_`` the blank.

    ``doubts``: {frame: another character that is as probable as the path's}.
    """
    probabilities = np.full((len(path), len(TOKENS)), (1 - surely) / (len(TOKENS) - 1))
    for frame, character in [*enumerate(path), *(doubts or {}).items()]:
        probabilities[frame, token(character)] = surely
    return np.log(probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)


def write_arpa(path, ngrams):
    """An ARPA file. ``ngrams``: {(word, ...): (log10 p, log10 back-off)}."""
    order = max(map(len, ngrams))
    sections = [{words: value for words, value in ngrams.items() if len(words) == n} for n in range(1, order + 1)]
    lines = ["\\data\\", *(f"ngram {n}={len(section)}" for n, section in enumerate(sections, 1)), ""]
    for n, section in enumerate(sections, 1):
        lines.append(f"\\{n}-grams:")
        for words, (p, backoff) in section.items():
            lines.append(f"{p}\t{' '.join(words)}" + (f"\t{backoff}" if n < order else ""))
        lines.append("")
    path.write_text("\n".join([*lines, "\\end\\", ""]))
    return path


def flat_model(path, words, **better):
    """A unigram model in a bigram's file: each word has log10 p = -2, those of ``better`` what it says."""
    ngrams = {(word,): (better.get(word, -2.0), 0.0) for word in words}
    ngrams |= {("<unk>",): (-6.0, 0.0), ("<s>",): (-99.0, 0.0), ("</s>",): (-1.0, 0.0), ("<s>", "</s>"): (-1.0, 0.0)}
    return write_arpa(path, ngrams)


def exhaustive_search(log_probs, lexicon, options, log10_of):
    """The best word sequence over all C**T CTC paths, with its score and word frames, each path taken by itself."""
    best, memory = (-math.inf, []), {}
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
        texts = tuple(word.text for word in words)
        if set(texts) <= set(lexicon):
            if texts not in memory:
                memory[texts] = math.log(10) * log10_of(texts)
            acoustic = sum(log_probs[frame, "_ ab".index(symbol)] for frame, symbol in enumerate(path))
            score = acoustic + options.lm_scale * memory[texts] + options.word_score * len(texts)
            best = max(best, (score, words), key=lambda found: found[0])
    return best
