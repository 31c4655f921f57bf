"""The CTC loss (Graves et al., ICML 2006), by torch or by k2."""

import torch
from torch import Tensor, nn

from altpo_model.errors import UserError
from altpo_model.k2_package import import_k2

BACKENDS = ("torch", "k2")
_EVERYTHING = 1e4  # beam of k2's lattice, in natural logarithms: no path is pruned, as in torch


def ctc_loss(log_probs: Tensor, lengths: Tensor, tokens: Tensor, num_tokens: Tensor, backend: str = "torch") -> Tensor:
    """-ln p(tokens | X) of each clip, divided by the number of its tokens, averaged over the batch.

    log_probs: (B, T, C) natural logarithms; lengths: (B,) frames; tokens: (B, U), 0 is the blank; num_tokens: (B,).
    A clip with more tokens than frames can hold counts 0, and so does its gradient (torch's ``zero_infinity``).

    Both back ends agree in value and gradient. Raises UserError for an unknown back end, or k2 where it is not there.
    """
    if backend == "torch":
        return nn.functional.ctc_loss(log_probs.transpose(0, 1), tokens, lengths, num_tokens, zero_infinity=True)
    if backend != "k2":
        raise UserError(f"`ctc` is {backend!r}; it must be one of {', '.join(BACKENDS)}")
    k2 = import_k2("`ctc` is k2")
    order = torch.argsort(lengths.cpu(), descending=True, stable=True)  # as k2 wants them
    segments = torch.stack([order, torch.zeros_like(order), lengths.cpu()[order]], dim=1).to(torch.int32)
    texts = [tokens[clip, : num_tokens[clip]].tolist() for clip in order.tolist()]
    losses = k2.ctc_loss(
        k2.ctc_graph(texts, device=log_probs.device),
        k2.DenseFsaVec(log_probs.float(), segments),
        output_beam=_EVERYTHING,
        reduction="none",
    )
    losses = torch.where(torch.isfinite(losses), losses, 0.0)
    return (losses / num_tokens[order.to(num_tokens.device)].clamp(min=1)).mean()
