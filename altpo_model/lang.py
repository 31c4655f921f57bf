"""Lang directories: the tokens, the words and the lexicon that belong together, in icefall's layout.

    tokens.txt     `symbol id` a line; 0 is the CTC blank `<blk>`
    words.txt      `word id` a line; 0 is `<eps>`
    lexicon.txt    `word token token ...` a line; a word may have several lines
    bpe.model      the SentencePiece model, where the tokens are its pieces

Three kinds are read: ``lang_char`` and ``lang_bpe_<V>`` of local/prepare_lang.py, and the same of icefall's own
scripts, as it is. Those add disambiguation symbols (``#0``, ``#1``, ...) to tokens.txt, which the network
does not know and which are left out here; lexicon_disambig.txt, L.pt and the like are not needed, as the decoding
graphs are made from lexicon.txt.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import sentencepiece

from altpo_model.errors import UserError
from altpo_model.files import write_atomically
from altpo_model.tokens import BLANK_SYMBOL, SPACE_SYMBOL, CharTokens

# Entries of words.txt and lexicon.txt that nobody sings.
NOT_WORDS = frozenset({"<eps>", "<UNK>", "<unk>", "!SIL", "<SPOKEN_NOISE>", "#0", "<s>", "</s>"})
_DISAMBIGUATION = re.compile(r"#\d+")
_PIECES = re.compile(r"bpe_[1-9]\d*")


class SentencePieceTokens:
    """The pieces of a SentencePiece model as the tokens of a network, with the methods of `CharTokens`.

    ``model``: the serialised model (the bytes of ``bpe.model``). Its piece 0 must be ``<blk>``. A word's first piece
    begins with ``▁``, and nothing marks its end, so that ``space`` is None. Texts are lower case on our side, also with
    a model of capitals such as icefall's for LibriSpeech.
    """

    blank = 0
    space = None

    def __init__(self, model: bytes):
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        if self.symbol(self.blank) != BLANK_SYMBOL:
            raise ValueError(f"its piece 0 is {self.symbol(0)!r}, not the CTC blank {BLANK_SYMBOL!r}")
        pieces = [self.symbol(index) for index in range(len(self))]
        characters = {character for piece in pieces if not piece.startswith("<") for character in piece}
        self._is_upper = _is_upper(characters)
        # A dash ends a word, as it does where words are counted: `oh-oh` has the pieces of `oh- oh`, so that the second
        # word is spelt as in the lexicon. Marks that the model does not have are left out.
        self._marks = str.maketrans({mark: "" for mark in ",.?!" if mark not in characters})
        self._marks |= {ord("-"): "- " if "-" in characters else " "}

    @property
    def model(self) -> bytes:
        """The serialised model, for ``bpe.model`` and for a checkpoint."""
        return self._processor.serialized_model_proto()

    def __len__(self) -> int:
        """The number of classes of a network, the blank counted."""
        return self._processor.get_piece_size()

    def encode(self, text: str) -> list[int]:
        """The ids of the pieces of ``text``; ``<unk>`` for a character that the model does not know."""
        text = text.translate(self._marks)
        return self._processor.encode(text.upper() if self._is_upper else text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; blanks are left out."""
        return self._processor.decode([int(index) for index in ids if index != self.blank]).lower()

    def symbol(self, index: int) -> str:
        """What stands for token ``index`` in the files of a lang directory."""
        return self._processor.id_to_piece(int(index))

    def spelling(self, word: str) -> list[int]:
        """The pieces of a word of the lexicon. Raises ValueError for a word with an unknown character."""
        ids = self.encode(word)
        if not ids or self._processor.unk_id() in ids:
            raise ValueError(f"no pieces for {word!r}; it has a character that the SentencePiece model does not know")
        return ids

    def write(self, path: str | Path) -> None:
        """Write ``tokens.txt``, and ``bpe.model`` beside it."""
        path = Path(path)
        with write_atomically(path.with_name("bpe.model")) as temporary:
            temporary.write_bytes(self.model)
        with write_atomically(path) as temporary:
            lines = (f"{self.symbol(index)} {index}\n" for index in range(len(self)))
            temporary.write_text("".join(lines), encoding="utf-8")

    @classmethod
    def from_file(cls, path: str | Path) -> "SentencePieceTokens":
        """Read ``bpe.model``. Raises UserError when it is missing, broken or has no CTC blank."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: no such SentencePiece model; make it with local/prepare_lang.py")
        try:
            return cls(path.read_bytes())
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: no SentencePiece model of a CTC network ({reason}); make it anew") from None


Tokens = CharTokens | SentencePieceTokens


@dataclass(frozen=True)
class Lang:
    """What one lang directory says. ``words``: words.txt whole; ``lexicon``: each word with the ids of a spelling."""

    tokens: Tokens
    words: dict[str, int]
    lexicon: list[tuple[str, tuple[int, ...]]]

    @cached_property
    def spellings(self) -> dict[str, list[tuple[int, ...]]]:
        """The words of the lexicon, each once, with all of their spellings."""
        spellings: dict[str, list[tuple[int, ...]]] = {}
        for word, spelling in self.lexicon:
            spellings.setdefault(word, []).append(spelling)
        return spellings


def lang_directory(data_dir: str | Path, lang: str) -> Path:
    """Where the lang directory lies that the conf key ``lang`` names: ``char``, ``bpe_<V>`` or a path.

    Raises UserError for anything else.
    """
    if lang == "char" or _PIECES.fullmatch(lang):
        return Path(data_dir) / f"lang_{lang}"
    if "/" not in lang:
        raise UserError(f"`lang` is {lang!r}; it must be char, bpe_<number of pieces> or the path of a lang directory")
    return Path(lang)


def read_tokens(directory: str | Path) -> Tokens:
    """The tokens of a lang directory. Raises UserError as `read_lang` does."""
    return _tokens_of(_read_table(Path(directory) / "tokens.txt"), Path(directory))


def write_lang(directory: str | Path, tokens: Tokens, words: Iterable[str]) -> None:
    """Write ``tokens.txt``, ``words.txt`` (sorted) and ``lexicon.txt``; with pieces, ``bpe.model`` too.

    Raises UserError for a word that cannot be spelt with the tokens.
    """
    directory = Path(directory)
    in_order = sorted(words)
    try:
        spellings = [tokens.spelling(word) for word in in_order]
    except ValueError as error:
        raise UserError(f"{directory}: {error}") from None
    tokens.write(directory / "tokens.txt")
    with write_atomically(directory / "words.txt") as temporary, open(temporary, "w", encoding="utf-8") as out:
        symbols = ["<eps>", *in_order, "<UNK>", "#0", "<s>", "</s>"]
        out.writelines(f"{symbol} {index}\n" for index, symbol in enumerate(symbols))
    with write_atomically(directory / "lexicon.txt") as temporary, open(temporary, "w", encoding="utf-8") as out:
        for word, spelling in zip(in_order, spellings, strict=True):
            out.write(f"{word} {' '.join(map(tokens.symbol, spelling))}\n")


def read_lang(directory: str | Path, network: Tokens | None = None) -> Lang:
    """Read a lang directory. Words in capitals, as icefall's for LibriSpeech, become lower case.

    ``network``: the tokens that the network was trained with; they must be those of the directory. Raises UserError
    that names the file and the line when something is missing, malformed, or does not fit the rest.
    """
    directory = Path(directory)
    table = _read_table(directory / "tokens.txt")
    tokens = _tokens_of(table, directory)
    if network is not None:
        _check_network(tokens, network, directory / "tokens.txt")
    words = _read_table(directory / "words.txt")
    lexicon = _read_lexicon(directory / "lexicon.txt", table, len(tokens), words)
    if _is_upper({letter for word, _ in lexicon for letter in word}):
        words = {word if word in NOT_WORDS else word.lower(): index for word, index in words.items()}
        lexicon = [(word.lower(), spelling) for word, spelling in lexicon]
    return Lang(tokens, words, lexicon)


def _is_upper(characters: set[str]) -> bool:
    return any(map(str.isupper, characters)) and not any(map(str.islower, characters))


def _read_table(path: Path) -> dict[str, int]:
    """A table of symbols and ids, of which 0 is the first."""
    table: dict[str, int] = {}
    for number, fields in _lines(path):
        if len(fields) != 2 or not fields[1].isdecimal() or fields[0] in table:
            raise UserError(f"{path}: line {number} is {' '.join(fields)!r}, not a new symbol and its id")
        table[fields[0]] = int(fields[1])
    if len(set(table.values())) != len(table):
        raise UserError(f"{path}: two symbols have the same id")
    return table


def _tokens_of(table: dict[str, int], directory: Path) -> Tokens:
    path = directory / "tokens.txt"
    symbols = sorted((symbol for symbol in table if not _DISAMBIGUATION.fullmatch(symbol)), key=table.__getitem__)
    if not symbols or symbols[0] != BLANK_SYMBOL or [table[symbol] for symbol in symbols] != [*range(len(symbols))]:
        raise UserError(f"{path}: the ids of its tokens must run from 0, which is `{BLANK_SYMBOL}`, without a gap")
    if (directory / "bpe.model").is_file():
        tokens = SentencePieceTokens.from_file(directory / "bpe.model")
        if symbols != [tokens.symbol(index) for index in range(len(tokens))]:
            raise UserError(f"{path}: not the pieces of the bpe.model beside it; make the lang directory anew")
        return tokens
    for symbol in symbols[1:]:
        if len(symbol) != 1:
            raise UserError(f"{path}: `{symbol}` is no character, and no bpe.model beside it says what it is")
    try:
        return CharTokens("".join(symbols[1:]).replace(SPACE_SYMBOL, " "))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _check_network(tokens: Tokens, network: Tokens, path: Path) -> None:
    ours, theirs = ([each.symbol(index) for index in range(len(each))] for each in (tokens, network))
    if ours != theirs:
        differing = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
        detail = f"{len(ours)} against {len(theirs)}" if differing is None else f"the first that differs is {differing}"
        raise UserError(
            f"{path}: other tokens than the network has ({detail}); decode with the lang directory of its training"
        )


def _read_lexicon(
    path: Path, table: dict[str, int], num_tokens: int, words: dict[str, int]
) -> list[tuple[str, tuple[int, ...]]]:
    lexicon = []
    for number, (word, *spelling) in _lines(path):
        if word in NOT_WORDS:
            continue
        if not spelling:
            raise UserError(f"{path}: line {number}: {word!r} has no tokens")
        ids = tuple(table.get(symbol, num_tokens) for symbol in spelling)
        if max(ids) >= num_tokens or min(ids) < 1:
            raise UserError(f"{path}: line {number}: {word!r} is spelt with a token that tokens.txt does not have")
        if word not in words:
            raise UserError(f"{path}: line {number}: {word!r} is not in the words.txt beside it; make both anew")
        lexicon.append((word, ids))
    if not lexicon:
        raise UserError(f"{path}: no word in it; make the lang directory anew")
    return lexicon


def _lines(path: Path) -> Iterable[tuple[int, list[str]]]:
    """The fields of each line that has any, with its number."""
    if not path.is_file():
        raise UserError(f"{path}: no such file of a lang directory; stage 5 makes one (local/prepare_lang.py)")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a UTF-8 text file; make the lang directory anew") from None
    # Only ASCII white space separates fields: a token may be another space of Unicode.
    return [
        (number, re.split(r"[ \t\r]+", line.strip(" \t\r"))) for number, line in enumerate(lines, 1) if line.strip()
    ]
