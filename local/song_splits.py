"""Dividing songs into train, validation and test."""

from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np
from lhotse import MonoCut

from altpo_model.config import Split
from altpo_model.errors import UserError

PARTS = ("train", "validation", "test")

Item = TypeVar("Item")


def shuffled_parts(items: Sequence[Item], split: Split) -> dict[str, list[Item]]:
    """Shuffle by ``numpy.random.RandomState(split.seed)`` and cut in the proportions of ``split.ratio``.

    The shares of train and validation are rounded down (the authors' scripts): 2515 songs at 18:1:1 give 2263, 125 and
    127.
    """
    order = list(range(len(items)))
    np.random.RandomState(split.seed).shuffle(order)
    train, validation = (int(len(items) * share / sum(split.ratio)) for share in split.ratio[:2])
    borders = (0, train, train + validation, len(items))
    return {part: [items[i] for i in order[borders[n] : borders[n + 1]]] for n, part in enumerate(PARTS)}


def split_songs(
    songs: Sequence[MonoCut], split: Split, paper_parts: dict[str, Collection[str]] | None = None
) -> dict[str, list[MonoCut]]:
    """Divide songs, in the order given.

    paper_parts: the song ids of each part, for ``split.by == "paper"``.
    Raises UserError when ``split`` is not one of the ways that `Split` names.
    """
    if split.by == "paper":
        ids = {part: set(members) for part, members in (paper_parts or {}).items()}
        return {part: [song for song in songs if song.id in ids.get(part, ())] for part in PARTS}
    if split.by == "ratio":
        return shuffled_parts(songs, split)
    if split.by == "artist":
        named = {artist: "validation" for artist in split.validation_artists}
        named |= {artist: "test" for artist in split.test_artists}
        return {
            part: [song for song in songs if named.get(song.supervisions[0].speaker, "train") == part] for part in PARTS
        }
    if split.by in ("train", "test"):
        return {part: list(songs) if part == split.by else [] for part in PARTS}
    raise UserError(f"a corpus's split must be paper, ratio, artist, train or test, not {split.by!r}")
