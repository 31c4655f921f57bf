"""Speed of decoding: our beam search, pyctcdecode, and HLG on kaldi-decoder and (where it is installed) k2.

    python tests/benchmarks/decode.py --system multitask            # the run's own lexicon and language model
    python tests/benchmarks/decode.py --words /usr/share/dict/american-english-huge   # and 200,000 words beside them

All sides get the same log posteriors (of the song test set, by a trained system), lexicon, KenLM model and weights, and
one process; HLG holds n-grams up to decoding.hlg_order. With ``--words`` a second part follows: the lexicon is the
run's own words and those of the list, 200,000 in all, and the 5-gram is of the run's text and of a generated one, in
which the words of the list are drawn by Zipf's law; there HLG holds n-grams up to --large-hlg-order.

The sides decode in turn, ``--rounds`` times; medians are printed: seconds of audio a second, the ratio to pyctcdecode
in the same round, word error rate; then two processes over one, on ``--copies`` of the set. Memory is the peak of a
process of its own that has one side alone (Linux only). pyctcdecode is not needed by the recipe:
pip install --no-deps pyctcdecode pygtrie.
"""

import logging
import multiprocessing
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "local"))

from altpo_model.config import Config, Decoding, argument_parser, config_from
from altpo_model.decoding.beam import BeamSearch
from altpo_model.decoding.emissions import LexiconEmissions
from altpo_model.decoding.graph import GraphSearch
from altpo_model.decoding.search import Search
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.k2_package import problem_of_k2
from altpo_model.lang import Lang, read_lang
from recipe.data import load_cuts
from recipe.inference import System, trained_data, trained_lang
from recipe.measures import word_error_rate
from recipe.tune import tuned
from train_lm import normalise_sentences, train

WORDS = 200_000
GENERATED_WORDS = 3_000_000
WORDS_A_LINE = 10
BASE = "pyctcdecode"

