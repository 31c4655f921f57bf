"""How an encoder takes in the pitch and onset of a song: one component that every encoder shares.

The conditioning matrix has 130 rows (`altpo_model.notes.NUM_CONDITIONS`): the probabilities of 128 notes, of no-pitch
and of an onset. It is all zero for speech and behind a clip's end.
"""

import torch
from torch import Tensor, nn

from altpo_model.config import Conditioning, ConfigError
from altpo_model.notes import NUM_PITCHES

CHROMA = 12


class Conditioner(nn.Module):
    """Joins the conditioning matrix to an encoder's frames: (B, T', size), (B, 130, T) -> (B, T', output_size).

    T' is T / subsampling, rounded up: of ``subsampling`` frames to either side of an output frame, the greatest
    probability counts (max pooling, as in the paper).

    Args:
        conditioning: the conf section; None for a network that has no conditioning matrix.
        size: of the encoder's frames where they are joined.
        subsampling: of the encoder at that place.
    Raises ConfigError for an unknown kind.
    """

    def __init__(self, conditioning: Conditioning | None, size: int, subsampling: int):
        super().__init__()
        conditioning = conditioning or Conditioning(kind="none")
        _check("kind", conditioning.kind, JOINS)
        _check("pitch", conditioning.pitch, PITCHES)
        self.subsampling = subsampling
        self.fold, rows = PITCHES[conditioning.pitch]
        self.join = JOINS[conditioning.kind](size, rows + 1)
        self.output_size = self.join.output_size

    def forward(self, x: Tensor, conditions: Tensor | None) -> Tensor:
        if conditions is None:
            return x
        conditions = torch.cat([self.fold(conditions[:, :-1]), conditions[:, -1:]], dim=1)  # (B, rows, T)
        step = self.subsampling
        pooled = nn.functional.max_pool1d(conditions, 2 * step - 1, step, step - 1)  # (B, rows, T')
        return self.join(x, pooled.transpose(1, 2))


class Concatenation(nn.Module):
    """The rows stand beside the frame's own (the paper, section 3.2)."""

    def __init__(self, size: int, rows: int):
        super().__init__()
        self.output_size = size + rows

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        return torch.cat([x, conditions], dim=2)


class Film(nn.Module):
    """Feature-wise linear modulation, ``(1 + scale) * x + shift`` (Perez et al., AAAI 2018).

    Scale and shift are linear in the rows, without bias, so that speech stays as it is, and start from zero.
    """

    def __init__(self, size: int, rows: int):
        super().__init__()
        self.output_size = size
        self.linear = nn.Linear(rows, 2 * size, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        scale, shift = self.linear(conditions).chunk(2, dim=2)
        return (1 + scale) * x + shift


class Unconditioned(nn.Module):
    """The frames as they are."""

    def __init__(self, size: int, rows: int):
        super().__init__()
        self.output_size = size

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        return x


def full_posterior(pitch: Tensor) -> Tensor:
    """(B, 129, T) as it is."""
    return pitch


def fold_to_chroma(pitch: Tensor) -> Tensor:
    """(B, 129, T) -> (B, 13, T): the notes that are octaves apart summed, C first; no-pitch (unvoiced) last."""
    notes = nn.functional.pad(pitch[:, :NUM_PITCHES], (0, 0, 0, -NUM_PITCHES % CHROMA))  # (B, 132, T)
    return torch.cat([notes.unflatten(1, (-1, CHROMA)).sum(dim=1), pitch[:, NUM_PITCHES:]], dim=1)


JOINS = {"concat": Concatenation, "film": Film, "none": Unconditioned}
PITCHES = {"posterior": (full_posterior, NUM_PITCHES + 1), "chroma": (fold_to_chroma, CHROMA + 1)}


def _check(key: str, value: str, known: dict) -> None:
    if value not in known:
        raise ConfigError(f"model.conditioning.{key} is one of {', '.join(known)}, not {value!r}")
