"""A Conformer (Gulati et al., Interspeech 2020): torchaudio's, behind a convolutional front end."""

import torchaudio
from torch import Tensor, nn

from altpo_model.config import Conditioning, Features
from altpo_model.features import frame_mask
from altpo_model.layers import FrontEnd


class Conformer(nn.Module):
    """Front end with conditioning, then Conformer layers.

    torchaudio's layers have no positional encoding: their convolutions tell the order of the frames, so they come
    before the attention. Their batch norm takes its statistics in training from the padding too, as everywhere.

    Args:
        features, conditioning: the conf sections.
        subsampling: input frames to an output frame: 1, 2, 4 or 8.
        channels: of the front end's convolutions.
        size, layers, heads: D, Conformer layers, and attention heads of each.
        feed_forward: hidden units of the feed-forward modules.
        kernel: frames of the depth-wise convolutions, odd.
        dropout: everywhere.
    """

    reads = "features"

    def __init__(
        self,
        features: Features,
        conditioning: Conditioning | None,
        subsampling: int = 2,
        channels: int = 32,
        size: int = 256,
        layers: int = 16,
        heads: int = 4,
        feed_forward: int = 1024,
        kernel: int = 31,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.subsampling = subsampling
        self.output_size = size
        self.front_end = FrontEnd(features, conditioning, subsampling, channels, size, dropout)
        self.layers = nn.ModuleList(
            torchaudio.models.Conformer(size, heads, feed_forward, 1, kernel, dropout, convolution_first=True)
            for _ in range(layers)
        )
        self.silence = _SilenceBehind()
        for layer in self.layers:  # of the convolution module: point-wise, gated linear unit, here, depth-wise, ...
            layer.conformer_layers[0].conv_module.sequential.insert(2, self.silence)

    def forward(self, features: Tensor, lengths: Tensor, conditions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, 2, F, T), (B,), (B, 130, T) or None -> (B, T', size), (B,)."""
        x, lengths = self.front_end(features, lengths, conditions)
        self.silence.inside = frame_mask(lengths, x.shape[1])[:, None]  # (B, 1, T')
        for layer in self.layers:
            x, _ = layer(x, lengths)
        return x, lengths


class _SilenceBehind(nn.Module):
    """Zeros behind the clips' ends, which torchaudio's depth-wise convolutions would look at."""

    inside: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.inside
