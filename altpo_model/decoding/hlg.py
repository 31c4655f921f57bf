"""Decoding graphs: H, the CTC topology; L, the lexicon; G, the language model; their composition; and its cache.

Made with kaldifst and kaldilm, after Mohri, Pereira and Riley (2002), as Kaldi and icefall do: LG = min(det(L o G)),
HLG = H o LG. Weights are costs, negative natural logarithms. In the graphs 0 is epsilon, so token i has the label
i + 1; words have their ids in words.txt.

L. Each word is spelt by its tokens. Where words end with a space, any number of further spaces may stand before,
between and after them. A spelling that two words share, or that begins another, gets a disambiguation symbol (#1, #2,
...), so that L o G can be determinised.

G. An n-gram model backs off by an arc with the disambiguation symbol #0, which becomes epsilon. A path may therefore
back off where the n-gram is in the model, if that costs less: of all ways to score a word sequence the graph takes the
best, which is KenLM's in nearly all cases and never worse.

kaldilm's own ``max_order`` is not used to leave out the higher orders: it keeps the back-off weights of the highest
order that it reads and charges them for every word. The ARPA file is cut instead.
"""

import hashlib
import itertools
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import kaldifst
import numpy as np

from altpo_model.decoding.language_model import check_vocabulary
from altpo_model.errors import UserError
from altpo_model.lang import Lang

_FORMAT = "1"  # of the cached graphs; part of their key
_EPSILON = 0
_DELTA = 1e-5  # to which weights are equal; the default of 2**-10 would round every arc by so much


@dataclass(frozen=True)
class GraphPath:
    """A path through a decoding graph: ``tokens`` (T,), the token of each frame; ``words``, their ids."""

    tokens: np.ndarray
    words: list[int]
    score: float


def token_label(token: int) -> int:
    """The label of a token in the graphs."""
    return token + 1


def disambiguation_label(number: int, num_tokens: int) -> int:
    """The label of the disambiguation symbol ``#number``: they follow the tokens."""
    return token_label(num_tokens) + number


def ctc_topology(num_tokens: int, num_disambiguation: int = 0) -> kaldifst.StdVectorFst:
    """H: frame-wise tokens to the tokens that they write.

    State i is where token i was the last (0: the blank). Repeated tokens and blanks write nothing. The disambiguation
    symbols of L are taken without a frame.
    """
    graph = kaldifst.StdVectorFst()
    for _ in range(num_tokens):
        graph.set_final(graph.add_state(), 0)
    graph.start = 0
    for last in range(num_tokens):
        for token in range(num_tokens):
            written = _EPSILON if token in (0, last) else token_label(token)
            graph.add_arc(last, kaldifst.StdArc(token_label(token), written, 0, token))
        for number in range(num_disambiguation):
            graph.add_arc(last, kaldifst.StdArc(_EPSILON, disambiguation_label(number, num_tokens), 0, last))
    kaldifst.arcsort(graph, sort_type="olabel")
    return graph


def lexicon_graph(lang: Lang) -> tuple[kaldifst.StdVectorFst, int]:
    """L: tokens to words; and the number of disambiguation symbols in it."""
    num_tokens = len(lang.tokens)
    spelt = Counter(spelling for _, spelling in lang.lexicon)
    # In sorted order, what begins with a spelling comes right after it.
    beginnings = {one for one, following in itertools.pairwise(sorted(spelt)) if following[: len(one)] == one}
    used: Counter = Counter()
    graph = kaldifst.StdVectorFst()
    between = graph.add_state()
    graph.start = between
    graph.set_final(between, 0)
    for word, spelling in lang.lexicon:
        labels = [token_label(token) for token in spelling]
        if spelt[spelling] > 1 or spelling in beginnings:
            used[spelling] += 1
            labels.append(disambiguation_label(used[spelling], num_tokens))
        state, written = between, lang.words[word]
        for label in labels[:-1]:
            following = graph.add_state()
            graph.add_arc(state, kaldifst.StdArc(label, written, 0, following))
            state, written = following, _EPSILON
        graph.add_arc(state, kaldifst.StdArc(labels[-1], written, 0, between))
    if lang.tokens.space is not None:
        graph.add_arc(between, kaldifst.StdArc(token_label(lang.tokens.space), _EPSILON, 0, between))
    graph.add_arc(between, kaldifst.StdArc(disambiguation_label(0, num_tokens), backoff_id(lang), 0, between))
    return graph, 1 + max(used.values(), default=0)


