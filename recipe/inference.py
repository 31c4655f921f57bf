"""What a trained system says of segments: log probabilities of tokens, and notes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from tqdm import tqdm

from altpo_model.checkpoint import load_model
from altpo_model.config import Config
from altpo_model.lang import Tokens, lang_directory
from altpo_model.model import Batch, JointModel, Output
from altpo_model.notes import Note, form_notes
from altpo_model.posteriors import CHUNK_SECONDS, song_output
from recipe.data import SegmentDataset, evaluation_loader


@dataclass
class Outputs:
    """Of segments, in the order of ``cuts``. ``log_probs`` and ``notes`` are None where the system has no such network.

    log_probs: (T, C) each, natural logarithms, a frame every ``frame`` seconds.
    """

    cuts: list[Cut]
    log_probs: list[np.ndarray] | None
    notes: list[list[Note]] | None
    frame: float


class System:
    """A trained system, on the GPU if there is one."""

    def __init__(self, config: Config, name: str):
        self.config = config
        self.name = name
        model, tokens, _ = load_model(trained_systems(config) / name / "model.pt")
        self.model: JointModel = model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.tokens: Tokens = tokens

    def outputs(self, cuts: CutSet, description: str) -> Outputs:
        """Everything that the system says of ``cuts``."""
        config, model = self.config, self.model
        seconds = config.features.hop / config.features.sample_rate
        dataset = SegmentDataset(self.tokens, config.features.sample_rate, config.features.hop)
        done: list[Cut] = []
        notes: list[list[Note]] = []
        log_probs: list[np.ndarray] = []
        with torch.inference_mode(), tqdm(unit="segment", mininterval=5, desc=description) as progress:
            for batch, batch_cuts in evaluation_loader(cuts, dataset, config.decoding.max_seconds):
                done += batch_cuts
                for output in self._outputs(batch):
                    if model.pitch_onset is not None:
                        notes += _notes(output, config, seconds)
                    if model.lyrics is not None:
                        ends = output.log_probs_lengths.tolist()
                        log_probs += [p[:n].cpu().numpy() for p, n in zip(output.log_probs.float(), ends, strict=True)]
                progress.update(len(batch_cuts))
        has_words = model.lyrics is not None
        return Outputs(
            done,
            log_probs if has_words else None,
            notes if model.pitch_onset is not None else None,
            seconds * (model.lyrics.encoder.subsampling if has_words else 1),
        )

    def _outputs(self, batch: Batch) -> Iterator[Output]:
        """Of a batch at once or, where it holds whole songs, of each in chunks (not the oracle, which needs notes)."""
        seconds = batch.waveforms.shape[2] / self.config.features.sample_rate
        if seconds <= CHUNK_SECONDS or self.model.system == "oracle":
            yield self.model(batch.to(next(self.model.parameters()).device))
            return
        for waveforms, samples, is_song in zip(batch.waveforms, batch.num_samples, batch.is_song, strict=True):
            yield song_output(self.model, waveforms[:, :samples], bool(is_song))


def trained_systems(config: Config) -> Path:
    """The folder of the systems that the run decodes with: its own, or those of the finished run that it names."""
    return Path(config.trained.exp_dir if config.trained else config.exp_dir)


def trained_data(config: Config) -> Path:
    """The folder of the language model and the lexicon, likewise."""
    return Path(config.trained.data_dir if config.trained else config.data_dir)


def trained_lang(config: Config) -> Path:
    """The lang directory, likewise."""
    return lang_directory(trained_data(config), config.lang)


def _notes(output: Output, config: Config, seconds: float) -> list[list[Note]]:
    pitch = output.pitch_logits.float().cpu().numpy()
    onset = torch.sigmoid(output.onset_logits.float()).cpu().numpy()
    threshold, window = config.decoding.onset_threshold, config.decoding.onset_window
    return [
        form_notes(pitch[i, :, :n], onset[i, :n], seconds, threshold, window)
        for i, n in enumerate(output.lengths.tolist())
    ]
