"""The plug-in point: encoders by name, and the contract that an encoder keeps.

A package of a third party adds one by the entry-point group ``altpo_model.encoders``, in its pyproject.toml:

    [project.entry-points."altpo_model.encoders"]
    mine = "my_package:MyEncoder"

and a conf file then names it as ``encoder: mine``. What `altpo_model.layers` and `altpo_model.conditioning` have is
there for it to use.
"""

import inspect
from importlib.metadata import entry_points
from typing import Protocol

import torch
from torch import Tensor, nn

from altpo_model.config import Conditioning, ConfigError, Features
from altpo_model.encoders.conformer import Conformer
from altpo_model.encoders.crnn import Crnn
from altpo_model.encoders.e_branchformer import EBranchformer
from altpo_model.encoders.ssl import SelfSupervised
from altpo_model.errors import UserError
from altpo_model.layers import subsampled

BUILT_IN = {"crnn": Crnn, "conformer": Conformer, "e_branchformer": EBranchformer, "ssl": SelfSupervised}


class Encoder(Protocol):
    """A `torch.nn.Module` that is made as ``Encoder(features, conditioning, **encoder_conf)``.

    ``features`` is the conf section: sample rate, hop and mel bands. ``conditioning`` is the conf section of the lyrics
    network; None for the pitch and onset network, which has no conditioning matrix. `Conditioner` takes both.

    What is behind a clip's end never changes what is before it.

    It may also have ``layers``, a list of modules whose outputs, or first outputs, are (B, T', output_size): an
    intermediate CTC loss can be taken from them; and ``load_pretrained()``, which reads the weights that a training
    starts from, and is not called when a trained model is loaded.
    """

    reads: str  # what forward gets as its inputs: "features" or "waveforms"
    subsampling: int  # frames of the features that one output frame stands for
    output_size: int  # D

    def forward(self, inputs: Tensor, lengths: Tensor, conditions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        inputs: features (B, 2, mel_bins, T) in dB, zero behind a clip's end, or waveforms (B, 2, N), arbitrary there;
            channel 0 the separated vocals, channel 1 the mixture.
        lengths: (B,) frames of the features, of which the longest clip has T; a clip's waveform has ``hop`` samples a
            frame, and up to ``hop - 1`` more.
        conditions: (B, 130, T), or None for the pitch and onset network.
        Returns (B, T', D) and (B,) with T' = T / subsampling, rounded up, and the lengths alike.
        """
        ...


def make_encoder(name: str, conf: dict, features: Features, conditioning: Conditioning | None) -> Encoder:
    """The encoder that the conf file names, built with its ``encoder_conf``.

    Raises ConfigError for an unknown name, a plug-in that cannot be imported, an option that the encoder does not have
    or does not take, and an encoder that breaks the contract.
    """
    kind = _find(name)
    try:
        known = list(inspect.signature(kind).parameters)
    except (TypeError, ValueError):
        known = []
    if known[:2] != ["features", "conditioning"]:
        raise ConfigError(f"encoder `{name}` is not made as {kind!r}(features, conditioning, ...), as encoders are")
    for key in conf:
        if key not in known[2:]:
            raise ConfigError(f"encoder `{name}` has no option `{key}`; it has: {', '.join(known[2:]) or 'none'}")
    try:
        encoder = kind(features, conditioning, **conf)
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"encoder `{name}` cannot be built with {conf}: {_in_words(error)}") from error
    _check_statements(name, encoder)
    return encoder


def encode(
    name: str, encoder: Encoder, inputs: Tensor, lengths: Tensor, conditions: Tensor | None, num_frames: int
) -> tuple[Tensor, Tensor]:
    """What the encoder makes of a batch whose longest clip has ``num_frames`` frames of features.

    Raises ConfigError where that is not of the shape that the encoder has promised.
    """
    given = encoder(inputs, lengths, conditions)
    expected = subsampled(lengths, encoder.subsampling)
    shape = (len(lengths), subsampled(num_frames, encoder.subsampling), encoder.output_size)
    if not (isinstance(given, tuple) and len(given) == 2 and all(isinstance(part, Tensor) for part in given)):
        raise ConfigError(f"encoder `{name}` gives a {type(given).__name__}, not its frames and their lengths")
    if given[0].shape != shape:
        raise ConfigError(f"encoder `{name}` gives {tuple(given[0].shape)} where its own statements mean {shape}")
    if not torch.equal(given[1], expected):
        raise ConfigError(f"encoder `{name}` gives the lengths {given[1].tolist()}, not {expected.tolist()}")
    return given


def _find(name: str) -> type:
    plug_ins = {point.name: point for point in entry_points(group="altpo_model.encoders")}
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name not in plug_ins:
        raise ConfigError(f"unknown encoder `{name}`; known ones: {', '.join(sorted({*BUILT_IN, *plug_ins}))}")
    try:
        return plug_ins[name].load()
    except Exception as error:
        raise ConfigError(f"encoder `{name}`: {plug_ins[name].value} cannot be imported: {_in_words(error)}") from error


def _check_statements(name: str, encoder: nn.Module) -> None:
    if not isinstance(encoder, nn.Module):
        raise ConfigError(f"encoder `{name}` is a {type(encoder).__name__}, not a torch.nn.Module")
    for key in ("output_size", "subsampling"):
        value = getattr(encoder, key, None)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"encoder `{name}` must state its `{key}` as a whole number, not {value!r}")
    reads = getattr(encoder, "reads", None)
    if reads not in ("features", "waveforms"):
        raise ConfigError(f"encoder `{name}` must state that it `reads` 'features' or 'waveforms', not {reads!r}")


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
