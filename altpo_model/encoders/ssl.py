"""Self-supervised speech models as encoders: torchaudio's wav2vec 2.0, HuBERT and WavLM.

Layers are weighted as in Yang et al., "SUPERB" (Interspeech 2021), and BiLSTM blocks follow, as there.
"""

from pathlib import Path

import torch
import torchaudio
from torch import Tensor, nn
from torchaudio.pipelines import Wav2Vec2Bundle

from altpo_model.conditioning import Conditioner
from altpo_model.config import Conditioning, ConfigError, Features
from altpo_model.errors import UserError
from altpo_model.layers import BiLstm, subsampled

SIGNALS = {"vocals": 0, "mixture": 1}


class SelfSupervised(nn.Module):
    """A pretrained model on waveforms, a learnt weighted sum of its layers, conditioning, BiLSTM blocks.

    The model's frames (20 ms) are brought onto those of the features by linear interpolation in time. Clips of one
    length go through it together, others apart: torchaudio's WavLM takes no mask, and the group norm of the BASE
    models would see the padding.

    Args:
        features, conditioning: the conf sections.
        bundle: a name in ``torchaudio.pipelines``, such as WAV2VEC2_BASE, HUBERT_LARGE, WAVLM_BASE_PLUS; its
            architecture, and its weights, which are downloaded when a training starts.
        weights: a file of other weights: the state dictionary of such a model, by ``torch.save``.
        architecture: what differs from the bundle's architecture: arguments of ``torchaudio.models.wav2vec2_model`` or,
            for WavLM, ``wavlm_model``.
        signal: what it listens to, vocals or mixture.
        freeze: whether the model stays as it is, or is trained too.
        subsampling: frames of the features to an output frame.
        lstm_layers, lstm_size: BiLSTM blocks and their hidden units a direction.
        dropout: after each BiLSTM; the model's own are in its architecture.
    """

    reads = "waveforms"

    def __init__(
        self,
        features: Features,
        conditioning: Conditioning | None,
        bundle: str = "WAV2VEC2_BASE",
        weights: str | None = None,
        architecture: dict | None = None,
        signal: str = "vocals",
        freeze: bool = True,
        subsampling: int = 2,
        lstm_layers: int = 2,
        lstm_size: int = 512,
        dropout: float = 0.2,
    ):
        super().__init__()
        self.bundle = getattr(torchaudio.pipelines, bundle, None)
        if not isinstance(self.bundle, Wav2Vec2Bundle):
            kinds = [name for name, it in vars(torchaudio.pipelines).items() if isinstance(it, Wav2Vec2Bundle)]
            raise ConfigError(f"encoder ssl: torchaudio has no bundle {bundle!r}; it has: {', '.join(sorted(kinds))}")
        if signal not in SIGNALS:
            raise ConfigError(f"encoder ssl: signal is one of {', '.join(SIGNALS)}, not {signal!r}")
        if features.sample_rate != self.bundle.sample_rate:
            raise ConfigError(f"encoder ssl: {bundle} wants features.sample_rate {self.bundle.sample_rate:.0f}")
        self.name, self.weights, self.channel, self.freeze = bundle, weights, SIGNALS[signal], freeze
        self.hop = features.hop
        self.subsampling = subsampling
        make = {"Wav2Vec2": torchaudio.models.wav2vec2_model, "WavLM": torchaudio.models.wavlm_model}
        options = {**self.bundle._params, **(architecture or {}), "aux_num_out": None}
        self.model = make[self.bundle._model_type](**options).requires_grad_(not freeze)
        self.layer_weights = nn.Parameter(torch.zeros(len(self.model.encoder.transformer.layers)))
        self.window, self.step = 1, 1  # samples that a frame of the model stands for, and from one frame to the next
        for layer in self.model.feature_extractor.conv_layers:
            self.window += (layer.kernel_size - 1) * self.step
            self.step *= layer.stride
        self.size = options["encoder_embed_dim"]
        self.conditioner = Conditioner(conditioning, self.size, subsampling)
        size = self.conditioner.output_size
        self.layers = nn.ModuleList(
            BiLstm(2 * lstm_size if i else size, lstm_size, dropout) for i in range(lstm_layers)
        )
        self.output_size = 2 * lstm_size if lstm_layers else size

    def load_pretrained(self) -> None:
        """Read the weights; raises UserError where they are missing, cannot be downloaded or do not fit."""
        if self.weights is None:
            try:
                state = self.bundle.get_model().state_dict()
            except OSError as error:
                raise UserError(
                    f"encoder ssl: the weights of {self.name} cannot be downloaded ({error}); "
                    "name a file of them as encoder_conf.weights"
                ) from None
        else:
            if not Path(self.weights).is_file():
                raise UserError(f"{self.weights}: no such file; encoder_conf.weights of encoder ssl names it")
            try:
                state = torch.load(self.weights, weights_only=True, map_location="cpu")
                state = {key: value for key, value in state.items() if isinstance(value, Tensor)}
            except Exception as error:  # torch raises many kinds, by where the file is broken
                raise UserError(
                    f"{self.weights}: not a state dictionary by torch.save ({type(error).__name__})"
                ) from None
        state = {key.removeprefix("model."): value for key, value in state.items()}
        state = {key: value for key, value in state.items() if not key.startswith("aux.")}  # of models tuned to ASR
        try:
            self.model.load_state_dict(state)
        except RuntimeError:
            where = self.weights or self.name
            raise UserError(
                f"{where}: not the weights of {self.name} with this architecture; see encoder_conf of encoder ssl"
            ) from None

    def train(self, mode: bool = True) -> "SelfSupervised":
        super().train(mode)
        if self.freeze:
            self.model.eval()  # no dropout
        return self

    def forward(self, waveforms: Tensor, lengths: Tensor, conditions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, 2, N), (B,) frames of the features, (B, 130, T) or None -> (B, T', output_size), (B,)."""
        samples = lengths * self.hop
        lengths = subsampled(lengths, self.subsampling)
        x = waveforms.new_zeros(len(lengths), int(lengths.max()), self.size)
        for count in samples.unique().tolist():
            alike = samples == count
            frames = self._weighted_layers(waveforms[alike, self.channel, :count])
            wanted = torch.arange(int(lengths[alike][0]), device=x.device) * self.subsampling * self.hop  # samples
            x[alike, : len(wanted)] = interpolate(frames, (wanted - self.window / 2) / self.step).to(x)
        x = self.conditioner(x, conditions)
        for lstm in self.layers:
            x = lstm(x, lengths)
        return x, lengths

    def _weighted_layers(self, signal: Tensor) -> Tensor:
        """(B, N) -> (B, S, D): frame ``s`` is of the ``window`` samples from ``s * step`` on."""
        signal = nn.functional.pad(signal, (0, max(0, self.window - signal.shape[1])))
        if self.bundle._normalize_waveform:
            signal = nn.functional.layer_norm(signal, signal.shape[1:])
        layers, _ = self.model.extract_features(signal)
        return torch.tensordot(self.layer_weights.softmax(dim=0).to(layers[0]), torch.stack(layers), dims=1)


def interpolate(frames: Tensor, positions: Tensor) -> Tensor:
    """Linear interpolation in time of (B, S, D) at ``positions`` (T,) in frames -> (B, T, D); constant at both ends."""
    last = frames.shape[1] - 1
    positions = positions.clamp(0, last)
    before = positions.long()
    share = (positions - before)[:, None].to(frames)
    return torch.lerp(frames[:, before], frames[:, (before + 1).clamp(max=last)], share)
