"""The characters that the model writes, as token ids, and their files in icefall's lang directory layout.

``tokens.txt`` holds one ``symbol id`` pair a line. Its fields are separated by white space, so the space itself
stands there as ``▁`` (U+2581), the symbol that SentencePiece and icefall use for a word boundary.
"""

from collections.abc import Iterable
from pathlib import Path

from altpo_model.files import write_atomically
from altpo_model.text import CHARACTERS

BLANK_SYMBOL = "<blk>"
SPACE_SYMBOL = "▁"


class CharTokens:
    """Characters and their ids: 0 is the CTC blank, then the characters in their order.

    ``characters``: the characters, each once, a space among them (default: the 33 of the paper, section 3.2, which get
    the ids 1 to 33: space 1, a-z 2-27, ``, . ? ! - '`` 28-33).
    """

    blank = 0

    def __init__(self, characters: str = CHARACTERS):
        if " " not in characters or len(set(characters)) != len(characters):
            raise ValueError(f"characters must hold a space, and each character once: {characters!r}")
        self.characters = characters
        self._ids = {character: index for index, character in enumerate(characters, start=1)}
        self.space = self._ids[" "]

    def __len__(self) -> int:
        """The number of classes of a model, the blank counted."""
        return len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        """The ids of the characters of ``text``. Raises ValueError for a character that is not among them."""
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise ValueError(f"no token for the character {error.args[0]!r} of {text!r}; normalise it first") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; blanks are left out. Repeated ids are repeated characters."""
        return "".join(self.characters[index - 1] for index in ids if index != self.blank)

    def symbol(self, index: int) -> str:
        """What stands for token ``index`` in the files of a lang directory."""
        return BLANK_SYMBOL if index == self.blank else self.characters[index - 1].replace(" ", SPACE_SYMBOL)

    def spelling(self, word: str) -> list[int]:
        """The tokens of a word of the lexicon: its characters and the space that ends it."""
        return [*self.encode(word), self.space]

    def write(self, path: str | Path) -> None:
        """Write ``tokens.txt``."""
        with write_atomically(path) as temporary:
            lines = (f"{self.symbol(index)} {index}\n" for index in range(len(self)))
            temporary.write_text("".join(lines), encoding="utf-8")
