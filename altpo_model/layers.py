"""The two building blocks of the paper's networks: residual convolution and bidirectional LSTM (section 3.1).

Batches hold clips of different lengths. Every layer leaves the frames behind a clip's end at zero and out of its
statistics, so that a clip gives the same output alone and in a batch.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class ResidualConvolution(nn.Module):
    """``convolution(dropout(relu(instance_norm(x)))) + skip(x)``.

    The skip is the identity, or a 1 x 1 convolution where the channels change. The padding keeps F x T.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, dropout: float = 0.0):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        """(B, C, F, T) -> (B, C', F, T); ``inside`` (B, 1, 1, T) is true within the clips, None where all are full."""
        y = self.dropout(torch.relu(instance_norm(x, inside)))
        if inside is None:
            return self.convolution(y) + self.skip(x)
        return (self.convolution(y * inside) + self.skip(x)) * inside


def instance_norm(x: Tensor, inside: Tensor | None, epsilon: float = 1e-5) -> Tensor:
    """Instance norm without affine parameters of (B, C, F, T), over the frames within each clip alone.

    Equals ``torch.nn.functional.instance_norm`` of each clip cut to its own length. ``x`` is zero outside.
    """
    if inside is None:
        return nn.functional.instance_norm(x, eps=epsilon)
    count = x.shape[2] * inside.sum(dim=3, keepdim=True)  # (B, 1, 1, 1)
    mean = x.sum(dim=(2, 3), keepdim=True) / count
    centred = (x - mean) * inside
    variance = centred.square().sum(dim=(2, 3), keepdim=True) / count
    return centred * torch.rsqrt(variance + epsilon)


class BiLstm(nn.Module):
    """``dropout(bilstm(layer_norm(x)))``: (B, T, D) -> (B, T, 2 * size)."""

    def __init__(self, input_size: int, size: int, dropout: float = 0.0):
        super().__init__()
        self.norm = nn.LayerNorm(input_size)
        self.lstm = nn.LSTM(input_size, size, bidirectional=True, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``lengths`` (B,) are the clips' frames."""
        packed = pack_padded_sequence(self.norm(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.dropout(y)
