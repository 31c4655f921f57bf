"""One training step of the joint model against the same step written down plainly (tests/benchmarks/plain.py).

float32 on a CPU. The plain side has no padding: it takes each clip alone, cut to its own length.
"""

import pytest
import torch
from plain import PlainModel, step

from altpo_model.config import Config, Features, Model, Network, Training
from altpo_model.layers import instance_norm
from altpo_model.model import Batch, JointModel, losses

HOP = 256
CONFIG = Config(
    features=Features(),
    model=Model(
        Network(
            "crnn",
            dict(channels=[6, 4, 4, 1], kernels=[5, 3, 3, 1], pool_after=0, lstm_layers=1, lstm_size=8, dropout=0.0),
        ),
        Network(
            "crnn",
            dict(channels=[6, 4, 4, 3], kernels=[5, 3, 3, 3], pool_after=4, lstm_layers=2, lstm_size=8, dropout=0.0),
        ),
    ),
)
TRAINING = Training(weight_pitch=0.7, weight_onset=1.3, gradient_clip=0.5)


def make_batch(frames: tuple[int, ...], songs: tuple[bool, ...]) -> Batch:
    torch.manual_seed(1)
    num_samples = HOP * torch.tensor(frames)
    shape = len(frames), max(frames)
    return Batch(
        0.1 * torch.randn(len(frames), 2, int(num_samples.max())),
        num_samples,
        torch.tensor(songs),
        torch.randint(1, 34, (len(frames), 6)),
        torch.randint(3, 7, (len(frames),)),
        torch.randint(0, 129, shape),
        (torch.rand(shape) > 0.9).float(),
    )


def clips_of(model: JointModel, batch: Batch) -> list[dict[str, torch.Tensor]]:
    """Each clip of the batch alone, with the features of its own samples."""
    clips = []
    for i, samples in enumerate(batch.num_samples.tolist()):
        one, n = slice(i, i + 1), samples // HOP
        with torch.no_grad():
            features, _ = model.features(batch.waveforms[one, :, :samples], batch.num_samples[one])
        clip = {"features": features, "pitch": batch.pitch[one, :n], "onset": batch.onset[one, :n]}
        clips.append(clip | {name: getattr(batch, name)[one] for name in ("is_song", "tokens", "num_tokens")})
    return clips


@pytest.mark.parametrize(
    ("frames", "songs"),
    [
        ((60, 60, 60), (True, True, False)),
        ((60, 37, 60, 44, 25), (True, True, False, True, False)),
        ((41, 30), (False, False)),
    ],
    ids=["equal lengths", "different lengths", "speech alone"],
)
def test_step_equals_the_plain_one_in_loss_gradients_and_weights_after_it(frames, songs):
    torch.manual_seed(0)
    ours = JointModel(CONFIG.model, CONFIG.features, 34, "multitask")
    plain = PlainModel(CONFIG, 34)
    plain.copy_weights(ours)
    batch = make_batch(frames, songs)
    optimizers = [torch.optim.Adam(model.parameters(), 1e-3) for model in (ours, plain)]
    for number in range(3):
        loss = losses(ours(batch), batch, TRAINING)["loss"]
        optimizers[0].zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(ours.parameters(), TRAINING.gradient_clip)
        expected = step(plain, optimizers[1], clips_of(ours, batch), TRAINING)
        assert loss.item() == pytest.approx(expected, rel=1e-5), f"step {number}"
        for theirs, mine in plain.pairs(ours):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5)
        optimizers[0].step()
        # Adam divides a gradient by its own size, rounding noise too where there is nothing else.
        for theirs, mine in plain.pairs(ours):
            learns = theirs.grad is not None and theirs.grad.abs() > 1e-4
            torch.testing.assert_close(mine[learns], theirs[learns], rtol=1e-4, atol=2e-5)
        plain.copy_weights(ours)


def test_gradient_of_masked_instance_norm_is_the_slope_of_its_values():
    torch.manual_seed(0)
    inside = (torch.arange(7) < torch.tensor([[7], [4]]))[:, None, None]
    x = torch.randn(2, 3, 4, 7, dtype=torch.double) * inside
    weights = torch.randn_like(x)
    scaled = x.clone().requires_grad_()
    (instance_norm(scaled, inside).double() * weights).sum().backward()
    for clip, frames in enumerate((7, 4)):
        cut = x[clip : clip + 1, ..., :frames].clone().requires_grad_()
        (torch.nn.functional.instance_norm(cut) * weights[clip : clip + 1, ..., :frames]).sum().backward()
        torch.testing.assert_close(scaled.grad[clip : clip + 1, ..., :frames], cut.grad, rtol=1e-4, atol=1e-5)
    assert scaled.grad[1, ..., 4:].abs().max() == 0
