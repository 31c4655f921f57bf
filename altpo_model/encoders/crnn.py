"""The paper's convolutional recurrent encoder (sections 3.1 and 3.2)."""

import torch
from torch import Tensor, nn

from altpo_model.config import ConfigError
from altpo_model.features import frame_mask
from altpo_model.layers import BiLstm, Convolution, ResidualConvolution


class Crnn(nn.Module):
    """Convolutions, 2-D max pooling (optional), conditioning by concatenation, BiLSTM blocks.

    The first block is a convolution alone, the others are residual, as in the authors' scripts.

    Args:
        input_channels, mel_bins: C and F of the features.
        condition_size: rows of the conditioning matrix that is concatenated before the BiLSTM blocks; 0 for none.
        channels, kernels: of the convolution blocks, first to last.
        pool_after: the block after which F and T are halved; 0: no pooling. The paper pools after the last one.
        lstm_layers, lstm_size: BiLSTM blocks and their hidden units a direction.
        dropout: after each ReLU and each BiLSTM.
    """

    def __init__(
        self,
        input_channels: int,
        mel_bins: int,
        condition_size: int,
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
                Convolution(input_channels, channels[0], kernels[0]),
                *(ResidualConvolution(before, after, kernel, dropout) for before, after, kernel in residual),
            ]
        )
        self.pool_after = pool_after
        self.subsampling = 2 if pool_after else 1
        flat = channels[-1] * (-(-mel_bins // self.subsampling)) + condition_size
        self.lstms = nn.ModuleList(BiLstm(2 * lstm_size if i else flat, lstm_size, dropout) for i in range(lstm_layers))
        self.output_size = 2 * lstm_size

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return (lengths - 1) // self.subsampling + 1

    def forward(self, features: Tensor, lengths: Tensor, conditions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, F, T), (B,), (B, condition_size, T) -> (B, T', 2 * lstm_size), (B,)."""
        inside = _mask(features, lengths)
        x = features
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, inside)
            if number == self.pool_after:
                x = _pool(x, inside)
                lengths = self.output_lengths(lengths)
                inside = _mask(x, lengths)
                x = x if inside is None else x.masked_fill(~inside, 0.0)
        x = x.flatten(1, 2).transpose(1, 2)  # (B, T', C' * F')
        if conditions is not None:
            if self.pool_after:
                conditions = nn.functional.max_pool1d(conditions, 3, stride=2, padding=1)
            x = torch.cat([x, conditions.transpose(1, 2)], dim=2)
        for lstm in self.lstms:
            x = lstm(x, lengths)
        return x, lengths


def _mask(x: Tensor, lengths: Tensor) -> Tensor | None:
    """(B, 1, 1, T), or None where every clip fills the batch."""
    inside = frame_mask(lengths, x.shape[-1])
    return None if bool(inside.all()) else inside[:, None, None]


def _pool(x: Tensor, inside: Tensor | None) -> Tensor:
    """2-D max pooling by 2 that never looks behind a clip's end."""
    if inside is not None:
        x = x.masked_fill(~inside, torch.finfo(x.dtype).min)
    return nn.functional.max_pool2d(x, 3, stride=2, padding=1)
