"""The paper's convolutional recurrent encoder (sections 3.1 and 3.2)."""

import torch
from torch import Tensor, nn

from altpo_model.conditioning import Conditioner
from altpo_model.config import Conditioning, ConfigError, Features
from altpo_model.layers import BiLstm, Convolution, ResidualConvolution, inside_mask, subsampled


class Crnn(nn.Module):
    """Convolutions, 2-D max pooling (optional), conditioning, BiLSTM blocks.

    The first block is a convolution alone, the others are residual, as in the authors' scripts.

    Args:
        features, conditioning: the conf sections; pitch and onset are joined before the BiLSTM blocks.
        channels, kernels: of the convolution blocks, first to last.
        pool_after: the block after which F and T are halved; 0: no pooling. The paper pools after the last one.
        lstm_layers, lstm_size: BiLSTM blocks and their hidden units a direction.
        dropout: after each ReLU and each BiLSTM.
    """

    reads = "features"

    def __init__(
        self,
        features: Features,
        conditioning: Conditioning | None,
        channels: tuple[int, ...] = (64, 32, 32, 32, 32, 16),
        kernels: tuple[int, ...] = (5, 5, 3, 3, 3, 3),
        pool_after: int = 6,
        lstm_layers: int = 3,
        lstm_size: int = 512,
        dropout: float = 0.2,
    ):
        super().__init__()
        if len(channels) != len(kernels) or not 0 <= pool_after <= len(channels):
            raise ConfigError("encoder crnn: channels and kernels must be of equal length, pool_after one of them or 0")
        residual = zip(channels, channels[1:], kernels[1:], strict=False)
        self.blocks = nn.ModuleList(
            [
                Convolution(2, channels[0], kernels[0]),
                *(ResidualConvolution(before, after, kernel, dropout) for before, after, kernel in residual),
            ]
        )
        self.pool_after = pool_after
        self.subsampling = 2 if pool_after else 1
        flat = channels[-1] * (-(-features.mel_bins // self.subsampling))
        self.conditioner = Conditioner(conditioning, flat, self.subsampling)
        flat = self.conditioner.output_size
        self.lstms = nn.ModuleList(BiLstm(2 * lstm_size if i else flat, lstm_size, dropout) for i in range(lstm_layers))
        self.output_size = 2 * lstm_size

    @property
    def layers(self) -> nn.ModuleList:
        return self.lstms

    def forward(self, features: Tensor, lengths: Tensor, conditions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, 2, F, T), (B,), (B, 130, T) or None -> (B, T', 2 * lstm_size), (B,)."""
        inside = inside_mask(features, lengths)
        x = features
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, inside)
            if number == self.pool_after:
                x = _pool(x, inside)
                lengths = subsampled(lengths, self.subsampling)
                inside = inside_mask(x, lengths)
                x = x if inside is None else x.masked_fill(~inside, 0.0)
        x = x.flatten(1, 2).transpose(1, 2)  # (B, T', C' * F')
        x = self.conditioner(x, conditions)
        for lstm in self.lstms:
            x = lstm(x, lengths)
        return x, lengths


def _pool(x: Tensor, inside: Tensor | None) -> Tensor:
    """2-D max pooling by 2 that never looks behind a clip's end."""
    if inside is not None:
        x = x.masked_fill(~inside, torch.finfo(x.dtype).min)
    return nn.functional.max_pool2d(x, 3, stride=2, padding=1)
