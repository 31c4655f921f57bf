"""Beam search against pyctcdecode: the same log posteriors, KenLM file, lexicon, weights and beam, one process each.

    python tests/benchmarks/decode.py --system multitask            # the run's own lexicon and language model
    python tests/benchmarks/decode.py --words /usr/share/dict/american-english-huge   # and 200,000 words beside them

The posteriors are of the song test set, by a trained system. With ``--words`` a second part follows: the lexicon is the
run's own words and those of the list, 200,000 in all, and the 5-gram is of the run's text and of a generated one, in
which the words of the list are drawn by Zipf's law.

Both sides decode in turn, ``--rounds`` times; medians are printed: seconds of audio a second, the ratio of the two in
one round, word error rate; then our search with two processes over one, on ``--copies`` of the set. Memory is the peak
of a process that has both decoders and decodes with one. pyctcdecode is not needed by the recipe:
pip install --no-deps pyctcdecode pygtrie.
"""

import logging
import math
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "local"))

from altpo_model.config import Config, Decoding, argument_parser, config_from
from altpo_model.decoding.beam import BeamSearch
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.tokens import CharTokens
from recipe.data import load_cuts
from recipe.inference import System, trained_data
from recipe.measures import word_error_rate
from recipe.tune import tuned
from train_lm import normalise_sentences, train

WORDS = 200_000
GENERATED_WORDS = 3_000_000
WORDS_A_LINE = 10

Decoder = Callable[[Sequence[np.ndarray]], list[str]]


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--system", default="multitask")
    parser.add_argument("--cuts", default="dali_test")
    parser.add_argument("--words", type=Path, metavar="FILE", help="a word a line, for the lexicon of 200,000 words")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--copies", type=int, default=20)
    arguments = parser.parse_args()
    config = config_from(arguments)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # pyctcdecode's advice
    system = System(config, arguments.system)
    outputs = system.outputs(load_cuts(config, arguments.cuts), "posteriors")
    texts = [cut.supervisions[0].text or "" for cut in outputs.cuts]
    seconds = sum(cut.duration for cut in outputs.cuts)
    options = tuned(config, arguments.system)
    print(
        f"{arguments.cuts}, {arguments.system}: {len(texts)} segments, {seconds:.0f} s; beam {options.beam}, "
        f"lm_weight {options.lm_weight:g}, word_score {options.word_score:g}"
    )
    folder = trained_data(config)
    words = (folder / "lm" / "words.txt").read_text(encoding="utf-8").split()
    compare("the run's own", system.tokens, words, folder / "lm", options, outputs.log_probs, texts, seconds, arguments)
    if arguments.words:
        with tempfile.TemporaryDirectory(prefix="altpo-decode-") as temporary:
            words = large_model(config, words, arguments.words, Path(temporary))
            name = f"{len(words)} words"
            compare(name, system.tokens, words, Path(temporary), options, outputs.log_probs, texts, seconds, arguments)


def compare(
    name: str,
    tokens: CharTokens,
    words: list[str],
    folder: Path,
    options: Decoding,
    log_probs: list[np.ndarray],
    texts: list[str],
    seconds: float,
    arguments,
) -> None:
    """Print the figures of both sides with the language model of ``folder`` (lm.bin; pyctcdecode loads it as well)."""
    search = BeamSearch(tokens, words, folder / "lm.bin", options)
    sides: dict[str, Decoder] = {
        "ours": lambda batch: [h.text for h in search.decode_batch(batch)],
        "pyctcdecode": pyctcdecode_decoder(search, words, folder / "lm.bin", options),
    }
    times: dict[str, list[float]] = {side: [] for side in (*sides, "1 process", "2 processes")}
    found = {}
    many = log_probs * arguments.copies
    for _ in range(arguments.rounds):
        for side, decode in sides.items():
            times[side].append(timed(lambda decode=decode, side=side: found.__setitem__(side, decode(log_probs))))
        times["1 process"].append(timed(lambda: search.decode_batch(many)))
        times["2 processes"].append(timed(lambda: search.decode_batch(many, jobs=2)))
    print(f"\n{name} words and language model ({(folder / 'lm.bin').stat().st_size / 1e6:.0f} MB)")
    print(f"{'':<14}{'audio s / s':>12}{'WER':>8}{'peak MB':>10}")
    for side, decode in sides.items():
        rate = word_error_rate(list(zip(texts, found[side], strict=True)))["corpus"]
        speed = seconds / statistics.median(times[side])
        print(f"{side:<14}{speed:>12.0f}{rate:>8.2f}{peak_megabytes(decode, log_probs):>10.0f}")
    ratios = [theirs / ours for theirs, ours in zip(times["pyctcdecode"], times["ours"], strict=True)]
    print(f"ours over pyctcdecode: {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})")
    ratios = [one / two for one, two in zip(times["1 process"], times["2 processes"], strict=True)]
    print(f"ours, 2 processes over 1: {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})")


def pyctcdecode_decoder(search: BeamSearch, words: list[str], model: Path, options: Decoding) -> Decoder:
    """pyctcdecode with our weights: its alpha multiplies natural logarithms."""
    try:
        import pyctcdecode
    except ImportError:
        raise UserError("pyctcdecode is not installed: pip install --no-deps pyctcdecode pygtrie") from None
    labels = ["", *search.tokens.characters]  # the blank has no text
    decoder = pyctcdecode.build_ctcdecoder(
        labels, str(model), words, alpha=options.lm_weight / math.log(10), beta=options.word_score
    )
    # Marks that no word has stand in its words' way too, so that both sides get the same posteriors.
    return lambda batch: [decoder.decode(search.emissions.without_marks(p), beam_width=options.beam) for p in batch]


def large_model(config: Config, words: list[str], word_list: Path, folder: Path) -> list[str]:
    """Train the 5-gram over 200,000 words into ``folder``; returns the words."""
    if not word_list.is_file():
        raise UserError(f"{word_list}: no such word list; Debian has one in the package wamerican-huge")
    listed = (line.strip().lower() for line in word_list.read_text(encoding="utf-8").splitlines())
    plain = [word for word in listed if word.isascii() and word.replace("'", "").isalpha()]
    words = list(dict.fromkeys([*words, *plain]))[:WORDS]
    random = np.random.default_rng(0)
    order = random.permutation(len(words))
    drawn = order[np.minimum(random.zipf(1.2, GENERATED_WORDS) - 1, len(words) - 1)]
    text = folder / "text"
    normalise_sentences(Path(config.lm.text), text)
    with text.open("a", encoding="utf-8") as stream:
        for start in range(0, len(drawn), WORDS_A_LINE):
            stream.write(" ".join(words[i] for i in drawn[start : start + WORDS_A_LINE]) + "\n")
    train(text, words, folder / "lm.arpa", folder / "lm.bin", config.lm, folder)
    return words


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_megabytes(decode: Decoder, log_probs: list[np.ndarray]) -> float:
    """The peak of a forked process that decodes once: what was loaded for it is in it, as far as it is touched."""
    reader, writer = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        decode(log_probs)
        writer.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    peak = reader.recv()
    process.join()
    return peak


if __name__ == "__main__":
    main()