def grammar(arpa: str | Path, lang: Lang, order: int | None = None) -> kaldifst.StdVectorFst:
    """G of the n-grams up to ``order`` (None: all) of an ARPA file, over the words of ``lang``.

    n-grams with words that words.txt does not have are left out. Raises UserError for a file that is missing, is no
    ARPA file or knows less than half of the lexicon's words.
    """
    arpa = Path(arpa)
    orders = highest_order(arpa)
    check_vocabulary(arpa, lang.spellings, set(_unigrams(arpa)))
    with tempfile.TemporaryDirectory(prefix="altpo.") as folder:
        source, table, graph = arpa, Path(folder, "words.txt"), Path(folder, "G.fst")
        if order is not None and order < orders:
            source = Path(folder, "lm.arpa")
            with open(source, "w", encoding="utf-8") as out:
                out.writelines(_up_to_order(arpa, order))
        symbols = dict(lang.words)
        for symbol in ("<s>", "</s>"):
            symbols.setdefault(symbol, max(symbols.values()) + 1)
        symbols["#0"] = backoff_id(lang)
        table.write_text("".join(f"{word} {index}\n" for word, index in symbols.items()), encoding="utf-8")
        # In a process of its own: it logs to standard error, and gives its memory back.
        command = [sys.executable, "-m", "kaldilm", f"--read-symbol-table={table}", "--disambig-symbol=#0"]
        done = subprocess.run([*command, str(source), str(graph)], capture_output=True, text=True, errors="replace")
        if done.returncode != 0 or not graph.is_file():
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            reason = said[-1] if said else f"exit status {done.returncode}"
            raise UserError(f"{arpa}: kaldilm cannot make a graph of it ({reason}); make it anew with stage 5")
        result = kaldifst.StdVectorFst.read(str(graph))
    kaldifst.arcsort(result, sort_type="ilabel")
    return result


def lexicon_and_grammar(lang: Lang, arpa: str | Path, order: int | None) -> tuple[kaldifst.StdVectorFst, int]:
    """LG: tokens to word sequences with their language model costs; and the number of disambiguation symbols in it."""
    lexicon, num_disambiguation = lexicon_graph(lang)
    kaldifst.arcsort(lexicon, sort_type="olabel")
    graph = kaldifst.compose(lexicon, grammar(arpa, lang, order))
    kaldifst.determinize_star(graph, delta=_DELTA)
    kaldifst.minimize_encoded(graph, delta=_DELTA)
    kaldifst.arcsort(graph, sort_type="ilabel")
    return graph, num_disambiguation


def decoding_graph(lang: Lang, arpa: str | Path, order: int | None) -> kaldifst.StdVectorFst:
    """HLG: frame-wise tokens to word sequences, with no disambiguation symbol left."""
    graph, num_disambiguation = lexicon_and_grammar(lang, arpa, order)
    return kaldifst.compose(ctc_topology(len(lang.tokens), num_disambiguation), graph)


def cache_path(folder: str | Path, kind: str, suffix: str, lang: Lang, arpa: str | Path, *others: object) -> Path:
    """The file of ``folder`` that holds a graph made of just this lang directory, ARPA file and ``others``."""
    arpa = Path(arpa)
    highest_order(arpa)
    key = hashlib.sha256()
    with open(arpa, "rb") as stream:
        key.update(hashlib.file_digest(stream, "sha256").digest())
    tokens = [lang.tokens.symbol(index) for index in range(len(lang.tokens))]
    versions = [_FORMAT, *(f"{package} {version(package)}" for package in ("kaldifst", "kaldilm"))]
    for part in (kind, tokens, lang.tokens.space, lang.words, lang.lexicon, versions, others):
        key.update(repr(part).encode())
        key.update(b"\0")
    return Path(folder) / f"{kind}-{key.hexdigest()[:16]}{suffix}"


def backoff_id(lang: Lang) -> int:
    """The id of #0 among the words: that of words.txt or, where it has none, one behind those of <s> and </s>."""
    return lang.words.get("#0", max(lang.words.values()) + 3)


def highest_order(arpa: str | Path) -> int:
    """The highest order of an ARPA file, from its head. Raises UserError for a file that is missing or is none."""
    arpa = Path(arpa)
    if not arpa.is_file():
        raise UserError(f"{arpa}: no such language model; run stage 5 (local/train_lm.py), which writes the ARPA file")
    with open(arpa, "rb") as stream:
        head = stream.read(1 << 16)
    if head.startswith(b"mmap lm"):
        raise UserError(f"{arpa}: a KenLM binary file; the decoding graph is made from the ARPA file that it came from")
    lines = [line.strip() for line in head.split(b"\n")]
    if b"\\data\\" not in lines or not any(line.startswith(b"ngram ") for line in lines):
        raise UserError(f"{arpa}: no ARPA file (it has no \\data\\ section); make it anew with stage 5")
    return sum(line.startswith(b"ngram ") for line in lines[: _first(lines, b"\\1-grams:")])


def _first(lines: list[bytes], wanted: bytes) -> int:
    return lines.index(wanted) if wanted in lines else len(lines)


def _unigrams(arpa: Path) -> Iterator[str]:
    is_unigram = False
    with open(arpa, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.startswith("\\"):
                if is_unigram:
                    return
                is_unigram = line.strip() == "\\1-grams:"
            elif is_unigram:
                yield from line.split()[1:2]


def _up_to_order(arpa: Path, order: int) -> Iterator[str]:
    """The lines of an ARPA file cut to ``order``, whose n-grams lose their back-off weights."""
    section = 0
    with open(arpa, encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("ngram ") and section == 0:
                if int(line[len("ngram ") :].partition("=")[0]) <= order:
                    yield line
                continue
            if line.startswith("\\") and line.rstrip().endswith("-grams:"):
                section = int(line[1:].partition("-")[0])
                if section > order:
                    break
            if section == order and not line.startswith("\\") and line.strip():
                yield "\t".join((line.split()[0], " ".join(line.split()[1 : order + 1]))) + "\n"
            else:
                yield line
    yield "\n\\end\\\n"
