"""KenLM files and whether they fit the rest."""

from collections.abc import Collection
from pathlib import Path

import kenlm

from altpo_model.errors import UserError


def load_kenlm(path: str | Path) -> kenlm.Model:
    """A KenLM binary (mapped into memory) or ARPA file. Raises UserError when it is missing or broken."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such language model; run stage 5, which makes it")
    try:
        return kenlm.Model(str(path), _quiet())
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: no KenLM model ({' '.join(str(error).split())}); make it anew with stage 5") from None


def check_vocabulary(path: str | Path, words: Collection[str], known: Collection[str]) -> None:
    """Raise UserError when the language model ``path`` knows less than half of the ``words``; ``known``: those it has.

    ``known`` may be a `kenlm.Model`, which answers to ``in``.
    """
    words = set(words)
    missing = {word for word in words if word not in known}
    if len(missing) > len(words) / 2:
        raise UserError(
            f"{path}: it knows {len(words) - len(missing)} of the lexicon's {len(words)} words (not {min(missing)!r}, "
            "for one): a language model of another vocabulary; make both with one run of stage 5"
        )


def _quiet() -> kenlm.Config:
    """No progress bar and no advice while an ARPA file is read."""
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    return config
