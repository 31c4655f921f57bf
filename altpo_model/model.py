"""The joint model: pitch, onset and lyrics of a song, in four systems (paper, section 3).

=============  =====================================  =====================
system         conditioning of the lyrics network     losses
=============  =====================================  =====================
pitch_onset    (no lyrics network)                    pitch, onset
baseline       zeros                                  CTC
oracle         the true pitch and onset               CTC
multitask      the estimated probabilities            CTC + pitch + onset
=============  =====================================  =====================

Speech has no notes: whatever the system, it is conditioned on zeros and has no pitch or onset loss. Pre-training on
speech is the system ``baseline`` on speech alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor, nn

from altpo_model.config import Conditioning, ConfigError, Features, Model, Network, Training
from altpo_model.ctc import ctc_loss
from altpo_model.encoders import encode, make_encoder
from altpo_model.features import LogMel, frame_mask
from altpo_model.notes import NUM_CONDITIONS

SYSTEMS = ("pitch_onset", "baseline", "oracle", "multitask")


@dataclass
class Batch:
    """What the model reads. Padding behind a clip's end is arbitrary but finite."""

    waveforms: Tensor  # (B, 2, N) float: separated vocals and mixture; speech stands in both
    num_samples: Tensor  # (B,) int64
    is_song: Tensor  # (B,) bool; false for speech, which has no notes
    tokens: Tensor | None = None  # (B, U) int64
    num_tokens: Tensor | None = None  # (B,) int64
    pitch: Tensor | None = None  # (B, T) int64, 128 for no-pitch
    onset: Tensor | None = None  # (B, T) float in {0, 1}

    def to(self, device: torch.device) -> "Batch":
        moved = {k: v.to(device, non_blocking=True) if v is not None else None for k, v in vars(self).items()}
        return Batch(**moved)

    def pin_memory(self) -> "Batch":
        """What the data loader calls before a batch goes to a GPU."""
        return Batch(**{k: v.pin_memory() if v is not None else None for k, v in vars(self).items()})


@dataclass
class Share:
    """What a batch holds of the joint batch that it is a part of: shares in [0, 1] of its song frames and its clips."""

    song_frames: Tensor | float = 1.0
    clips: Tensor | float = 1.0


@dataclass
class Output:
    """What the model estimates; the fields of a network that the system does not have are None."""

    lengths: Tensor  # (B,) frames of the features
    log_probs: Tensor | None = None  # (B, T', tokens) natural logarithm
    log_probs_lengths: Tensor | None = None  # (B,)
    pitch_logits: Tensor | None = None  # (B, 129, T)
    onset_logits: Tensor | None = None  # (B, T)
    intermediate_log_probs: Tensor | None = None  # (B, T', tokens) of the intermediate layer, in training where set


class JointModel(nn.Module):
    """Both networks with their features.

    ``num_tokens`` counts the blank, which is token 0.
    """

    def __init__(self, model: Model, features: Features, num_tokens: int, system: str):
        super().__init__()
        if system not in SYSTEMS:
            raise ValueError(f"system must be one of {SYSTEMS}, not {system!r}")
        self.system = system
        self.features = LogMel(features)
        self.pitch_onset = (
            EncoderAndOutput(model.pitch_onset, features, None, NUM_CONDITIONS)
            if system in ("pitch_onset", "multitask")
            else None
        )
        self.lyrics = (
            EncoderAndOutput(model.lyrics, features, model.conditioning, num_tokens, model.intermediate_ctc_layer)
            if system != "pitch_onset"
            else None
        )
        if self.pitch_onset is not None and self.pitch_onset.encoder.subsampling != 1:
            raise ConfigError(
                f"encoder `{model.pitch_onset.encoder}` subsamples, but the pitch and onset network keeps its frames: "
                "set model.pitch_onset.encoder_conf so that it does not"
            )

    def forward(self, batch: Batch) -> Output:
        features, lengths = self.features(batch.waveforms, batch.num_samples)
        inputs = {"features": features, "waveforms": batch.waveforms}
        output = Output(lengths)
        if self.pitch_onset is not None:
            logits, *_ = self.pitch_onset(inputs, lengths)
            output.pitch_logits = logits[..., :-1].transpose(1, 2)
            output.onset_logits = logits[..., -1]
        if self.lyrics is not None:
            conditions = self._conditions(features, lengths, batch, output)
            logits, between, output.log_probs_lengths = self.lyrics(inputs, lengths, conditions)
            output.log_probs = torch.log_softmax(logits.float(), dim=-1)
            if between is not None:
                output.intermediate_log_probs = torch.log_softmax(between.float(), dim=-1)
        return output

    def load_pretrained(self) -> None:
        """Read the weights that its encoders start training from, where they have any; raises UserError."""
        for network in (self.pitch_onset, self.lyrics):
            if network is not None and hasattr(network.encoder, "load_pretrained"):
                network.encoder.load_pretrained()

    def _conditions(self, features: Tensor, lengths: Tensor, batch: Batch, output: Output) -> Tensor:
        """(B, 130, T): 129 pitch probabilities and the onset's; zero for speech and behind a clip's end."""
        shape = (features.shape[0], NUM_CONDITIONS, features.shape[-1])
        if self.system == "baseline":
            return features.new_zeros(shape)
        if self.system == "oracle":
            if batch.pitch is None:
                raise ValueError("the oracle system needs the true notes in its batch")
            pitch = nn.functional.one_hot(batch.pitch, NUM_CONDITIONS - 1).transpose(1, 2).to(features)
            conditions = torch.cat([pitch, batch.onset[:, None].to(features)], dim=1)
        else:
            pitch = torch.softmax(output.pitch_logits, dim=1)
            conditions = torch.cat([pitch, torch.sigmoid(output.onset_logits)[:, None]], dim=1)
        inside = frame_mask(lengths, shape[-1]) & batch.is_song[:, None]
        return conditions * inside[:, None]


