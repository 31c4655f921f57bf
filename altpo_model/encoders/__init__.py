"""The plug-in point: encoders by name.

An encoder is a `torch.nn.Module` that is made as ``Encoder(input_channels, mel_bins, condition_size, **encoder_conf)``
and has

- ``output_size``: D, and ``subsampling``: how many input frames one output frame stands for;
- ``output_lengths(lengths)``: (B,) input frames -> (B,) output frames;
- ``forward(features, lengths, conditions)``: (B, 2, mel_bins, T), (B,) and (B, condition_size, T), or None where
  ``condition_size`` is 0 -> (B, T', D) and (B,).

A package of a third party adds one by the entry-point group ``altpo_model.encoders``.
"""

import inspect
from importlib.metadata import entry_points

from torch import nn

from altpo_model.config import ConfigError
from altpo_model.encoders.crnn import Crnn

BUILT_IN = {"crnn": Crnn}


def make_encoder(name: str, conf: dict, input_channels: int, mel_bins: int, condition_size: int) -> nn.Module:
    """The encoder that the conf file names, built with its ``encoder_conf``.

    Raises ConfigError for an unknown name or an option that the encoder does not have.
    """
    plug_ins = {point.name: point for point in entry_points(group="altpo_model.encoders")}
    if name in BUILT_IN:
        encoder = BUILT_IN[name]
    elif name in plug_ins:
        encoder = plug_ins[name].load()
    else:
        raise ConfigError(f"unknown encoder `{name}`; known ones: {', '.join(sorted({*BUILT_IN, *plug_ins}))}")
    known = [key for key in inspect.signature(encoder).parameters if key not in _GIVEN]
    for key in conf:
        if key not in known:
            raise ConfigError(f"encoder `{name}` has no option `{key}`; it has: {', '.join(known)}")
    return encoder(input_channels, mel_bins, condition_size, **conf)


_GIVEN = ("input_channels", "mel_bins", "condition_size")
