"""Kim et al., "E-Branchformer: Branchformer with Enhanced Merging for Speech Recognition" (SLT 2022)."""

import torch
from torch import Tensor, nn

from altpo_model.config import Conditioning, ConfigError, Features
from altpo_model.features import frame_mask
from altpo_model.layers import FrontEnd


class EBranchformer(nn.Module):
    """Front end with conditioning, then E-Branchformer blocks.

    Positions are relative, by rotation of queries and keys (Su et al., RoFormer, 2021), where the paper has
    Transformer-XL's relative positions.

    Args:
        features, conditioning: the conf sections.
        subsampling: input frames to an output frame: 1, 2, 4 or 8.
        channels: of the front end's convolutions.
        size, layers, heads: D, blocks, and attention heads of each.
        feed_forward: hidden units of the two feed-forward modules of a block.
        gated: hidden units of the convolutional branch, even.
        kernel, merge_kernel: frames of the depth-wise convolutions of that branch and of the merge, odd.
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
        gated: int = 1024,
        kernel: int = 31,
        merge_kernel: int = 31,
        dropout: float = 0.1,
    ):
        super().__init__()
        if size % (2 * heads) or gated % 2 or not kernel % 2 or not merge_kernel % 2:
            raise ConfigError("encoder e_branchformer: size is a multiple of 2 * heads, gated is even, kernels are odd")
        self.subsampling = subsampling
        self.output_size = size
        self.front_end = FrontEnd(features, conditioning, subsampling, channels, size, dropout)
        self.layers = nn.ModuleList(
            Block(size, heads, feed_forward, gated, kernel, merge_kernel, dropout) for _ in range(layers)
        )

    def forward(self, features: Tensor, lengths: Tensor, conditions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, 2, F, T), (B,), (B, 130, T) or None -> (B, T', size), (B,)."""
        x, lengths = self.front_end(features, lengths, conditions)
        inside = frame_mask(lengths, x.shape[1])
        for layer in self.layers:
            x = layer(x, inside)
        return x, lengths


class Block(nn.Module):
    """Half a feed-forward module, two branches side by side and their merge, half a feed-forward module, layer norm."""

    def __init__(
        self, size: int, heads: int, feed_forward: int, gated: int, kernel: int, merge_kernel: int, dropout: float
    ):
        super().__init__()
        self.before = _feed_forward(size, feed_forward, dropout)
        self.attention = Attention(size, heads, dropout)
        self.convolution = GatedConvolution(size, gated, kernel, dropout)
        self.merging = DepthWise(2 * size, merge_kernel)
        self.merged = nn.Sequential(nn.Linear(2 * size, size), nn.Dropout(dropout))
        self.after = _feed_forward(size, feed_forward, dropout)
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D); ``inside`` (B, T) is true within the clips."""
        x = x + 0.5 * self.before(x)
        both = torch.cat([self.attention(x, inside), self.convolution(x, inside)], dim=2)  # (B, T, 2 D)
        x = x + self.merged(both + self.merging(both, inside))
        x = x + 0.5 * self.after(x)
        return self.norm(x)


class Attention(nn.Module):
    """The branch of global context: layer norm and self-attention with rotary positions."""

    def __init__(self, size: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(size)
        self.projection = nn.Linear(size, 3 * size)  # queries, keys, values
        self.output = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        projected = self.projection(self.norm(x)).unflatten(2, (3, self.heads, -1))  # (B, T, 3, heads, D / heads)
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)  # (B, heads, T, D / heads) each
        y = nn.functional.scaled_dot_product_attention(
            rotate(queries), rotate(keys), values, inside[:, None, None], self.dropout.p if self.training else 0.0
        )
        return self.dropout(self.output(y.transpose(1, 2).flatten(2)))


class GatedConvolution(nn.Module):
    """The branch of local context: a multi-layer perceptron with convolutional gating, whose gates start open."""

    def __init__(self, size: int, gated: int, kernel: int, dropout: float):
        super().__init__()
        self.expand = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, gated), nn.GELU())
        self.norm = nn.LayerNorm(gated // 2)
        self.gate = DepthWise(gated // 2, kernel)
        nn.init.normal_(self.gate.convolution.weight, std=1e-6)
        nn.init.ones_(self.gate.convolution.bias)
        self.reduce = nn.Sequential(nn.Dropout(dropout), nn.Linear(gated // 2, size), nn.Dropout(dropout))

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        signal, gate = self.expand(x).chunk(2, dim=2)
        return self.reduce(signal * self.gate(self.norm(gate), inside))


class DepthWise(nn.Module):
    """A depth-wise convolution over the frames, which sees zeros behind a clip's end: (B, T, D) -> (B, T, D)."""

    def __init__(self, size: int, kernel: int):
        super().__init__()
        self.convolution = nn.Conv1d(size, size, kernel, padding=kernel // 2, groups=size)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        return self.convolution((x * inside[..., None]).transpose(1, 2)).transpose(1, 2)


def rotate(x: Tensor) -> Tensor:
    """Rotary positions: turn the pairs (i, i + d / 2) of (..., T, d) at frame t by t / 10000^(2 i / d) radians."""
    half = x.shape[-1] // 2
    speeds = 10000.0 ** (-torch.arange(half, device=x.device) / half)
    angles = torch.arange(x.shape[-2], device=x.device)[:, None] * speeds  # (T, d / 2)
    cosine, sine = angles.cos().to(x), angles.sin().to(x)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def _feed_forward(size: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(size),
        nn.Linear(size, hidden),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, size),
        nn.Dropout(dropout),
    )
