"""The building blocks of the encoders: the paper's residual convolution and bidirectional LSTM (section 3.1), and the
convolutional front end of those that are made of attention layers.

Batches hold clips of different lengths. Every layer leaves the frames behind a clip's end at zero and out of its
statistics, so that a clip gives the same output alone and in a batch.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from altpo_model.conditioning import Conditioner
from altpo_model.config import Conditioning, ConfigError, Features
from altpo_model.features import frame_mask


class Convolution(nn.Module):
    """A 2-D convolution whose padding keeps F x T."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        """(B, C, F, T) -> (B, C', F, T); ``inside`` as in `ResidualConvolution`."""
        y = self.convolution(x)
        return y if inside is None else y.mul_(inside)


class ResidualConvolution(nn.Module):
    """``y + convolution(dropout(relu(y)))`` with ``y = projection(instance_norm(x))``.

    The projection is a 1 x 1 convolution where the channels change, else the identity. The padding keeps F x T.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, dropout: float = 0.0):
        super().__init__()
        self.projection = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        self.convolution = nn.Conv2d(out_channels, out_channels, kernel, padding=kernel // 2)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        """(B, C, F, T) -> (B, C', F, T); ``inside`` (B, 1, 1, T) is true within the clips, None where all are full."""
        # In place only where it writes on what a convolution gives, which no gradient needs.
        y = instance_norm(x, inside)
        if isinstance(self.projection, nn.Conv2d):
            y = self.projection(y)
            y = y if inside is None else y.mul_(inside)
        z = self.convolution(self.dropout(torch.relu(y))).add_(y)
        return z if inside is None else z.mul_(inside)


class FrontEnd(nn.Module):
    """Features -> frames of ``size`` at a lower rate, with pitch and onset joined after the subsampling.

    Each clip and channel is normalised over its bands and frames; 3 x 3 convolutions with ReLU, at least two, halve the
    bands, and as many of them as the subsampling wants the frames too; then conditioning and a linear layer.

    Args:
        features, conditioning: the conf sections that an encoder is given.
        subsampling: input frames to an output frame: 1, 2, 4 or 8.
        channels: of the convolutions.
        size: D of the frames that it gives.
        dropout: of these.
    """

    def __init__(
        self,
        features: Features,
        conditioning: Conditioning | None,
        subsampling: int,
        channels: int,
        size: int,
        dropout: float,
    ):
        super().__init__()
        if subsampling not in (1, 2, 4, 8):
            raise ConfigError(f"subsampling is 1, 2, 4 or 8, not {subsampling!r}")
        halvings = subsampling.bit_length() - 1  # of the frames
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels if i else 2, channels, 3, stride=(2, 2 if i < halvings else 1), padding=1)
            for i in range(max(2, halvings))
        )
        bands = features.mel_bins
        for _ in self.convolutions:
            bands = (bands - 1) // 2 + 1
        self.conditioner = Conditioner(conditioning, channels * bands, subsampling)
        self.projection = nn.Linear(self.conditioner.output_size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, lengths: Tensor, conditions: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, 2, F, T), (B,), (B, 130, T) or None -> (B, T', size), (B,)."""
        x = instance_norm(features, inside_mask(features, lengths))
        for convolution in self.convolutions:
            x = torch.relu(convolution(x))
            lengths = subsampled(lengths, convolution.stride[1])
            inside = inside_mask(x, lengths)
            x = x if inside is None else x * inside
        x = x.flatten(1, 2).transpose(1, 2)  # (B, T', channels * bands)
        return self.dropout(self.projection(self.conditioner(x, conditions))), lengths


def subsampled(frames: Tensor | int, subsampling: int) -> Tensor | int:
    """Output frames of clips with so many input frames: each begun group of ``subsampling`` input frames gives one."""
    return (frames - 1) // subsampling + 1


def inside_mask(x: Tensor, lengths: Tensor) -> Tensor | None:
    """(B, 1, 1, T) booleans of (B, C, F, T), true within the clips; None where every clip fills the batch."""
    inside = frame_mask(lengths, x.shape[-1])
    return None if bool(inside.all()) else inside[:, None, None]


def instance_norm(x: Tensor, inside: Tensor | None, epsilon: float = 1e-5) -> Tensor:
    """Instance norm without affine parameters of (B, C, F, T), over the frames within each clip alone.

    Equals ``torch.nn.functional.instance_norm`` of each clip cut to its own length. ``x`` is zero outside. In mixed
    precision it is computed and given in float32.
    """
    if inside is None:  # a group for each channel: on a CPU in half the time of torch's own instance norm
        return nn.functional.group_norm(x, x.shape[1], eps=epsilon)
    return MaskedInstanceNorm.apply(x.float(), inside, epsilon)


class MaskedInstanceNorm(torch.autograd.Function):
    """``instance_norm`` of clips of different lengths, with its gradient written out.

    So it holds one tensor of the size of ``x`` for the gradient, where autograd would hold three.
    """

    @staticmethod
    def forward(ctx, x: Tensor, inside: Tensor, epsilon: float) -> Tensor:
        inside = inside.to(x.dtype)
        count = x.shape[2] * inside.sum(dim=3, keepdim=True)  # (B, 1, 1, 1)
        mean = x.sum(dim=(2, 3), keepdim=True) / count  # (B, C, 1, 1)
        y = torch.addcmul(x, mean, inside, value=-1)
        variance = torch.linalg.vector_norm(y, dim=(2, 3), keepdim=True).square() / count
        scale = torch.rsqrt(variance + epsilon)
        y *= scale
        ctx.save_for_backward(y, inside, count, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        """``scale * (grad - mean(grad) - y * mean(grad * y))`` within the clips."""
        y, inside, count, scale = ctx.saved_tensors
        mean = torch.einsum("bcft,bt->bc", grad, inside[:, 0, 0])[..., None, None] / count
        slope = torch.linalg.vecdot(grad.flatten(2), y.flatten(2))[..., None, None] / count
        return torch.addcmul(grad, y, slope, value=-1).sub_(mean).mul_(scale * inside), None, None


class BiLstm(nn.Module):
    """``dropout(bilstm(layer_norm(x)))``: (B, T, D) -> (B, T, 2 * size).

    The two directions are LSTMs of their own, the second of which reads each clip from its own end. Packed sequences
    would say the same, but on a CPU their gradient takes time that grows with the square of T.
    """

    def __init__(self, input_size: int, size: int, dropout: float = 0.0):
        super().__init__()
        self.norm = nn.LayerNorm(input_size)
        self.forward_lstm = nn.LSTM(input_size, size, batch_first=True)
        self.backward_lstm = nn.LSTM(input_size, size, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``lengths`` (B,) are the clips' frames; what is behind them is left at zero."""
        x = self.norm(x)
        onward, _ = self.forward_lstm(x)
        back, _ = self.backward_lstm(reverse(x, lengths))
        y = torch.cat([onward, reverse(back, lengths)], dim=2)
        return self.dropout(y * frame_mask(lengths, x.shape[1])[..., None])


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Turn each clip of (B, T, D) round within its own length; what is behind it repeats its first frame."""
    frames = (lengths[:, None] - 1 - torch.arange(x.shape[1], device=x.device)).clamp(min=0)  # (B, T)
    return x.gather(1, frames[..., None].expand_as(x))
