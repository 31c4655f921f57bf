"""Vocal separation by Open-Unmix, in chunks, so that memory does not grow with the length of the song.

Source: Stoeter, Uhlich, Liutkus and Mitsufuji, "Open-Unmix - A reference implementation for music source separation"
(JOSS 2019). Models are loaded by the package's own loader: a pretrained one by name (``umxhq``) or a directory in its
layout (``separator.json``, ``vocals.json``, ``vocals.pth``).
"""

import math
import pickle
import urllib.error
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import openunmix
import openunmix.model
import torch
import torchaudio
from openunmix.utils import load_separator as load_openunmix

from altpo_model.errors import UserError

TARGET = "vocals"
MODEL_FILES = ("separator.json", f"{TARGET}.json", f"{TARGET}.pth")

_LAST_LAYER = ("lstm.weight_ih_l2", "lstm.weight_ih_l2_reverse", "fc3.weight", "bn3.running_mean")
_RESAMPLER_ZEROS = 6  # torchaudio's lowpass_filter_width: zero crossings on each side


class VocalSeparator:
    """An Open-Unmix separator that gives the vocals of a mixture at the model's own rate and number of channels."""

    def __init__(self, separator: openunmix.model.Separator) -> None:
        separator.freeze()  # without gradients, in evaluation mode: Open-Unmix's loader leaves dropout on
        self._separator = separator
        target = separator.target_models[TARGET]
        self.channels: int = target.fc1.in_features // target.nb_bins
        self.sample_rate = int(separator.sample_rate)  # Hz
        self._shortest = 2 * target.nb_output_bins  # samples: the reflecting border of the STFT needs half a window

    @torch.inference_mode()
    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        """mixture: (channels, samples). Returns the vocals, of the same shape and on the same device."""
        samples = mixture.shape[-1]
        padded = torch.nn.functional.pad(mixture, (0, max(0, self._shortest - samples)))
        estimates = self._separator(padded[None].to(self._separator.sample_rate.device))
        return estimates[0, 0, :, :samples].to(mixture.device)  # of (1, targets, channels, samples)


