"""The paper's joint model and its training step, written down from its text with torch and librosa alone.

What the recipe's own model is measured against and compared with. Clips of one batch are of equal length; there is no
padding and no mask. The sizes are those of the encoder `crnn`, so that `copy_weights` can take ours.
"""

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from altpo_model.config import Config, Features, Training
from altpo_model.model import JointModel
from altpo_model.notes import NUM_CONDITIONS


def log_mel(waveform: np.ndarray, features: Features) -> np.ndarray:
    """(N,) -> (mel_bins, N // hop) in dB."""
    import librosa  # only here: the recipe and the tests of the networks below do without it

    power = librosa.feature.melspectrogram(
        y=waveform, sr=features.sample_rate, n_fft=features.window, hop_length=features.hop, n_mels=features.mel_bins
    )
    return librosa.power_to_db(power[:, : max(1, len(waveform) // features.hop)])


def read_clip(vocals: str | None, mixture: str, features: Features) -> np.ndarray:
    """(2, mel_bins, T) of a song's two files, or of a speech file, which stands in both channels."""
    second = log_mel(soundfile.read(mixture, dtype="float32")[0], features)
    first = log_mel(soundfile.read(vocals, dtype="float32")[0], features) if vocals else second
    return np.stack([first, second])


class Block(nn.Module):
    """Instance norm, 1 x 1 convolution where the channels change, ReLU, dropout, convolution, skip connection."""

    def __init__(self, before: int, after: int, kernel: int, dropout: float):
        super().__init__()
        self.norm = nn.InstanceNorm2d(before)
        self.projection = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout2d(dropout)
        self.convolution = nn.Conv2d(after, after, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.projection(self.norm(x))
        return y + self.convolution(self.dropout(self.relu(y)))


class Network(nn.Module):
    """Convolution blocks, 2-D max pooling (optional), conditions, BiLSTM blocks, fully connected."""

    def __init__(self, conf: dict, mel_bins: int, conditions: int, outputs: int):
        super().__init__()
        channels, kernels, size = conf["channels"], conf["kernels"], conf["lstm_size"]
        self.first = nn.Conv2d(2, channels[0], kernels[0], padding=kernels[0] // 2)
        self.blocks = nn.ModuleList(
            Block(channels[i - 1], channels[i], kernels[i], conf["dropout"]) for i in range(1, len(channels))
        )
        self.pool_after = conf["pool_after"]
        flat = channels[-1] * (mel_bins // 2 if self.pool_after else mel_bins) + conditions
        inputs = [flat] + [2 * size] * (conf["lstm_layers"] - 1)
        self.norms = nn.ModuleList(nn.LayerNorm(n) for n in inputs)
        self.lstms = nn.ModuleList(nn.LSTM(n, size, batch_first=True, bidirectional=True) for n in inputs)
        self.dropout = nn.Dropout(conf["dropout"])
        self.output = nn.Linear(2 * size, outputs)

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        """(B, 2, F, T) and (B, 130, T) -> (B, T', outputs)."""
        for number, block in enumerate([self.first, *self.blocks], start=1):
            x = block(x)
            if number == self.pool_after:
                x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
        x = x.flatten(1, 2)  # (B, C' * F', T')
        if conditions is not None:
            if self.pool_after:
                conditions = nn.functional.max_pool1d(conditions, 3, stride=2, padding=1)
            x = torch.cat([x, conditions], dim=1)
        x = x.transpose(1, 2)
        for norm, lstm in zip(self.norms, self.lstms, strict=True):
            x = self.dropout(lstm(norm(x))[0])
        return self.output(x)


class PlainModel(nn.Module):
    """Both networks, the multi-task system."""

    def __init__(self, config: Config, num_tokens: int):
        super().__init__()
        bands = config.features.mel_bins
        self.pitch_onset = Network(config.model.pitch_onset.encoder_conf, bands, 0, NUM_CONDITIONS)
        self.lyrics = Network(config.model.lyrics.encoder_conf, bands, NUM_CONDITIONS, num_tokens)

    def forward(self, features: Tensor, is_song: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 2, F, T), (B,) -> logits of pitch (B, 129, T) and onset (B, T), log probabilities (B, T', tokens)."""
        logits = self.pitch_onset(features).transpose(1, 2)
        pitch, onset = logits[:, :-1], logits[:, -1]
        conditions = torch.cat([pitch.softmax(dim=1), onset.sigmoid()[:, None]], dim=1)
        lyrics = self.lyrics(features, conditions * is_song[:, None, None])
        return pitch, onset, lyrics.log_softmax(dim=2)

    def loss(self, clips: list[dict[str, Tensor]], training: Training) -> Tensor:
        """The weighted sum of the losses over batches that may differ in length.

        Each has ``features``, ``is_song``, ``pitch`` (B, T), ``onset`` (B, T), ``tokens`` (B, U), ``num_tokens`` (B,).
        """
        pitch_loss, onset_loss, lyrics_loss, frames, count = 0.0, 0.0, 0.0, 0, 0
        for batch in clips:
            pitch, onset, log_probs = self(batch["features"], batch["is_song"])
            songs = batch["is_song"]
            frames += int(songs.sum()) * onset.shape[1]
            count += len(songs)
            weights = pitch.new_full((NUM_CONDITIONS - 1,), training.note_weight)
            weights[-1] = 1.0
            pitch_loss += nn.functional.cross_entropy(
                pitch[songs], batch["pitch"][songs], weight=weights, reduction="none"
            ).sum()
            onset_loss += nn.functional.binary_cross_entropy_with_logits(
                onset[songs], batch["onset"][songs], reduction="sum", pos_weight=onset.new_tensor(training.onset_weight)
            )
            lengths = torch.full((len(songs),), log_probs.shape[1])
            ctc = nn.functional.ctc_loss(
                log_probs.transpose(0, 1), batch["tokens"], lengths, batch["num_tokens"], reduction="none"
            )
            lyrics_loss += (ctc / batch["num_tokens"]).sum()
        return (
            training.weight_pitch * pitch_loss / max(1, frames)
            + training.weight_onset * onset_loss / max(1, frames)
            + training.weight_lyrics * lyrics_loss / count
        )

    def copy_weights(self, ours: JointModel) -> None:
        """Take the weights of the recipe's model of the same sizes."""
        with torch.no_grad():
            for mine, theirs in self.pairs(ours):
                mine.copy_(theirs)

    def pairs(self, ours: JointModel) -> list[tuple[Tensor, Tensor]]:
        """(weight of this model, weight of the recipe's) of every layer."""
        pairs = []
        for name in ("pitch_onset", "lyrics"):
            network, other = getattr(self, name), getattr(ours, name)
            encoder = other.encoder
            modules = [(network.output, other.output), (network.first, encoder.blocks[0].convolution)]
            for block, theirs in zip(network.blocks, encoder.blocks[1:], strict=True):
                modules += [(block.convolution, theirs.convolution), (block.projection, theirs.projection)]
            for norm, lstm, theirs in zip(network.norms, network.lstms, encoder.lstms, strict=True):
                modules.append((norm, theirs.norm))
                both = [*theirs.forward_lstm.parameters(), *theirs.backward_lstm.parameters()]
                pairs += zip(lstm.parameters(), both, strict=True)
            for mine, theirs in modules:
                pairs += zip(mine.parameters(), theirs.parameters(), strict=True)
        return pairs


def step(
    model: PlainModel, optimizer: torch.optim.Optimizer, clips: list[dict[str, Tensor]], training: Training
) -> float:
    """One optimisation step; gives the loss."""
    optimizer.zero_grad()
    loss = model.loss(clips, training)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
    optimizer.step()
    return loss.item()
