"""Encoders: what the contract promises, for each of them, and what a broken or foreign one is told."""

import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
import yaml
from mini_songs import write_cuts

from altpo_model.checkpoint import load_model, save_model
from altpo_model.conditioning import Conditioner, fold_to_chroma
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
from altpo_model.encoders import BUILT_IN, make_encoder
from altpo_model.encoders.e_branchformer import EBranchformer, rotate
from altpo_model.encoders.ssl import interpolate
from altpo_model.errors import UserError
from altpo_model.model import Batch, JointModel, losses
from altpo_model.tokens import CharTokens
from recipe.train import TrainingModule

ROOT = Path(__file__).parents[1]
WAV2VEC2 = {
    **{"encoder_embed_dim": 16, "encoder_num_layers": 2, "encoder_num_heads": 2, "encoder_ff_interm_features": 24},
    "extractor_conv_layer_config": [[8, 10, 5], [8, 3, 2], [8, 3, 2], [8, 3, 2], [8, 3, 2], [8, 2, 2], [8, 2, 2]],
    **{"encoder_pos_conv_kernel": 8, "encoder_pos_conv_groups": 2},
}
SSL = {"architecture": WAV2VEC2, "lstm_layers": 1, "lstm_size": 8, "dropout": 0.0}
ATTENTION = {"channels": 4, "size": 16, "layers": 2, "heads": 2, "feed_forward": 24, "kernel": 5, "dropout": 0.0}
SMALL = {
    "crnn": ("crnn", {"channels": [4, 4], "kernels": [3, 3], "lstm_layers": 2, "lstm_size": 8, "dropout": 0.0}),
    "conformer": ("conformer", ATTENTION),
    "e_branchformer": ("e_branchformer", {**ATTENTION, "gated": 24, "merge_kernel": 3}),
    "ssl, wav2vec 2.0": ("ssl", {**SSL, "bundle": "WAV2VEC2_BASE", "freeze": False}),
    "ssl, HuBERT with normalised waveforms": ("ssl", {**SSL, "bundle": "HUBERT_LARGE", "freeze": False}),
    "ssl, WavLM": ("ssl", {**SSL, "bundle": "WAVLM_BASE", "freeze": False}),
}
PITCH_ONSET = Network(
    "crnn", {"channels": [4, 1], "kernels": [3, 1], "pool_after": 0, "lstm_layers": 1, "lstm_size": 8, "dropout": 0.0}
)
FEATURES = Features()


def small(name: str, subsampling: int = 2, **changes) -> Network:
    encoder, conf = SMALL[name]
    at = {"pool_after": subsampling - 1} if encoder == "crnn" else {"subsampling": subsampling}
    return Network(encoder, {**conf, **at, **changes})


def small_model(name: str, system: str = "multitask", conditioning: Conditioning | None = None, **changes):
    torch.manual_seed(0)
    model = Model(PITCH_ONSET, small(name, **changes), conditioning or Conditioning())
    return JointModel(model, FEATURES, 34, system)


def make_batch(frames=(40, 27, 40, 1), songs=(True, True, False, True)) -> Batch:
    """Noise, behind the clips' ends too."""
    torch.manual_seed(3)
    num_samples = torch.tensor([256 * n + 17 for n in frames])
    num_frames = max(frames)
    return Batch(
        0.1 * torch.randn(len(frames), 2, int(num_samples.max())),
        num_samples,
        torch.tensor(songs),
        torch.randint(1, 34, (len(frames), 5)),
        torch.tensor([5 if n > 10 else 1 for n in frames]),
        torch.randint(0, 129, (len(frames), num_frames)),
        (torch.rand(len(frames), num_frames) > 0.9).float(),
    )


def test_every_built_in_encoder_is_tested_here():
    assert {encoder for encoder, _ in SMALL.values()} == set(BUILT_IN)


