"""Stage 5, after the language model: the lang directory that the conf key ``lang`` names, in icefall's layout.

    char       <data_dir>/lang_char/tokens.txt, words.txt, lexicon.txt               the 33 characters of the paper
    bpe_<V>    <data_dir>/lang_bpe_<V>/bpe.model, tokens.txt, words.txt, lexicon.txt    V SentencePiece pieces
    a path     a ready lang directory, of icefall's own scripts for one: it is read and checked, and left as it is

The words are those of the language model (local/train_lm.py). A word of characters is spelt with the space after it,
which is ``▁`` in the files, as their fields are separated by spaces. The pieces are learnt from the lyrics and the
speech of the training segments (stage 4). V counts all classes of the network. As in icefall, the model is
SentencePiece's unigram model, with ``<blk>`` at 0, ``<sos/eos>`` at 1 and ``<unk>`` at 2. Unlike icefall's,
``, . ? ! -`` are pieces of their own, which never join with letters, and a dash ends a word: the words of the lexicon
have none of them, and decoding can pass over them.

For ctc-beam-search-lexicon-free also <data_dir>/lm/lang_<...>.bin, an n-gram model over tokens of order lm.token_order,
of the language model's text.
"""

import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import sentencepiece
from lhotse import load_manifest_lazy

from altpo_model.config import Config, argument_parser, config_from
from altpo_model.decoding.search import LEXICON_FREE, token_model_path
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.lang import SentencePieceTokens, Tokens, lang_directory, read_lang, write_lang
from altpo_model.text import CHARACTERS
from altpo_model.tokens import BLANK_SYMBOL, CharTokens
from train_lm import check, normalise_sentences, train

_MARKS = [mark for mark in CHARACTERS if mark in ",.?!-"]


def train_pieces(texts: Iterable[str], vocab_size: int) -> SentencePieceTokens:
    """A model of ``vocab_size`` pieces. Raises UserError when the texts cannot give so many, or need more."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(text.replace("-", "- ") for text in texts),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="unigram",
            character_coverage=1.0,
            # Letters that the words of the lexicon may have and the texts have not.
            required_chars="".join(character for character in CHARACTERS if character not in (" ", *_MARKS)),
            user_defined_symbols=[BLANK_SYMBOL, "<sos/eos>", *_MARKS],
            unk_id=2,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2]
        raise UserError(f"no SentencePiece model of {vocab_size} pieces: {reason}") from None
    return SentencePieceTokens(model.getvalue())


def training_texts(cuts_dir: Path) -> Iterator[str]:
    """What is sung and spoken in the training segments."""
    paths = sorted(cuts_dir.glob("*_train.jsonl.gz"))
    if not paths:
        raise UserError(f"{cuts_dir}: no training segments to learn pieces from; run stages 1 to 4")
    for path in paths:
        for cut in load_manifest_lazy(path):
            for supervision in cut.supervisions:
                if supervision.text:
                    yield supervision.text


def train_token_model(config: Config, lang: Path, tokens: Tokens) -> None:
    """The n-gram model over tokens, of the words of the language model's text as the tokens spell them."""
    folder = Path(config.data_dir) / "lm"
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".prepare_lang."))
    try:
        normalise_sentences(Path(config.lm.text), temporary / "sentences")
        spelt: dict[str, str] = {}
        with open(temporary / "sentences", encoding="utf-8") as lines, open(temporary / "text", "w") as out:
            for line in lines:
                words = line.split()
                for word in words:
                    if word not in spelt:
                        spelt[word] = " ".join(map(tokens.symbol, tokens.spelling(word)))
                out.write(" ".join(spelt[word] for word in words) + "\n")
        symbols = [tokens.symbol(index) for index in range(len(tokens))]
        conf = replace(config.lm, order=config.lm.token_order)
        train(temporary / "text", symbols, temporary / "lm.arpa", token_model_path(folder, lang), conf, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@exits_cleanly
def main() -> None:
    config = config_from(argument_parser(__doc__).parse_args())
    check(config.lm)
    data_dir = Path(config.data_dir)
    directory = lang_directory(data_dir, config.lang)
    if "/" not in config.lang:
        words_path = data_dir / "lm" / "words.txt"
        if not words_path.is_file():
            raise UserError(f"{words_path}: no such word list; run local/train_lm.py first, which writes it")
        kind, _, pieces = config.lang.partition("_")
        tokens = CharTokens() if kind == "char" else train_pieces(training_texts(data_dir / "cuts"), int(pieces))
        write_lang(directory, tokens, words_path.read_text(encoding="utf-8").split())
    lang = read_lang(directory)
    mean = sum(len(spelling) for _, spelling in lang.lexicon) / len(lang.lexicon)
    print(f"{directory}: {len(lang.tokens)} tokens; {len(lang.spellings)} words of {mean:.2f} tokens on average")
    if LEXICON_FREE in config.decoding.methods:
        train_token_model(config, directory, lang.tokens)
        print(f"{token_model_path(data_dir / 'lm', directory)}: {config.lm.token_order}-gram model over tokens")


if __name__ == "__main__":
    main()
