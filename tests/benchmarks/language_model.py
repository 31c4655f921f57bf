"""How long stage 5 takes for a language model of the paper's kind, and how much memory.

    python tests/benchmarks/language_model.py [--words 10000000] [--vocabulary 200000] [--memory 1G]

The text is generated (seeded): words of two to four syllables, drawn by Zipf's law, ten a line. Runs local/train_lm.py
and local/prepare_lang.py with the paper's settings: order 5, pruning 0 0 1, 200,000 words, quantised to 8 bits. Prints
seconds, the peak of the memory of all processes together, and the size of the model. The target is under 2 GB for 10
million words.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measured_process import measured_run
from tiny_audio import ROOT, write_conf

from altpo_model.errors import exits_cleanly

SYLLABLES = [c + v + e for c in "bdfghklmnprstvw" for v in "aeiou" for e in ("", "n", "s", "r")]
WORDS_A_LINE = 10
LINES_AT_ONCE = 100_000


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=10_000_000, help="of the text (default: %(default)s)")
    parser.add_argument("--vocabulary", type=int, default=200_000, help="different words (default: %(default)s)")
    parser.add_argument("--memory", default="1G", help="lm.memory, of lmplz (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="altpo-lm-") as name:
        folder = Path(name)
        write_text(folder / "text", arguments.words, arguments.vocabulary)
        lm = {"text": str(folder / "text"), "memory": arguments.memory, "prune": [0, 0, 1], "quantize": 8}
        conf = write_conf(folder, {"data_dir": str(folder / "data"), "lm": lm})
        print(f"{arguments.words} words, {(folder / 'text').stat().st_size / 1e6:.0f} MB of text")
        for program in ("train_lm", "prepare_lang"):
            done = measured_run([sys.executable, str(ROOT / "local" / f"{program}.py"), "--conf", str(conf)])
            print(f"{program}: {done.seconds:.1f} s, {done.cpu_seconds:.1f} s of CPU, {done.peak_bytes / 1e6:.0f} MB")
        for path in ("lm/lm.arpa", "lm/lm.bin", "lang_char/lexicon.txt"):
            print(f"{path}: {(folder / 'data' / path).stat().st_size / 1e6:.0f} MB")


def write_text(path: Path, words: int, vocabulary: int) -> None:
    random = np.random.default_rng(0)
    made: dict[str, None] = {}
    while len(made) < vocabulary:
        chosen = random.integers(0, len(SYLLABLES), size=random.integers(2, 5))
        made["".join(SYLLABLES[i] for i in chosen)] = None
    table = np.array(list(made))
    with path.open("w") as out:
        for start in range(0, words // WORDS_A_LINE, LINES_AT_ONCE):
            lines = min(LINES_AT_ONCE, words // WORDS_A_LINE - start)
            drawn = np.minimum(random.zipf(1.2, (lines, WORDS_A_LINE)) - 1, vocabulary - 1)
            out.writelines(" ".join(line) + "\n" for line in table[drawn])


if __name__ == "__main__":
    main()
