"""What a trained system says of segments: log probabilities of tokens, and notes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from tqdm import tqdm

from altpo_model.checkpoint import load_model
from altpo_model.config import Config
from altpo_model.model import JointModel, Output
from altpo_model.notes import Note, form_notes
from altpo_model.tokens import CharTokens
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
        self.tokens: CharTokens = tokens

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
                output = model(batch.to(next(model.parameters()).device))
                done += batch_cuts
                if model.pitch_onset is not None:
                    notes += _notes(output, config, seconds)
                if model.lyrics is not None:
                    lengths = output.log_probs_lengths.tolist()
                    log_probs += [p[:n].cpu().numpy() for p, n in zip(output.log_probs.float(), lengths, strict=True)]
                progress.update(len(batch_cuts))
        has_words = model.lyrics is not None
        return Outputs(
            done,
            log_probs if has_words else None,
            notes if model.pitch_onset is not None else None,
            seconds * (model.lyrics.encoder.subsampling if has_words else 1),
        )


def trained_systems(config: Config) -> Path:
    """The folder of the systems that the run decodes with: its own, or those of the finished run that it names."""
    return Path(config.trained.exp_dir if config.trained else config.exp_dir)


def trained_data(config: Config) -> Path:
    """The folder of the language model and the lexicon, likewise."""
    return Path(config.trained.data_dir if config.trained else config.data_dir)


def _notes(output: Output, config: Config, seconds: float) -> list[list[Note]]:
    pitch = output.pitch_logits.float().cpu().numpy()
    onset = torch.sigmoid(output.onset_logits.float()).cpu().numpy()
    threshold, window = config.decoding.onset_threshold, config.decoding.onset_window
    return [
        form_notes(pitch[i, :, :n], onset[i, :n], seconds, threshold, window)
        for i, n in enumerate(output.lengths.tolist())
    ]
