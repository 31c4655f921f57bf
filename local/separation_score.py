"""How well a separator finds the vocals of stems that it was not trained on.

The measure is SI-SDR in dB (Le Roux, Wisdom, Erdogan and Hershey, "SDR - half-baked or well done?", ICASSP 2019),
computed by torchmetrics without removing the mean, of whole tracks against the true vocals, mono at the stored rate.
The figure of a set is the mean over its tracks.
"""

import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from altpo_model.config import Separation
from altpo_model.separation import VocalSeparator, separate_stream
from stems import Stems


def si_sdr(estimate: torch.Tensor, reference: torch.Tensor) -> float:
    """SI-SDR in dB of one track; both (samples,)."""
    return float(scale_invariant_signal_distortion_ratio(estimate, reference))


def score_separation(separator: VocalSeparator, tracks: list[Stems], separation: Separation) -> dict[str, float]:
    """Mean SI-SDR over the tracks of the mixture itself and of the separated vocals, each against the true vocals."""
    mixture, vocals = [], []
    for track in tracks:
        pairs = separate_stream(
            [track.mixture[None]],
            separation.sample_rate,
            separator,
            separation.chunk_seconds,
            separation.overlap_seconds,
            separation.sample_rate,
        )
        estimate = torch.cat([separated for _, separated in pairs])
        mixture.append(si_sdr(track.mixture, track.vocals))
        vocals.append(si_sdr(estimate, track.vocals))
    return {"si_sdr_mixture": sum(mixture) / len(mixture), "si_sdr_vocals": sum(vocals) / len(vocals)}
