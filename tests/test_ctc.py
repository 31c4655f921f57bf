"""The CTC loss against the sum over all paths, and its back ends against each other."""

import itertools
import math

import pytest
import torch

from altpo_model.ctc import ctc_loss
from altpo_model.errors import UserError
from altpo_model.k2_package import problem_of_k2

BACKENDS = [
    "torch",
    pytest.param("k2", marks=pytest.mark.skipif(problem_of_k2() is not None, reason=f"k2: {problem_of_k2()}")),
]


def batch(seed=0):
    """(log_probs, lengths, tokens, num_tokens) of clips of several lengths, one with a repeated token, one empty."""
    torch.manual_seed(seed)
    log_probs = torch.randn(4, 6, 3).log_softmax(-1).requires_grad_()
    tokens = torch.tensor([[1, 1, 2], [2, 0, 0], [1, 2, 1], [0, 0, 0]])
    return log_probs, torch.tensor([5, 3, 6, 4]), tokens, torch.tensor([3, 1, 3, 0])


def probability_of_all_paths(log_probs, tokens):
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if [token for token, _ in itertools.groupby(path) if token] == tokens:
            total += math.exp(sum(log_probs[frame, token].item() for frame, token in enumerate(path)))
    return total


@pytest.mark.parametrize("backend", BACKENDS)
def test_loss_is_the_sum_over_all_paths(backend):
    log_probs, lengths, tokens, counts = batch()
    expected = [
        -math.log(probability_of_all_paths(log_probs[i, : lengths[i]], tokens[i, : counts[i]].tolist()))
        / max(1, int(counts[i]))
        for i in range(4)
    ]
    loss = ctc_loss(log_probs, lengths, tokens, counts, backend)
    assert loss.item() == pytest.approx(sum(expected) / 4, rel=1e-5)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_values_and_gradients_are_torchs(backend):
    for seed in range(3):
        gradients = []
        for each in ("torch", backend):
            log_probs, *others = batch(seed)
            logits = log_probs.detach().requires_grad_()  # torch's gradient is right behind a softmax only
            loss = ctc_loss(logits.log_softmax(-1), *others, each)
            loss.backward()
            gradients.append((loss.item(), logits.grad))
        (torchs, expected), (ours, found) = gradients
        assert ours == pytest.approx(torchs, rel=1e-5)
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_text_that_the_clip_cannot_hold_counts_nothing(backend):
    log_probs = torch.randn(2, 3, 3).log_softmax(-1).requires_grad_()
    tokens, lengths = torch.tensor([[1, 2, 0], [1, 1, 1]]), torch.tensor([3, 3])
    both = ctc_loss(log_probs, lengths, tokens, torch.tensor([2, 3]), backend)
    first = ctc_loss(log_probs[:1], lengths[:1], tokens[:1], torch.tensor([2]), backend)
    assert both.item() == pytest.approx(first.item() / 2, rel=1e-5)
    both.backward()
    assert torch.isfinite(log_probs.grad).all()
    assert not log_probs.grad[1].any()


def test_an_unknown_back_end_is_named():
    with pytest.raises(UserError, match="`ctc` is 'warp'; it must be one of torch, k2"):
        ctc_loss(*batch(), "warp")
