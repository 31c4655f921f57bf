"""The networks against layers written out by hand, and the paper's sizes."""

import numpy as np
import pytest
import torch

from altpo_model.checkpoint import load_model, mean_weights, save_model
from altpo_model.config import (
    Conditioning,
    Config,
    ConfigError,
    Features,
    Model,
    Network,
    SpecAugment,
    Training,
    load_config,
)
from altpo_model.encoders import make_encoder
from altpo_model.errors import UserError
from altpo_model.features import LogMel
from altpo_model.layers import BiLstm, ResidualConvolution, instance_norm
from altpo_model.model import SYSTEMS, Batch, EncoderAndOutput, JointModel, losses
from altpo_model.tokens import CharTokens

SMALL = Model(
    pitch_onset=Network(
        "crnn",
        {"channels": [4, 1], "kernels": [3, 1], "pool_after": 0, "lstm_layers": 1, "lstm_size": 8, "dropout": 0.0},
    ),
    lyrics=Network(
        "crnn",
        {"channels": [4, 4], "kernels": [3, 3], "pool_after": 1, "lstm_layers": 1, "lstm_size": 8, "dropout": 0.0},
    ),
)


def make_batch(seconds=(1.0, 0.7, 1.0), songs=(True, True, False)) -> Batch:
    torch.manual_seed(3)
    num_samples = torch.tensor([int(16000 * s) for s in seconds])
    waveforms = torch.randn(len(seconds), 2, int(num_samples.max())) * 0.1
    for i, n in enumerate(num_samples):
        waveforms[i, :, n:] = 0
    frames = int(num_samples.max()) // 256
    return Batch(
        waveforms,
        num_samples,
        torch.tensor(songs),
        torch.randint(1, 34, (len(seconds), 5)),
        torch.full((len(seconds),), 5),
        torch.randint(0, 129, (len(seconds), frames)),
        (torch.rand(len(seconds), frames) > 0.9).float(),
    )


def test_log_mel_equals_the_short_time_fourier_transform_written_out():
    torch.manual_seed(0)
    waveform = torch.randn(1, 2, 4000) * 0.1
    features, lengths = LogMel(Features())(waveform, torch.tensor([4000]))
    assert features.shape == (1, 2, 80, 15) and lengths.tolist() == [15]
    filters = LogMel(Features()).mel.mel_scale.fb.numpy()  # (257, 80)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    padded = np.pad(waveform[0, 0].numpy().astype(np.float64), 256)
    power = np.stack([np.abs(np.fft.rfft(padded[i * 256 : i * 256 + 512] * window)) ** 2 for i in range(15)])
    decibels = 10 * np.log10(np.maximum(power @ filters, 1e-10))
    np.testing.assert_allclose(features[0, 0].numpy().T, np.maximum(decibels, decibels.max() - 80), atol=2e-3)


def test_sixteen_seconds_have_a_thousand_frames():
    assert LogMel(Features()).num_frames(torch.tensor([256000])).tolist() == [1000]


