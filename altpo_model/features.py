"""Waveform pair -> two-channel log-mel spectrogram (paper, section 3.1)."""

import torch
import torchaudio
from torch import Tensor, nn

from altpo_model.config import Features


class LogMel(nn.Module):
    """Log-mel power spectrogram in decibels, computed on the device that holds the waveforms.

    Agrees with ``librosa.power_to_db(librosa.feature.melspectrogram(...))``: Hann window, zeros beyond the borders,
    Slaney mel filters, and a floor 80 dB below the loudest bin of each clip and channel. Frame ``i`` is centred at
    ``i * hop`` samples, and ``N`` samples give ``max(1, N // hop)`` frames, so that 16 s at 16 kHz give T = 1000.
    """

    floor_db = 80.0

    def __init__(self, config: Features):
        super().__init__()
        self.hop = config.hop
        self.mel = torchaudio.transforms.MelSpectrogram(
            config.sample_rate,
            config.window,
            hop_length=config.hop,
            n_mels=config.mel_bins,
            norm="slaney",
            mel_scale="slaney",
            pad_mode="constant",
        )

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Frames of clips with ``num_samples`` samples."""
        return (num_samples // self.hop).clamp(min=1)

    def forward(self, waveforms: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2, N) waveforms and (B,) sample counts -> (B, 2, mel_bins, T) in dB and (B,) frame counts.

        Channel 0 is the separated vocals, channel 1 the mixture. Frames behind a clip's end are zero.
        """
        lengths = self.num_frames(num_samples)
        power = self.mel(waveforms)[..., : int(lengths.max())]  # (B, 2, mel_bins, T)
        decibels = 10.0 * torch.log10(power.clamp(min=1e-10))
        inside = frame_mask(lengths, power.shape[-1])[:, None, None]  # (B, 1, 1, T)
        loudest = decibels.masked_fill(~inside, -torch.inf).amax(dim=(2, 3), keepdim=True)
        return torch.maximum(decibels, loudest - self.floor_db) * inside, lengths


def frame_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """(B,) lengths -> (B, num_frames) booleans that are true inside the clip."""
    return torch.arange(num_frames, device=lengths.device) < lengths[:, None]
