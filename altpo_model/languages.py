"""Languages by whatever name a corpus gives them: "English", "english", "Englisch", "en", "eng" are one."""

import functools
import re
from collections.abc import Iterable

import langcodes

from altpo_model.errors import UserError

_NO_LANGUAGE = {"mul", "mis", "und", "zxx"}  # several, uncoded, undetermined, none
_LONGEST = 100  # characters of a name
_CODE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{2,4})*")


@functools.cache
def language_code(name: str | None) -> str | None:
    """The BCP 47 code of a language, without region ("en"), by its name in any language or by a code.

    Of several ("English, Spanish") the first counts. None where there is no name or nobody knows it.
    """
    first = re.split(r"[,;/|]", name or "")[0].strip()
    if not (first.isprintable() and 0 < len(first) <= _LONGEST):  # langcodes fails at a NUL, and is slow on long texts
        return None
    try:
        # A code before a name: "en" is also what the Enets language is called somewhere.
        is_code = _CODE.fullmatch(first) and langcodes.tag_is_valid(first)
        code = (langcodes.get(first) if is_code else langcodes.find(first)).language
    except (LookupError, ValueError):
        return None
    return None if code in _NO_LANGUAGE else code


def language_name(name: str | None) -> str | None:
    """The English name ("English") of a language that `language_code` knows, otherwise the name as it stands."""
    code = language_code(name)
    return langcodes.get(code).display_name() if code else (name or "").strip() or None


def language_codes(languages: Iterable[str] | None) -> set[str] | None:
    """The codes of languages given by name or code. Raises UserError for one that nobody knows."""
    if languages is None:
        return None
    codes = {name: language_code(name) for name in languages}
    if unknown := [name for name, code in codes.items() if code is None]:
        raise UserError(f"languages: nobody knows {unknown[0]!r}; write English, German, ... or null for every song")
    return set(codes.values())