@pytest.mark.parametrize("subsampling", [1, 2, 4])
@pytest.mark.parametrize("name", SMALL)
def test_clip_gives_the_same_output_alone_and_in_a_batch(name, subsampling):
    if name == "crnn" and subsampling == 4:
        pytest.skip("the crnn pools by 2 or not at all")
    model = small_model(name, "oracle", subsampling=subsampling).eval()
    batch = make_batch()
    with torch.no_grad():
        together = model(batch)
        for i, frames in enumerate(batch.num_samples // 256):
            n = int(batch.num_samples[i])
            alone = model(
                Batch(
                    batch.waveforms[i : i + 1, :, :n],
                    batch.num_samples[i : i + 1],
                    batch.is_song[i : i + 1],
                    pitch=batch.pitch[i : i + 1, :frames],
                    onset=batch.onset[i : i + 1, :frames],
                )
            )
            length = -(-int(frames) // subsampling)
            assert together.log_probs_lengths[i] == alone.log_probs_lengths[0] == alone.log_probs.shape[1] == length
            torch.testing.assert_close(together.log_probs[i, :length], alone.log_probs[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_outputs_depend_on_the_whole_clip_and_on_its_conditions(name):
    """So that the test above does not hold because an encoder hears nothing."""
    model = small_model(name, "oracle").eval()
    batch = make_batch(frames=(40,), songs=(True,))
    with torch.no_grad():
        before = model(batch).log_probs
        batch.pitch = (batch.pitch + 1) % 129
        other_notes = model(batch).log_probs
        batch.waveforms[..., -3000:] = 0.3 * torch.randn(3000)
        other_end = model(batch).log_probs
    assert (before - other_notes).abs().max() > 1e-4
    assert (other_notes - other_end)[0, :10].abs().max() > 1e-6, "the first frames know of the last"


@pytest.mark.parametrize("kind", ["concat", "film", "none"])
@pytest.mark.parametrize("name", SMALL)
def test_every_weight_learns_from_the_losses(name, kind):
    model = small_model(name, conditioning=Conditioning(kind)).train()
    batch = make_batch()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    values = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = losses(model(batch), batch, Training())["loss"]
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    for key, weight in model.named_parameters():
        # A bias before instance norm and one of keys have no gradient; so much is known of the crnn and of attention.
        assert weight.ndim == 1 or (weight.grad is not None and weight.grad.abs().max() > 0), key


@pytest.mark.parametrize("name", SMALL)
def test_saved_model_gives_the_same_output_when_loaded(name, tmp_path):
    model = small_model(name, conditioning=Conditioning("film", "chroma")).eval()
    torch.nn.init.normal_(model.lyrics.encoder.get_submodule(_conditioner(model)).join.linear.weight)
    config = Config(model=Model(PITCH_ONSET, small(name), Conditioning("film", "chroma")))
    save_model(tmp_path / "model.pt", model, config, CharTokens())
    batch = make_batch()
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "model.pt")[0](batch).log_probs, model(batch).log_probs)


def _conditioner(model: JointModel) -> str:
    modules = model.lyrics.encoder.named_modules()
    return next(name for name, module in modules if isinstance(module, Conditioner))


@pytest.mark.parametrize("name", SMALL)
def test_encoders_serve_the_pitch_and_onset_network_too(name):
    model = JointModel(Model(pitch_onset=small(name, subsampling=1)), FEATURES, 34, "pitch_onset").eval()
    assert model(make_batch()).pitch_logits.shape == (4, 129, 40)
    with pytest.raises(ConfigError, match="subsamples, but the pitch and onset network keeps its frames"):
        JointModel(Model(pitch_onset=small(name, subsampling=2)), FEATURES, 34, "pitch_onset")


@pytest.mark.parametrize("name", ["crnn", "conformer", "e_branchformer"])
def test_intermediate_loss_is_ctc_at_that_layer_and_takes_its_share_of_the_weight(name):
    torch.manual_seed(0)
    model = JointModel(Model(lyrics=small(name), intermediate_ctc_layer=1), FEATURES, 34, "baseline").train()
    batch = make_batch()
    output = model(batch)
    encoder = model.lyrics.encoder
    first = []
    encoder.layers[0].register_forward_hook(lambda _, __, y: first.append(y[0] if isinstance(y, tuple) else y))
    parts = losses(model(batch), batch, Training(weight_lyrics=2.0, intermediate_share=0.3))
    between = model.lyrics.output(first[0]).log_softmax(2)
    each = torch.nn.CTCLoss(reduction="none", zero_infinity=True)(
        between.transpose(0, 1), batch.tokens, output.log_probs_lengths, batch.num_tokens
    )
    assert parts["intermediate"].item() == pytest.approx((each / batch.num_tokens).mean().item(), rel=1e-4)
    expected = 2.0 * (0.7 * parts["lyrics"] + 0.3 * parts["intermediate"])
    assert parts["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert model.eval()(batch).intermediate_log_probs is None


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_intermediate_layer_that_is_not_there_is_one_line(layer):
    with pytest.raises(ConfigError, match=f"is {layer}, but the encoder `conformer` has 2 layers"):
        JointModel(Model(lyrics=small("conformer"), intermediate_ctc_layer=layer), FEATURES, 34, "baseline")


# Conditioning


def conditions(frames: int = 7) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.cat([torch.randn(1, 129, frames).softmax(1), torch.rand(1, 1, frames)], dim=1)


def test_concatenation_is_the_papers_the_rows_pooled_to_half_the_frames_beside_the_frames_own():
    x, given = torch.randn(1, 4, 5), conditions(7)
    conditioner = Conditioner(Conditioning("concat", "posterior"), 5, 2)
    pooled = torch.stack([given[..., max(0, 2 * t - 1) : 2 * t + 2].amax(2) for t in range(4)], dim=1)  # (1, 4, 130)
    assert conditioner.output_size == 135
    assert torch.equal(conditioner(x, given), torch.cat([x, pooled], dim=2))
    assert not list(conditioner.parameters()), "checkpoints from before this component load"


def test_model_of_a_conf_without_the_section_is_conditioned_by_concatenation(tmp_path):
    model = small_model("crnn").eval()
    save_model(tmp_path / "model.pt", model, Config(model=Model(PITCH_ONSET, small("crnn"))), CharTokens())
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    del content["model"]["conditioning"]
    torch.save(content, tmp_path / "old.pt")
    batch = make_batch()
    assert torch.equal(load_model(tmp_path / "old.pt")[0](batch).log_probs, model(batch).log_probs)


def test_modulation_starts_as_identity_follows_its_formula_and_leaves_speech_as_it_is():
    x, given = torch.randn(1, 7, 5), conditions(7)
    conditioner = Conditioner(Conditioning("film"), 5, 1)
    assert conditioner.output_size == 5
    assert torch.equal(conditioner(x, given), x)
    weight = torch.nn.init.normal_(conditioner.join.linear.weight.data)
    scale, shift = given[0].T @ weight[:5].T, given[0].T @ weight[5:].T
    torch.testing.assert_close(conditioner(x, given)[0], x[0] * (1 + scale) + shift, atol=1e-5, rtol=1e-5)
    assert torch.equal(conditioner(x, torch.zeros(1, 130, 7)), x)


def test_no_conditioning_leaves_the_frames_as_they_are():
    x = torch.randn(1, 4, 5)
    assert torch.equal(Conditioner(Conditioning("none"), 5, 2)(x, conditions(7)), x)


def test_chroma_sums_octaves_and_keeps_no_pitch_and_onset():
    pitch = torch.zeros(1, 129, 2)
    pitch[0, [0, 60, 127], 0] = torch.tensor([0.1, 0.2, 0.3])  # C-1, C4, G9
    pitch[0, 128, 0], pitch[0, 71, 1] = 0.4, 1.0  # B4
    expected = torch.zeros(13, 2)
    expected[0, 0], expected[7, 0], expected[12, 0], expected[11, 1] = 0.3, 0.3, 0.4, 1.0
    torch.testing.assert_close(fold_to_chroma(pitch)[0], expected)
    conditioner = Conditioner(Conditioning("concat", "chroma"), 5, 1)
    joined = conditioner(torch.zeros(1, 2, 5), torch.cat([pitch, torch.tensor([[[0.7, 0.6]]])], dim=1))
    assert conditioner.output_size == joined.shape[2] == 5 + 14
    torch.testing.assert_close(joined[0, :, 5:].T, torch.cat([expected, torch.tensor([[0.7, 0.6]])]))


@pytest.mark.parametrize(
    "key, value, known", [("kind", "sum", "concat, film, none"), ("pitch", "hz", "posterior, chroma")]
)
def test_unknown_conditioning_names_the_key_and_the_known_ones(key, value, known):
    with pytest.raises(ConfigError, match=f"model.conditioning.{key} is one of {known}, not '{value}'"):
        small_model("crnn", conditioning=Conditioning(**{key: value}))


# Single encoders


def test_rotary_positions_are_multiplications_by_complex_numbers_and_relative():
    torch.manual_seed(0)
    x = torch.randn(6, 8).double()
    turned = rotate(x).numpy()
    phases = np.exp(1j * np.arange(6)[:, None] / 10000.0 ** (np.arange(4) / 4))
    expected = (x[:, :4].numpy() + 1j * x[:, 4:].numpy()) * phases
    np.testing.assert_allclose(turned[:, :4] + 1j * turned[:, 4:], expected, atol=1e-5)
    query, key = (rotate(torch.randn(8).double().expand(6, 8)) for _ in range(2))
    products = query @ key.T
    torch.testing.assert_close(products[2:, 1:5].diagonal(), products[2, 1].expand(4), atol=1e-5, rtol=1e-5)


def test_e_branchformer_block_merges_its_branches_as_its_paper_says():
    torch.manual_seed(0)
    encoder = EBranchformer(FEATURES, None, 1, **{**ATTENTION, "layers": 1}, gated=24, merge_kernel=3).eval()
    block, x = encoder.layers[0], torch.randn(1, 6, 16)
    inside = torch.ones(1, 6, dtype=torch.bool)
    start = x + 0.5 * block.before(x)
    signal, gate = block.convolution.expand(start).chunk(2, dim=2)
    torch.testing.assert_close(  # the gates start open
        block.convolution(start, inside), block.convolution.reduce(signal), atol=1e-4, rtol=1e-4
    )
    both = torch.cat([block.attention(start, inside), block.convolution(start, inside)], dim=2)[0]  # (T, 2 D)
    weight, bias = block.merging.convolution.weight[:, 0], block.merging.convolution.bias
    padded = torch.nn.functional.pad(both, (0, 0, 1, 1))
    mixed = torch.stack([(padded[t : t + 3] * weight.T).sum(0) + bias for t in range(6)])
    merged = start + block.merged(both + mixed)
    expected = block.norm(merged + 0.5 * block.after(merged))
    torch.testing.assert_close(block(x, inside), expected, atol=1e-5, rtol=1e-5)


def test_interpolation_in_time_equals_numpys():
    torch.manual_seed(0)
    frames, positions = torch.randn(1, 9, 2), torch.tensor([-0.6, 0.0, 0.25, 3.5, 7.999, 8.0, 11.0])
    expected = [np.interp(positions, np.arange(9), frames[0, :, d]) for d in range(2)]
    np.testing.assert_allclose(interpolate(frames, positions)[0].T, expected, atol=1e-5)


def test_self_supervised_frames_stand_at_the_time_of_the_features():
    """A click is heard in the frame at its time, at each subsampling."""
    for subsampling in (1, 2, 4):
        torch.manual_seed(0)
        encoder = make_encoder("ssl", {**SSL, "subsampling": subsampling, "lstm_layers": 0}, FEATURES, None).eval()
        assert (encoder.window, encoder.step) == (400, 320)  # 25 ms and 20 ms, Baevski et al., 2020
        encoder.model.encoder.extract_features = lambda frames, *_: [frames.repeat(1, 1, 2)] * 2  # no transformer
        encoder.model.feature_extractor.conv_layers[0].layer_norm = None  # nor the mean over time
        waveforms = torch.zeros(1, 2, 100 * 256)
        for frame in (20, 44, 80):
            silent, _ = encoder(waveforms * 0, torch.tensor([100]), None)
            waveforms[...] = 0.0
            waveforms[:, 0, frame * 256] = 1.0
            heard, _ = encoder(waveforms, torch.tensor([100]), None)
            centre = (heard - silent)[0].detach().abs().sum(1)
            centre = float((centre * torch.arange(len(centre))).sum() / centre.sum()) * subsampling
            assert abs(centre - frame) < 1.0, (frame, centre)


@pytest.fixture
def wav2vec2_file(tmp_path):
    torch.manual_seed(7)
    bundle = torchaudio.pipelines.WAV2VEC2_BASE
    model = torchaudio.models.wav2vec2_model(**{**bundle._params, **WAV2VEC2})
    path = tmp_path / "wav2vec2.pt"
    torch.save(model.state_dict(), path)
    return path, model.eval()


def test_weights_of_a_file_give_the_hidden_layers_that_torchaudios_own_model_gives(wav2vec2_file):
    path, model = wav2vec2_file
    encoder = make_encoder("ssl", {**SSL, "weights": str(path), "lstm_layers": 0}, FEATURES, None).train()
    encoder.load_pretrained()
    with torch.no_grad():
        encoder.layer_weights.copy_(torch.tensor([0.0, np.log(3.0)]))  # weights of 1/4 and 3/4
    waveforms = 0.1 * torch.randn(1, 2, 30 * 256)
    (first, second), _ = model.extract_features(waveforms[:, 0])
    expected = 0.25 * first + 0.75 * second
    given, lengths = encoder(waveforms, torch.tensor([30]), None)
    assert lengths.tolist() == [15]
    positions = torch.clamp((torch.arange(15) * 512 - 200) / 320, 0, expected.shape[1] - 1)
    at = torch.from_numpy(
        np.stack([np.interp(positions, np.arange(expected.shape[1]), e) for e in expected[0].detach().T])
    )
    torch.testing.assert_close(given[0], at.T.float(), atol=1e-5, rtol=1e-5)


def test_frozen_model_has_no_gradient_and_no_dropout_and_its_layer_weights_learn(wav2vec2_file):
    encoder = make_encoder("ssl", {**SSL, "weights": str(wav2vec2_file[0])}, FEATURES, None).train()
    assert not any(module.training for module in encoder.model.modules())
    output, _ = encoder(torch.randn(2, 2, 20 * 256), torch.tensor([20, 15]), None)
    output.square().sum().backward()
    assert all(parameter.grad is None for parameter in encoder.model.parameters())
    assert encoder.layer_weights.grad.abs().max() > 0
    tuned = make_encoder("ssl", {**SSL, "freeze": False}, FEATURES, None).train()
    assert all(module.training for module in tuned.model.modules())


def test_trained_model_loads_without_the_file_of_its_first_weights(wav2vec2_file, tmp_path):
    path, _ = wav2vec2_file
    network = Network("ssl", {**SSL, "weights": str(path)})
    model = JointModel(Model(lyrics=network), FEATURES, 34, "baseline").eval()
    model.load_pretrained()
    save_model(tmp_path / "model.pt", model, Config(model=Model(lyrics=network)), CharTokens())
    path.unlink()
    batch = make_batch()
    assert torch.equal(load_model(tmp_path / "model.pt")[0](batch).log_probs, model(batch).log_probs)


def test_training_starts_from_the_weights_of_the_file(wav2vec2_file):
    path, model = wav2vec2_file
    config = Config(model=Model(lyrics=Network("ssl", {**SSL, "weights": str(path)})))
    module = TrainingModule(config, "speech", CharTokens())
    started = module.model.lyrics.encoder.model.state_dict()
    assert all(torch.equal(started[key], value) for key, value in model.state_dict().items())
    path.unlink()
    with pytest.raises(UserError, match="wav2vec2.pt: no such file"):
        TrainingModule(config, "speech", CharTokens())


def test_missing_broken_and_unfitting_weights_are_one_line(wav2vec2_file, tmp_path, monkeypatch):
    def told(error: type[UserError], **conf) -> str:
        with pytest.raises(error) as caught:
            make_encoder("ssl", {**SSL, **conf}, FEATURES, None).load_pretrained()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "nowhere.pt: no such file" in told(UserError, weights=str(tmp_path / "nowhere.pt"))
    (tmp_path / "broken.pt").write_bytes(wav2vec2_file[0].read_bytes()[:3000])
    assert "broken.pt: not a state dictionary" in told(UserError, weights=str(tmp_path / "broken.pt"))
    architecture = {**WAV2VEC2, "encoder_num_layers": 3}
    assert "not the weights of" in told(UserError, weights=str(wav2vec2_file[0]), architecture=architecture)
    assert "has no bundle 'WAV2VEC3'; it has: HUBERT_ASR_LARGE" in told(ConfigError, bundle="WAV2VEC3")
    assert "signal is one of vocals, mixture" in told(ConfigError, signal="drums")
    assert "encoder_nam_layers" in told(ConfigError, architecture={"encoder_nam_layers": 3})

    def no_network(*_, **__):
        raise urllib.error.URLError("[Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    said = told(UserError, bundle="WAV2VEC2_BASE")
    assert "weights of WAV2VEC2_BASE cannot be downloaded" in said and "encoder_conf.weights" in said


def test_masks_on_features_are_refused_for_an_encoder_that_reads_waveforms():
    with pytest.raises(ConfigError, match="reads waveforms: set its network's spec_augment to null"):
        JointModel(Model(lyrics=Network("ssl", SSL, SpecAugment())), FEATURES, 34, "baseline")


@pytest.mark.parametrize("encoder", ["conformer", "e_branchformer"])
@pytest.mark.parametrize("conf", [{"size": 15}, {"kernel": 4}, {"subsampling": 3}, {"layers": "many"}])
def test_sizes_that_cannot_be_are_one_line_that_names_the_encoder_or_the_option(encoder, conf):
    with pytest.raises(ConfigError, match=f"{encoder}|subsampling") as caught:
        make_encoder(encoder, {**ATTENTION, **conf}, FEATURES, None)
    assert "\n" not in str(caught.value)


def test_mini_confs_of_the_encoders_differ_from_mini_in_the_lyrics_encoder_alone():
    mini = load_config("conf/mini.yaml")
    for name in ("conformer", "e_branchformer", "ssl"):
        config = load_config(f"conf/mini_{name}.yaml")
        assert config.model.lyrics.encoder == name
        if name == "ssl":
            config.model.lyrics.encoder_conf["architecture"] = WAV2VEC2  # of 95 million parameters
        JointModel(config.model, config.features, 34, "multitask")
        config.model.lyrics, config.name, config.exp_dir = mini.model.lyrics, mini.name, mini.exp_dir
        assert config == mini


# Plug-ins

GOOD = '''
import torch
from torch import nn

from altpo_model.conditioning import Conditioner


class Mean(nn.Module):
    """The mean of three neighbouring frames."""

    reads = "features"
    subsampling = 3

    def __init__(self, features, conditioning, size: int = 8):
        super().__init__()
        self.linear = nn.Linear(2 * features.mel_bins, size)
        self.conditioner = Conditioner(conditioning, size, 3)
        self.output_size = self.conditioner.output_size

    def forward(self, features, lengths, conditions):
        missing = -features.shape[-1] % 3
        x = nn.functional.pad(features, (0, missing)).unflatten(3, (-1, 3)).mean(4)  # (B, 2, F, T')
        x = self.conditioner(self.linear(x.flatten(1, 2).transpose(1, 2) / 100), conditions)
        return x, (lengths + 2) // 3
'''


def plug_in(folder: Path, content: str = GOOD) -> Path:
    """A package as pip leaves it, with one encoder, `mean`."""
    (folder / "plug_in.py").write_text(content)
    information = folder / "plug_in-1.0.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[altpo_model.encoders]\nmean = plug_in:Mean\n")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A conf whose lyrics network is the plug-in's, one step of training with it, and the command of that."""
    folder = tmp_path_factory.mktemp("plug_in")
    write_cuts(folder / "data", "librispeech_train", 8, song=False)
    write_cuts(folder / "data", "librispeech_validation", 2, song=False)
    content = {
        "data_dir": str(folder / "data"),
        "exp_dir": str(folder / "exp"),
        "threads": 1,
        "model": {"lyrics": {"encoder": "mean", "encoder_conf": {"size": 6}}},
        "speech_training": {"epoch_steps": 1, "epochs": 1, "batch_size": 4, "workers": 0},
    }
    (folder / "mean.yaml").write_text(yaml.safe_dump(content))
    (folder / "package").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(plug_in(folder / "package")))
        command = [sys.executable, "-m", "recipe.train", "--run", "speech", "--conf", str(folder / "mean.yaml")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        yield command, folder


def test_encoder_of_an_installed_package_trains_from_a_conf_file(trained, monkeypatch):
    command, folder = trained
    weights = torch.load(folder / "exp" / "speech" / "model.pt", weights_only=True)["weights"]
    assert weights["lyrics.encoder.linear.weight"].shape == (6, 160)
    monkeypatch.delenv("PYTHONPATH")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: unknown encoder `mean`; known ones: conformer, crnn, e_branchformer, ssl\n"


def test_encoder_of_an_installed_package_is_listed_conditioned_and_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(plug_in(tmp_path))
    monkeypatch.delitem(sys.modules, "plug_in", raising=False)
    with pytest.raises(ConfigError, match="known ones: conformer, crnn, e_branchformer, mean, ssl"):
        make_encoder("man", {}, FEATURES, None)
    config = Config(model=Model(PITCH_ONSET, Network("mean")))
    model = JointModel(config.model, FEATURES, 34, "multitask").eval()
    batch = make_batch()
    save_model(tmp_path / "model.pt", model, config, CharTokens())
    assert torch.equal(load_model(tmp_path / "model.pt")[0](batch).log_probs, model(batch).log_probs)
    assert model(batch).log_probs_lengths.tolist() == [14, 9, 14, 1]


@pytest.mark.parametrize(
    "find, put, fault",
    [
        (
            "import torch\n",
            "import torch\nimport no_such_package\n",
            "plug_in:Mean cannot be imported: ModuleNotFoundError",
        ),
        ("class Mean", "class Mien", "cannot be imported: AttributeError"),
        ("features, conditioning, size", "bins, size", "is not made as .*features, conditioning"),
        ("    subsampling = 3", "", "must state its `subsampling` as a whole number, not None"),
        ("self.output_size =", "self.width =", "must state its `output_size`"),
        ('reads = "features"', 'reads = "scores"', "must state that it `reads`"),
        ("(nn.Module)", "", "AttributeError|is a Mean, not a torch.nn.Module"),
        ("self.linear = nn.Linear(", "self.linear = nn.Linear(None, ", "cannot be built with"),
        (
            "self.output_size = self.conditioner.output_size",
            "self.output_size = 9",
            r"gives \(4, 14, 138\).*\(4, 14, 9\)",
        ),
        ("subsampling = 3", "subsampling = 2", r"gives \(4, 14, 138\).*\(4, 20, 138\)"),
        (
            "return x, (lengths + 2) // 3",
            "return x, lengths",
            r"gives the lengths \[40, 27, 40, 1\], not \[14, 9, 14, 1\]",
        ),
        ("return x, (lengths + 2) // 3", "return x", "gives a Tensor, not its frames and their lengths"),
    ],
)
def test_plug_in_that_breaks_the_contract_is_told_in_one_line_that_names_it(tmp_path, monkeypatch, find, put, fault):
    assert GOOD.count(find) == 1
    monkeypatch.syspath_prepend(plug_in(tmp_path, GOOD.replace(find, put)))
    monkeypatch.delitem(sys.modules, "plug_in", raising=False)
    with pytest.raises(ConfigError, match=f"encoder `mean`.*({fault})") as caught:
        JointModel(Model(lyrics=Network("mean")), FEATURES, 34, "baseline")(make_batch())
    assert "\n" not in str(caught.value)


class Foreign:
    """Pickled, it runs code when it is read."""

    def __init__(self, trace: Path):
        self.trace = str(trace)

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


@pytest.mark.parametrize("where", ["model", "weights", "tokens"])
def test_model_file_with_a_foreign_class_inside_is_refused(where, tmp_path):
    config = Config(model=Model(lyrics=small("crnn")))
    save_model(tmp_path / "model.pt", JointModel(config.model, FEATURES, 34, "baseline"), config, CharTokens())
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save({**content, where: Foreign(tmp_path / "trace")}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="model.pt: not a model of this project"):
        load_model(tmp_path / "model.pt")
    assert not (tmp_path / "trace").exists()
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert (tmp_path / "trace").exists(), "it would have run"


def test_training_refuses_to_go_on_from_a_checkpoint_with_a_foreign_class_inside(trained, tmp_path):
    command, folder = trained
    checkpoint = folder / "exp" / "speech" / "last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "loops": Foreign(tmp_path / "trace")}, checkpoint)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and not (tmp_path / "trace").exists()
    assert done.stderr.count("\n") == 1
    assert f"{checkpoint}: not a checkpoint of this project" in done.stderr and "remove it" in done.stderr
