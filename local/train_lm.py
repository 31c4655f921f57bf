"""Stage 5: the word list and the word n-gram language model.

The sentences of ``lm.text`` are normalised as the lyrics are, without punctuation; the ``lm.max_words`` most frequent
words stay, all others are ``<unk>``. Writes

    <data_dir>/lm/words.txt        a word a line, the most frequent first
    <data_dir>/lm/lm.arpa          KenLM's lmplz: modified Kneser-Ney
    <data_dir>/lm/lm.bin           the same as KenLM's trie (quantised to lm.quantize), which the decoder maps
"""

import gzip
import re
import shutil
import subprocess
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from altpo_model.config import LanguageModel, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.text import normalize_text

_KENLM = Path(__file__).resolve().parents[1] / "tools/kenlm/bin"
_ORDERS = range(2, 7)  # a trie has at least two orders; KenLM is built for at most six
_BITS = range(2, 26)  # of KenLM's quantised values
_OTHER_THAN_WORDS = re.compile(r"[^a-z' \n]")
_MARKS = str.maketrans(dict.fromkeys(",.?!-", " "))


def language_model_words(line: str) -> list[str]:
    """The words of a sentence: normalised, of a-z and ``'`` alone. A dash or another mark stands between two words."""
    line = line.lower()
    if _OTHER_THAN_WORDS.search(line):  # most lines of a normalised corpus are spared this
        line = normalize_text(line)[0].translate(_MARKS)
    return [word for word in line.split() if word.strip("'")]


def normalise_sentences(source: Path, target: Path) -> tuple[Counter, int]:
    """Write the words of each sentence of ``source`` to ``target``, a sentence a line.

    ``source``: plain or gzipped text; it is streamed, only the word counts are held.
    Returns: how often each word occurs, and the number of sentences that have words.
    """
    counts: Counter = Counter()
    sentences = 0
    with open(target, "w", encoding="utf-8") as out:
        for line in _lines(source):
            words = language_model_words(line)
            if words:
                counts.update(words)
                sentences += 1
                out.write(" ".join(words) + "\n")
    return counts, sentences


def train(text: Path, words: Iterable[str], arpa: Path, binary: Path, conf: LanguageModel, temporary: Path) -> bool:
    """Estimate the model of ``text`` over ``words`` and write it as ``arpa`` and ``binary``.

    ``temporary``: a folder for what lmplz sorts on disk.

    Returns: whether the discounts had to be KenLM's fallback constants (0.5, 1, 1.5): a small text has no n-gram that
    occurs once, or too few, to estimate modified Kneser-Ney's from.
    """
    vocabulary = temporary / "vocabulary.txt"
    vocabulary.write_text("\n".join(words) + "\n", encoding="utf-8")
    with write_atomically(arpa) as arpa_now:
        estimate = [_program("lmplz"), "--order", conf.order, "--memory", conf.memory, "--prune", *conf.prune]
        estimate += ["--limit_vocab_file", vocabulary, "--temp_prefix", f"{temporary}/"]
        estimate += ["--text", text, "--arpa", arpa_now]
        done = _run(estimate)
        is_fallback = done.returncode != 0 and "--discount_fallback" in done.stderr
        if is_fallback:
            done = _run([*estimate, "--discount_fallback"])
        if done.returncode != 0:
            raise UserError(f"lmplz failed: {_reason(done)}; see the keys `lm.*` of the conf file")
        with write_atomically(binary) as binary_now:
            bits = [] if conf.quantize is None else ["-q", conf.quantize, "-b", conf.quantize]
            done = _run([_program("build_binary"), "-T", f"{temporary}/", *bits, "trie", arpa_now, binary_now])
            if done.returncode != 0:
                raise UserError(f"build_binary failed: {_reason(done)}; see `lm.quantize`, or is the disk full?")
    return is_fallback


def _lines(path: Path) -> Iterator[str]:
    """The lines of a plain or gzipped file, with a progress bar over its bytes."""
    if not path.is_file():
        raise UserError(f"{path}: no such text for the language model; set `lm.text` to a file of one sentence a line")
    with (
        open(path, "rb") as raw,
        tqdm(total=path.stat().st_size, desc="language model text", unit="B", unit_scale=True, mininterval=5) as bar,
    ):
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if is_gzip else raw
        try:
            for number, line in enumerate(stream):
                yield line.decode("utf-8", errors="replace")
                if number % 10000 == 0:
                    bar.update(raw.tell() - bar.n)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: broken gzip file ({error}); fetch it again") from None
        bar.update(raw.tell() - bar.n)


def _program(name: str) -> Path:
    program = _KENLM / name
    if not program.is_file():
        raise UserError(f"{program}: KenLM is not built; start ./run.sh or tests/run.sh, which set the project up")
    return program


def _run(command: list) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace")


def _reason(done: subprocess.CompletedProcess) -> str:
    """KenLM's last message, or how the program ended."""
    said = [line.strip() for line in done.stderr.splitlines() if line.strip().strip("-*=0123456789")]
    return said[-1] if said else f"exit status {done.returncode}"


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with write_atomically(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
        out.writelines(f"{line}\n" for line in lines)


def check(conf: LanguageModel) -> None:
    """Raise UserError for settings that make no model."""
    for key in ("order", "token_order"):
        if getattr(conf, key) not in _ORDERS:
            raise UserError(f"`lm.{key}` is {getattr(conf, key)}; it must be from {_ORDERS[0]} to {_ORDERS[-1]}")
    if conf.quantize is not None and conf.quantize not in _BITS:
        raise UserError(f"`lm.quantize` is {conf.quantize}; it must be from {_BITS[0]} to {_BITS[-1]} bits, or null")
    if len(conf.prune) > conf.order:
        raise UserError(f"`lm.prune` has {len(conf.prune)} counts for a model of order {conf.order}")
    if conf.max_words < 1:
        raise UserError(f"`lm.max_words` is {conf.max_words}; the model needs at least one word")


@exits_cleanly
def main() -> None:
    conf = config_from(argument_parser(__doc__).parse_args())
    check(conf.lm)
    directory = Path(conf.data_dir) / "lm"
    directory.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=directory, prefix=".train_lm."))
    try:
        text = temporary / "text"
        counts, sentences = normalise_sentences(Path(conf.lm.text), text)
        if not counts:
            raise UserError(f"{conf.lm.text}: no word in it; set `lm.text` to a file of one sentence a line")
        # Equally frequent words in the order of the alphabet, so that the list does not depend on the text's order.
        words = sorted(counts, key=lambda word: (-counts[word], word))[: conf.lm.max_words]
        _write_lines(directory / "words.txt", words)
        is_fallback = train(text, words, directory / "lm.arpa", directory / "lm.bin", conf.lm, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    covered = sum(counts[word] for word in words) / counts.total()
    print(
        f"language model: order {conf.lm.order} from {sentences} sentences, {counts.total()} words; "
        f"{len(words)} of {len(counts)} different words kept, which are {100 * covered:.2f} % of the text; "
        f"{'fallback' if is_fallback else 'estimated'} discounts; {directory / 'lm.bin'} has "
        f"{(directory / 'lm.bin').stat().st_size / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main()