class EncoderAndOutput(nn.Module):
    """An encoder with a fully connected layer; masks in training where set.

    ``intermediate_layer``: the layer of the encoder, from 1, to whose output the fully connected one is applied too.
    """

    def __init__(
        self,
        network: Network,
        features: Features,
        conditioning: Conditioning | None,
        outputs: int,
        intermediate_layer: int | None = None,
    ):
        super().__init__()
        self.name = network.encoder
        self.encoder = make_encoder(network.encoder, network.encoder_conf, features, conditioning)
        self.output = nn.Linear(self.encoder.output_size, outputs)
        self.intermediate_layer = intermediate_layer
        layers = len(getattr(self.encoder, "layers", []))
        if intermediate_layer is not None and not 1 <= intermediate_layer < layers:
            raise ConfigError(
                f"model.intermediate_ctc_layer is {intermediate_layer}, but the encoder `{self.name}` has {layers} "
                "layers, and the last has its loss anyway"
            )
        masks = network.spec_augment
        if masks and self.encoder.reads != "features":
            raise ConfigError(
                f"encoder `{self.name}` reads {self.encoder.reads}: set its network's spec_augment to null"
            )
        self.augment = masks and torchaudio.transforms.SpecAugment(
            masks.time_masks, masks.time_width, masks.frequency_masks, masks.frequency_width
        )

    def forward(
        self, inputs: dict[str, Tensor], lengths: Tensor, conditions: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Logits (B, T', outputs), in training those of the intermediate layer if there is one, and lengths (B,).

        inputs: features (B, 2, F, T) and waveforms (B, 2, N), of which the encoder reads one.
        """
        read = inputs[self.encoder.reads]
        if self.augment and self.training:
            read = self.augment(read)
        num_frames = inputs["features"].shape[-1]
        with self._intermediate() as between:
            encoded, lengths = encode(self.name, self.encoder, read, lengths, conditions, num_frames)
        return self.output(encoded), self.output(between[0]) if between else None, lengths

    @contextmanager
    def _intermediate(self) -> Iterator[list[Tensor]]:
        """A list that takes the output of the intermediate layer, if there is one, in training."""
        between = []
        if self.intermediate_layer is None or not self.training:
            yield between
            return
        layer = self.encoder.layers[self.intermediate_layer - 1]
        hook = layer.register_forward_hook(lambda _, __, y: between.append(y[0] if isinstance(y, tuple) else y))
        try:
            yield between
        finally:
            hook.remove()


def losses(output: Output, batch: Batch, training: Training, share: Share | None = None) -> dict[str, Tensor]:
    """The losses of the system, unweighted, and their weighted sum ``loss`` (paper, section 3.3).

    ``pitch``: cross entropy of the frames of songs, in which the 128 notes weigh ``note_weight`` times no-pitch.
    ``onset``: binary cross entropy of the frames of songs, in which onsets weigh ``onset_weight`` times the others.
    ``lyrics``: CTC, each clip divided by its number of tokens.
    ``intermediate``: CTC likewise at the intermediate layer, which takes ``intermediate_share`` of the weight of
    ``lyrics`` (Lee and Watanabe, "Intermediate Loss Regularization for CTC-based Speech Recognition", ICASSP 2021).

    All are means, over frames or clips. With ``share`` they are its part of the means over a joint batch: those of all
    its parts add up to what it has as a whole.
    """
    share = share or Share()
    parts = {}
    weights = {"pitch": training.weight_pitch, "onset": training.weight_onset, "lyrics": training.weight_lyrics}
    if output.pitch_logits is not None:
        inside = frame_mask(output.lengths, output.onset_logits.shape[1]) & batch.is_song[:, None]  # (B, T)
        count = inside.sum().clamp(min=1)
        class_weights = output.pitch_logits.new_full((NUM_CONDITIONS - 1,), training.note_weight)
        class_weights[-1] = 1.0
        pitch = nn.functional.cross_entropy(
            output.pitch_logits.float(), batch.pitch, weight=class_weights.float(), reduction="none"
        )
        onset = nn.functional.binary_cross_entropy_with_logits(
            output.onset_logits.float(),
            batch.onset,
            reduction="none",
            pos_weight=output.onset_logits.new_tensor(training.onset_weight).float(),
        )
        parts["pitch"] = (pitch * inside).sum() / count * share.song_frames
        parts["onset"] = (onset * inside).sum() / count * share.song_frames
    if output.log_probs is not None:
        parts["lyrics"] = _ctc(output.log_probs, output, batch, training) * share.clips
    if output.intermediate_log_probs is not None:
        parts["intermediate"] = _ctc(output.intermediate_log_probs, output, batch, training) * share.clips
        weights["intermediate"] = training.intermediate_share * training.weight_lyrics
        weights["lyrics"] -= weights["intermediate"]
    return {"loss": sum(weights[name] * value for name, value in parts.items()), **parts}


def _ctc(log_probs: Tensor, output: Output, batch: Batch, training: Training) -> Tensor:
    return ctc_loss(log_probs, output.log_probs_lengths, batch.tokens, batch.num_tokens, training.ctc)