def test_instance_norm_equals_torch_on_each_clip_cut_to_its_length():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 20) * 4 + 7
    x[1, ..., 12:] = 0
    inside = (torch.arange(20) < torch.tensor([[20], [12]]))[:, None, None]
    ours = instance_norm(x, inside)
    torch.testing.assert_close(ours[0], torch.nn.functional.instance_norm(x[:1])[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        ours[1, ..., :12], torch.nn.functional.instance_norm(x[1:, ..., :12])[0], atol=1e-4, rtol=1e-4
    )
    assert ours[1, ..., 12:].abs().max() == 0


def test_residual_block_equals_its_formula():
    torch.manual_seed(0)
    block = ResidualConvolution(2, 3, 3).eval()
    x = torch.randn(1, 2, 6, 9)
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
    normed = (x - mean) / (variance + 1e-5).sqrt()
    weight, bias = block.projection.weight[:, :, 0, 0], block.projection.bias[:, None, None]
    y = torch.einsum("oi,bift->boft", weight, normed) + bias
    padded = torch.nn.functional.pad(y.clamp(min=0), (1, 1, 1, 1))
    expected = torch.empty(1, 3, 6, 9)
    for out in range(3):
        for f in range(6):
            for t in range(9):
                patch = padded[0, :, f : f + 3, t : t + 3]
                straight = (patch * block.convolution.weight[out]).sum() + block.convolution.bias[out]
                expected[0, out, f, t] = straight + y[0, out, f, t]
    torch.testing.assert_close(block(x, None), expected, atol=1e-5, rtol=1e-5)


def test_bilstm_block_equals_the_recurrence_written_out():
    torch.manual_seed(0)
    block = BiLstm(4, 3).eval()
    x = torch.randn(1, 5, 4)
    y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    outputs = []
    for lstm, order in ((block.forward_lstm, range(5)), (block.backward_lstm, range(4, -1, -1))):
        w_input, w_hidden, b_input, b_hidden = lstm.all_weights[0]
        h = c = torch.zeros(3)
        states = [h] * 5
        for t in order:
            i, f, g, o = (w_input @ y[0, t] + b_input + w_hidden @ h + b_hidden).chunk(4)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states[t] = h
        outputs.append(torch.stack(states))
    torch.testing.assert_close(block(x, torch.tensor([5]))[0], torch.cat(outputs, dim=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_clip_gives_the_same_output_alone_and_in_a_batch(system):
    torch.manual_seed(0)
    model = JointModel(SMALL, Features(), 34, system).eval()
    batch = make_batch()
    together = model(batch)
    n = int(batch.num_samples[1])
    frames = n // 256
    alone = model(
        Batch(
            batch.waveforms[1:2, :, :n],
            batch.num_samples[1:2],
            batch.is_song[1:2],
            pitch=batch.pitch[1:2, :frames],
            onset=batch.onset[1:2, :frames],
        )
    )
    if together.log_probs is not None:
        length = int(alone.log_probs_lengths[0])
        torch.testing.assert_close(together.log_probs[1, :length], alone.log_probs[0], atol=1e-4, rtol=1e-4)
    if together.pitch_logits is not None:
        torch.testing.assert_close(together.pitch_logits[1, :, :frames], alone.pitch_logits[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.onset_logits[1, :frames], alone.onset_logits[0], atol=1e-4, rtol=1e-4)


def test_each_system_conditions_the_lyrics_network_as_the_paper_says():
    batch = make_batch()
    for system in ("baseline", "oracle", "multitask"):
        torch.manual_seed(0)
        model = JointModel(SMALL, Features(), 34, system).eval()
        seen = []
        model.lyrics.encoder.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[2]))
        output = model(batch)
        conditions = seen[0]  # (B, 130, T)
        assert conditions[2].abs().max() == 0, "speech is conditioned on zeros"
        song = conditions[0]
        if system == "baseline":
            assert conditions.abs().max() == 0
        elif system == "oracle":
            assert song[:129].argmax(0).tolist() == batch.pitch[0].tolist()
            assert song[:129].sum(0).unique().tolist() == [1.0]
            assert song[129].tolist() == batch.onset[0].tolist()
        else:
            torch.testing.assert_close(song[:129], output.pitch_logits[0].softmax(0))
            torch.testing.assert_close(song[129], output.onset_logits[0].sigmoid())


def test_masks_cover_part_of_the_features_in_training_and_none_of_them_in_decoding():
    network = Network("crnn", SMALL.lyrics.encoder_conf, SpecAugment(1, 20, 1, 10))
    model = EncoderAndOutput(network, Features(), None, 34)
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features, lengths = torch.randn(2, 2, 80, 60), torch.tensor([60, 60])
    torch.manual_seed(0)
    model.train()({"features": features}, lengths)
    model.eval()({"features": features}, lengths)
    masked = (seen[0] == features.mean()).float().mean()
    assert 0 < masked < 0.5
    assert torch.equal(seen[1], features)


def test_losses_equal_their_definitions_and_leave_speech_out():
    torch.manual_seed(0)
    batch = make_batch()
    with torch.no_grad():
        output = JointModel(SMALL, Features(), 34, "multitask").eval()(batch)
    parts = losses(output, batch, Training(weight_pitch=2.0, weight_onset=3.0, weight_lyrics=0.5))
    pitch = onset = frames = 0.0
    for i in range(2):  # the third clip is speech
        for t in range(int(output.lengths[i])):
            truth = int(batch.pitch[i, t])
            pitch -= float(output.pitch_logits[i, :, t].log_softmax(0)[truth]) * (2.0 if truth < 128 else 1.0)
            p = float(output.onset_logits[i, t].sigmoid())
            onset -= 20.0 * np.log(p) if batch.onset[i, t] else np.log(1 - p)
            frames += 1
    assert float(parts["pitch"]) == pytest.approx(pitch / frames, rel=1e-4)
    assert float(parts["onset"]) == pytest.approx(onset / frames, rel=1e-4)
    expected = 2 * parts["pitch"] + 3 * parts["onset"] + 0.5 * parts["lyrics"]
    assert float(parts["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_paper_configuration_has_the_papers_layer_shapes():
    config = load_config("conf/paper.yaml")
    model = JointModel(config.model, config.features, 34, "multitask")
    pitch, lyrics = model.pitch_onset, model.lyrics

    def shapes(network):
        return [tuple(block.convolution.weight.shape) for block in network.encoder.blocks]

    assert shapes(pitch) == [
        (64, 2, 5, 5),
        (32, 32, 5, 5),
        (32, 32, 3, 3),
        (32, 32, 3, 3),
        (32, 32, 3, 3),
        (1, 1, 1, 1),
    ]
    assert shapes(lyrics) == [
        (64, 2, 5, 5),
        (32, 32, 5, 5),
        (32, 32, 3, 3),
        (32, 32, 3, 3),
        (32, 32, 3, 3),
        (16, 16, 3, 3),
    ]
    assert [lstm.backward_lstm.hidden_size for lstm in lyrics.encoder.lstms] == [512, 512, 512]
    assert [lstm.forward_lstm.input_size for lstm in lyrics.encoder.lstms] == [16 * 40 + 130, 1024, 1024]
    assert lyrics.output.weight.shape == (34, 1024)
    assert [lstm.forward_lstm.input_size for lstm in pitch.encoder.lstms] == [80]
    assert pitch.output.out_features == 130
    assert {module.p for module in lyrics.modules() if isinstance(module, torch.nn.Dropout)} == {0.2}
    assert {module.p for module in pitch.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}


def test_paper_configuration_takes_a_training_step_with_1000_frames():
    config = load_config("conf/paper.yaml")
    torch.manual_seed(0)
    model = JointModel(config.model, config.features, 34, "multitask")
    batch = make_batch(seconds=(16.0,), songs=(True,))
    optimizer = torch.optim.Adam(model.parameters(), config.song_training.learning_rate)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    output = model(batch)
    assert output.pitch_logits.shape == (1, 129, 1000)
    assert output.log_probs.shape == (1, 500, 34)
    losses(output, batch, config.song_training)["loss"].backward()
    optimizer.step()
    unmoved = sum(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    # The bias of a convolution that is followed by instance norm alone has no gradient; every weight must move.
    assert unmoved <= sum(parameter.ndim == 1 for parameter in model.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True) if a.ndim > 1)


def test_saved_model_gives_the_same_output_when_loaded(tmp_path):
    torch.manual_seed(0)
    model = JointModel(SMALL, Features(), 34, "multitask").eval()
    save_model(tmp_path / "model.pt", model, Config(model=SMALL), CharTokens())
    loaded, tokens, _ = load_model(tmp_path / "model.pt")
    assert tokens.characters == CharTokens().characters
    batch = make_batch()
    torch.testing.assert_close(loaded(batch).log_probs, model(batch).log_probs)


@pytest.mark.parametrize("content", [b"", b"not a model", "truncated"])
def test_broken_model_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "model.pt"
    if content == "truncated":
        save_model(path, JointModel(SMALL, Features(), 34, "baseline"), Config(model=SMALL), CharTokens())
        content = path.read_bytes()[:5000]
    path.write_bytes(content)
    with pytest.raises(UserError, match="model.pt"):
        load_model(path)


def test_unknown_encoder_names_the_known_ones_and_unknown_option_the_known_options():
    with pytest.raises(ConfigError, match="known ones: conformer, crnn, e_branchformer, ssl"):
        make_encoder("crn", {}, Features(), Conditioning())
    with pytest.raises(ConfigError, match="`chanels`.*channels, kernels"):
        make_encoder("crnn", {"chanels": [1]}, Features(), Conditioning())


def test_mean_weights_are_the_means_by_hand():
    first = {
        "weight": torch.tensor([1.0, 2.0]),
        "half": torch.tensor(1.0, dtype=torch.float16),
        "count": torch.tensor(3),
    }
    second = {
        "weight": torch.tensor([3.0, -2.0]),
        "half": torch.tensor(2.0, dtype=torch.float16),
        "count": torch.tensor(5),
    }
    mean = mean_weights([first, second])
    assert mean["weight"].tolist() == [2.0, 0.0] and mean["weight"].dtype == torch.float32
    assert mean["half"] == 1.5 and mean["half"].dtype == torch.float16
    assert mean["count"] == 5 and mean["count"].dtype == torch.int64