class StreamingResampler:
    """`torchaudio.functional.resample` of a signal that comes in blocks: the same samples, however it is divided."""

    def __init__(self, original_rate: int, new_rate: int) -> None:
        """Rates in Hz."""
        divisor = math.gcd(original_rate, new_rate)
        self._original, self._new = original_rate // divisor, new_rate // divisor
        # Samples on each side that the low-pass filter reaches, in whole periods of the two rates, so that every
        # block begins where a new sample falls on an old one.
        reach = math.ceil(_RESAMPLER_ZEROS * self._original / (0.99 * min(self._original, self._new))) + 1
        self._context = math.ceil(reach / self._original) * self._original
        self._pending: torch.Tensor | None = None  # (channels, samples), its first samples are context
        self._skip = 0  # of the pending samples, how many have been answered

    def push(self, block: torch.Tensor) -> torch.Tensor:
        """block: (channels, samples), the next of the signal. Returns the new samples that are certain by now."""
        if self._original == self._new:
            return block
        self._pending = block if self._pending is None else torch.cat([self._pending, block], dim=-1)
        ready = (self._pending.shape[-1] - self._context) // self._original * self._original
        if ready <= self._skip:
            return block.new_zeros(block.shape[0], 0)
        resampled = self._resample(self._pending)
        result = resampled[:, self._skip // self._original * self._new : ready // self._original * self._new]
        drop = max(0, ready - self._context)
        self._pending = self._pending[:, drop:]
        self._skip = ready - drop
        return result

    def flush(self) -> torch.Tensor:
        """The end of the signal: what is left of the ``ceil(samples * new / original)`` new samples, (channels, n)."""
        if self._pending is None:
            return torch.zeros(1, 0)
        result = self._resample(self._pending)[:, self._skip // self._original * self._new :]
        self._pending, self._skip = None, 0
        return result

    def _resample(self, signal: torch.Tensor) -> torch.Tensor:
        return torchaudio.functional.resample(signal, self._original, self._new, lowpass_filter_width=_RESAMPLER_ZEROS)


def load_separator(model: str, wiener_iterations: int = 0, device: str = "cpu") -> VocalSeparator:
    """Load an Open-Unmix by name (``umxhq``, ``umx``, ``umxl``) or from a directory in its layout.

    wiener_iterations: ``niter`` of Open-Unmix's multichannel Wiener filter; 0 masks the mixture only.
    Raises UserError when the directory lacks a file or a pretrained model cannot be had.
    """
    directory = Path(model).expanduser()
    try:
        if directory.exists():
            _check_directory(directory)
        elif not hasattr(openunmix, f"{model}_spec"):
            raise UserError(
                f"separation.model: {model} is neither a directory nor a pretrained Open-Unmix (umxhq, umx, umxl)"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the loader's own use of older calls of PyTorch
            # The Wiener filter needs two sources: the vocals, and the rest as the residual.
            separator = load_openunmix(
                str(directory) if directory.exists() else model,
                targets=[TARGET],
                niter=wiener_iterations,
                residual=wiener_iterations > 0,
                device=device,
            )
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise UserError(
            f"separation.model: {model} could not be downloaded from Zenodo ({getattr(error, 'reason', error)}); put "
            f"its file into {Path(torch.hub.get_dir()) / 'checkpoints'} or name a model directory"
        ) from None
    except (OSError, KeyError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]
        raise UserError(f"separation.model: {model} cannot be loaded as an Open-Unmix model ({reason})") from None
    return VocalSeparator(separator)


def separate_stream(
    blocks: Iterable[torch.Tensor],
    rate: int,
    separator: VocalSeparator,
    chunk_seconds: float,
    overlap_seconds: float,
    output_rate: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Separate a song that comes in blocks.

    blocks: (channels, samples) each, any number of channels, at ``rate`` Hz.
    Yields: pairs of mixture and vocals, mono at ``output_rate`` Hz, (samples,) each and of equal length; together
    ``ceil(samples * output_rate / rate)``.
    """
    to_model = StreamingResampler(rate, separator.sample_rate)
    mixture_out = StreamingResampler(rate, output_rate)
    vocals_out = StreamingResampler(separator.sample_rate, output_rate)
    chunker = _OverlapAdd(separator, chunk_seconds, overlap_seconds)
    aligned = _Aligner()
    for block in blocks:
        aligned.mixture(mixture_out.push(_mono(block))[0])
        vocals = chunker.push(to_model.push(_with_channels(block, separator.channels)))
        aligned.vocals(vocals_out.push(_mono(vocals))[0])
        yield from aligned.ready()
    aligned.mixture(mixture_out.flush()[0])
    vocals = torch.cat([chunker.push(_with_channels(to_model.flush(), separator.channels)), chunker.flush()], dim=-1)
    aligned.vocals(vocals_out.push(_mono(vocals))[0])
    aligned.vocals(vocals_out.flush()[0])
    yield from aligned.finish()


class _OverlapAdd:
    """Chunks of a signal through a separator, linearly cross-faded over their overlap."""

    def __init__(self, separator: VocalSeparator, chunk_seconds: float, overlap_seconds: float) -> None:
        self._separator = separator
        self._chunk = round(chunk_seconds * separator.sample_rate)  # samples
        self._overlap = round(overlap_seconds * separator.sample_rate)
        if not 0 <= 2 * self._overlap <= self._chunk or self._chunk == 0:
            raise UserError("separation.chunk_seconds must be at least twice separation.overlap_seconds")
        self._fade_in = (torch.arange(self._overlap) + 0.5) / max(1, self._overlap)
        self._pending = torch.zeros(separator.channels, 0)
        self._tail: torch.Tensor | None = None  # faded-out end of the last chunk, (channels, overlap)

    def push(self, block: torch.Tensor) -> torch.Tensor:
        """block: (channels, samples). Returns the separated samples that are final by now."""
        self._pending = torch.cat([self._pending, block], dim=-1)
        finished = [block.new_zeros(self._separator.channels, 0)]
        while self._pending.shape[-1] > self._chunk:
            separated = self._faded_in(self._separator(self._pending[:, : self._chunk]))
            step = self._chunk - self._overlap
            finished.append(separated[:, :step])
            self._tail = separated[:, step:] * self._fade_in.flip(0)
            self._pending = self._pending[:, step:]
        return torch.cat(finished, dim=-1)

    def flush(self) -> torch.Tensor:
        """The last chunk, however short."""
        if self._pending.shape[-1] == 0:
            return self._pending
        separated = self._faded_in(self._separator(self._pending))
        self._pending, self._tail = self._pending[:, :0], None
        return separated

    def _faded_in(self, separated: torch.Tensor) -> torch.Tensor:
        if self._tail is None or self._overlap == 0:
            return separated
        joint = separated[:, : self._overlap] * self._fade_in + self._tail
        return torch.cat([joint, separated[:, self._overlap :]], dim=-1)


class _Aligner:
    """Hands out mixture and vocals together; resampling in two steps can differ from one step by a sample."""

    def __init__(self) -> None:
        self._mixture = torch.zeros(0)
        self._vocals = torch.zeros(0)

    def mixture(self, samples: torch.Tensor) -> None:
        self._mixture = torch.cat([self._mixture, samples])

    def vocals(self, samples: torch.Tensor) -> None:
        self._vocals = torch.cat([self._vocals, samples])

    def ready(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        length = min(len(self._mixture), len(self._vocals))
        if length:
            yield self._mixture[:length], self._vocals[:length]
            self._mixture, self._vocals = self._mixture[length:], self._vocals[length:]

    def finish(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What is left, as long as the mixture."""
        missing = len(self._mixture) - len(self._vocals)
        self._vocals = torch.nn.functional.pad(self._vocals, (0, missing))  # a negative width cuts
        yield from self.ready()


def _mono(signal: torch.Tensor) -> torch.Tensor:
    return signal.mean(dim=0, keepdim=True)


def _with_channels(signal: torch.Tensor, channels: int) -> torch.Tensor:
    """The signal with the model's number of channels: as it is, or its mean in every channel."""
    return signal if signal.shape[0] == channels else _mono(signal).expand(channels, -1)


def _check_directory(directory: Path) -> None:
    missing = [name for name in MODEL_FILES if not (directory / name).is_file()]
    if missing and not (missing == [f"{TARGET}.pth"] and any(directory.glob(f"{TARGET}*.pth"))):
        raise UserError(f"separation.model: {directory} has no {', '.join(missing)}; stage 2 makes them, or name umxhq")
    # The loader passes over weights that the file lacks (a model with fewer layers) and leaves them random.
    weights = torch.load(next(directory.glob(f"{TARGET}*.pth")), map_location="cpu", weights_only=True)
    missing = [name for name in _LAST_LAYER if name not in weights]
    if missing:
        raise UserError(
            f"separation.model: {directory}/{TARGET}.pth has no {missing[0]}; Open-Unmix has three LSTM layers"
        )