Decoder = Callable[[Sequence[np.ndarray]], list[str]]


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--system", default="multitask")
    parser.add_argument("--cuts", default="dali_test")
    parser.add_argument("--words", type=Path, metavar="FILE", help="a word a line, for the lexicon of 200,000 words")
    parser.add_argument("--large-hlg-order", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--copies", type=int, default=20)
    arguments = parser.parse_args()
    config = config_from(arguments)
    torch.set_num_threads(1)
    system = System(config, arguments.system)
    outputs = system.outputs(load_cuts(config, arguments.cuts), "posteriors")
    texts = [cut.supervisions[0].text or "" for cut in outputs.cuts]
    seconds = sum(cut.duration for cut in outputs.cuts)
    options = tuned(config, arguments.system, "ctc-beam-search")
    print(
        f"{arguments.cuts}, {arguments.system}: {len(texts)} segments, {seconds:.0f} s; beam {options.beam}, "
        f"lm_scale {options.lm_scale:g}, word_score {options.word_score:g}"
    )
    lang = read_lang(trained_lang(config), system.tokens)
    compare("the run's own", lang, trained_data(config) / "lm", options, outputs.log_probs, texts, seconds, arguments)
    if arguments.words:
        with tempfile.TemporaryDirectory(prefix="altpo-decode-") as temporary:
            folder = Path(temporary)
            lang = large_model(config, lang, arguments.words, folder)
            options = replace(options, hlg_order=arguments.large_hlg_order)
            name = f"{len(lang.spellings)} words"
            compare(name, lang, folder, options, outputs.log_probs, texts, seconds, arguments)


def compare(
    name: str,
    lang: Lang,
    lm: Path,
    options: Decoding,
    log_probs: list[np.ndarray],
    texts: list[str],
    seconds: float,
    arguments,
) -> None:
    """Print the figures of all sides with the language model of the folder ``lm``: lm.bin, lm.arpa."""
    searches: dict[str, Search] = {}
    for side in ("ctc-beam-search", "1best, kaldi", *(["1best, k2"] if problem_of_k2() is None else [])):
        started = time.perf_counter()
        searches[side] = search_of(side, lang, lm, options)
        print(f"{name}: {side} made in {time.perf_counter() - started:.1f} s")
    decoders = {side: decoder_of(side, lang, lm, options, search) for side, search in searches.items()}
    decoders[BASE] = decoder_of(BASE, lang, lm, options)
    times: dict[str, list[float]] = {side: [] for side in decoders}
    in_processes = {side: [[], []] for side in ("ctc-beam-search", "1best, kaldi")}
    found = {}
    many = log_probs * arguments.copies
    for _ in range(arguments.rounds):
        for side, decode in decoders.items():
            times[side].append(timed(lambda decode=decode, side=side: found.__setitem__(side, decode(log_probs))))
        for side, by_number in in_processes.items():
            for jobs, values in enumerate(by_number, start=1):
                values.append(timed(lambda side=side, jobs=jobs: searches[side].decode_batch(many, jobs=jobs)))
    print(f"\n{name} words and language model ({(lm / 'lm.bin').stat().st_size / 1e6:.0f} MB), one process")
    print(f"{'':<18}{'audio s / s':>12}{'WER':>8}{'peak MB':>10}{f'times {BASE}':>20}")
    for side in decoders:
        rate = word_error_rate(list(zip(texts, found[side], strict=True)))["corpus"]
        speed = seconds / statistics.median(times[side])
        peak = peak_megabytes(side, lang, lm, options, log_probs)
        print(f"{side:<18}{speed:>12.0f}{rate:>8.2f}{peak:>10.0f}{ratios(times[BASE], times[side]):>28}")
    for side, (one, two) in in_processes.items():
        print(f"{side}, 2 processes over 1: {ratios(one, two)}")


def ratios(numerators: list[float], denominators: list[float]) -> str:
    """The median of the ratios round by round, with the lowest and the highest."""
    values = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def search_of(side: str, lang: Lang, lm: Path, options: Decoding) -> Search:
    if side == "ctc-beam-search":
        return BeamSearch(lang, lm / "lm.bin", options)
    method, backend = side.split(", ")
    return GraphSearch(method, lang, lm / "lm.arpa", lm / "graphs", replace(options, backend=backend))


def decoder_of(side: str, lang: Lang, lm: Path, options: Decoding, search: Search | None = None) -> Decoder:
    """Log posteriors to texts; pyctcdecode with our weights: its alpha multiplies natural logarithms."""
    if side != BASE:
        search = search or search_of(side, lang, lm, options)
        return lambda batch: [found.text for found in search.decode_batch(batch)]
    try:
        import pyctcdecode
    except ImportError:
        raise UserError("pyctcdecode is not installed: pip install --no-deps pyctcdecode pygtrie") from None
    labels, words = ["", *lang.tokens.characters], list(lang.spellings)  # the blank has no text
    logging.disable(logging.WARNING)  # its advice
    decoder = pyctcdecode.build_ctcdecoder(
        labels, str(lm / "lm.bin"), words, alpha=options.lm_scale, beta=options.word_score
    )
    # Marks that no word has stand in its words' way too, so that all sides get the same posteriors.
    emissions = LexiconEmissions(lang.tokens, (spelling for _, spelling in lang.lexicon))
    return lambda batch: [decoder.decode(emissions.without_marks(p), beam_width=options.beam) for p in batch]


def lang_of(tokens, words: list[str]) -> Lang:
    table = {symbol: index for index, symbol in enumerate(["<eps>", *words, "<UNK>", "#0", "<s>", "</s>"])}
    return Lang(tokens, table, [(word, tuple(tokens.spelling(word))) for word in words])


def large_model(config: Config, lang: Lang, word_list: Path, folder: Path) -> Lang:
    """Train the 5-gram over 200,000 words into ``folder``; returns the lexicon."""
    if not word_list.is_file():
        raise UserError(f"{word_list}: no such word list; Debian has one in the package wamerican-huge")
    listed = (line.strip().lower() for line in word_list.read_text(encoding="utf-8").splitlines())
    plain = [word for word in listed if word.isascii() and word.replace("'", "").isalpha()]
    words = list(dict.fromkeys([*lang.spellings, *plain]))[:WORDS]
    random = np.random.default_rng(0)
    order = random.permutation(len(words))
    drawn = order[np.minimum(random.zipf(1.2, GENERATED_WORDS) - 1, len(words) - 1)]
    text = folder / "text"
    normalise_sentences(Path(config.lm.text), text)
    with text.open("a", encoding="utf-8") as stream:
        for start in range(0, len(drawn), WORDS_A_LINE):
            stream.write(" ".join(words[i] for i in drawn[start : start + WORDS_A_LINE]) + "\n")
    train(text, words, folder / "lm.arpa", folder / "lm.bin", config.lm, folder)
    return lang_of(lang.tokens, words)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_megabytes(side: str, lang: Lang, lm: Path, options: Decoding, log_probs: list[np.ndarray]) -> float:
    """The peak of a process of its own that makes this side and decodes once."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_send_peak, args=(writer, side, lang, lm, options, log_probs))
    process.start()
    peak = reader.recv()
    process.join()
    return peak


def _send_peak(
    writer: Connection, side: str, lang: Lang, lm: Path, options: Decoding, log_probs: list[np.ndarray]
) -> None:
    decoder_of(side, lang, lm, options)(log_probs)
    status = Path("/proc/self/status").read_text()
    writer.send(int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024)


if __name__ == "__main__":
    main()
