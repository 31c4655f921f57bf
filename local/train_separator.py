"""Stage 2, first half: train a small Open-Unmix for vocals on the generated stems.

Writes the model directory ``separation.model`` in Open-Unmix's own layout (``separator.json``, ``vocals.json``,
``vocals.pth``), with ``si_sdr.json``: the SI-SDR of the mixture and of the separated vocals, in dB, on the test stems.
The directory appears when everything in it is finished. With ``separation.training: null``, or with ``trained`` set,
there is nothing to do.
"""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import openunmix
import torch
from openunmix.model import OpenUnmix
from openunmix.transforms import make_filterbanks
from openunmix.utils import bandwidth_to_max_bin
from tqdm import tqdm

from altpo_model.config import SeparatorTraining, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.separation import TARGET, load_separator
from separation_score import score_separation
from stems import Stems, read_stems

GAINS = (0.25, 1.25)  # of vocals and of accompaniment, drawn evenly: Open-Unmix's own augmentation


def train_separator(training: SeparatorTraining, tracks: list[Stems], sample_rate: int, seed: int) -> OpenUnmix:
    """Train on random mixes: the vocals of one track over the accompaniment of another, each with a random gain.

    tracks: mono at ``sample_rate`` Hz. The loss is the mean absolute difference of the masked mixture's STFT and the
    vocals' in the complex plane: the mask learns to be low where the mixture's phase, which the separator keeps, is not
    the vocals'.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    stft, _ = make_filterbanks(n_fft=training.n_fft, n_hop=training.n_hop, center=True, sample_rate=float(sample_rate))
    model = _new_model(training, tracks, stft, sample_rate)
    optimiser = torch.optim.Adam(model.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=training.learning_rate, total_steps=training.steps, pct_start=0.1
    )
    segment = round(training.segment_seconds * sample_rate)
    with tqdm(total=training.steps, desc="separator", mininterval=5, unit="step") as bar:
        for _ in range(training.steps):
            mixture, vocals = _remix(tracks, training.batch_size, segment, random)
            # (batch, 1, bins, frames)
            mixture_stft, vocals_stft = (torch.view_as_complex(stft(signal[:, None])) for signal in (mixture, vocals))
            estimate = model(mixture_stft.abs())
            phase = mixture_stft / mixture_stft.abs().clamp(min=1e-8)
            loss = (estimate * phase - vocals_stft).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return model


def write_model(model: OpenUnmix, training: SeparatorTraining, sample_rate: int, directory: Path) -> None:
    """Write ``directory`` as Open-Unmix's loader reads it."""
    directory.mkdir(parents=True)
    separator = {"sample_rate": sample_rate, "nfft": training.n_fft, "nhop": training.n_hop, "nb_channels": 1}
    _write_json(directory / "separator.json", separator)
    arguments = {
        "target": TARGET,
        "nfft": training.n_fft,
        "nhop": training.n_hop,
        "nb_channels": 1,
        "hidden_size": training.hidden_size,
        "bandwidth": training.bandwidth,
        "steps": training.steps,
        "batch_size": training.batch_size,
        "lr": training.learning_rate,
    }
    _write_json(directory / f"{TARGET}.json", {"args": arguments})
    torch.save(model.state_dict(), directory / f"{TARGET}.pth")


def _new_model(training: SeparatorTraining, tracks: list[Stems], stft: torch.nn.Module, sample_rate: int) -> OpenUnmix:
    """An untrained Open-Unmix that scales its input by the statistics of the mixtures, a mean and a deviation a bin."""
    magnitudes = torch.cat(
        [torch.view_as_complex(stft(track.mixture[None, None]))[0, 0].abs() for track in tracks], dim=-1
    )  # (bins, frames)
    deviation = magnitudes.std(dim=-1)
    model = OpenUnmix(
        nb_bins=training.n_fft // 2 + 1,
        nb_channels=1,
        hidden_size=training.hidden_size,
        input_mean=magnitudes.mean(dim=-1).numpy(),
        input_scale=deviation.clamp(min=1e-4 * float(deviation.max())).numpy(),  # Open-Unmix's own floor
        max_bin=int(bandwidth_to_max_bin(float(sample_rate), training.n_fft, training.bandwidth)),
    )
    model.lstm.dropout = 0.0  # Open-Unmix's 0.4 is made for weeks of training; in minutes it costs 0.3 dB
    return model


def _remix(
    tracks: list[Stems], batch_size: int, segment: int, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of mixtures and their vocals, (batch, segment) each."""
    vocals = torch.stack([_excerpt(tracks, "vocals", segment, random) for _ in range(batch_size)])
    accompaniment = torch.stack([_excerpt(tracks, "accompaniment", segment, random) for _ in range(batch_size)])
    return vocals + accompaniment, vocals


def _excerpt(tracks: list[Stems], part: str, segment: int, random: np.random.Generator) -> torch.Tensor:
    signal = getattr(tracks[random.integers(len(tracks))], part)
    start = random.integers(max(1, len(signal) - segment + 1))
    excerpt = signal[start : start + segment] * random.uniform(*GAINS)
    return torch.nn.functional.pad(excerpt, (0, segment - len(excerpt)))


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@exits_cleanly
def main() -> None:
    config = config_from(argument_parser(__doc__).parse_args())
    separation, training = config.separation, config.separation.training
    if training is None or config.trained is not None:
        print(f"separator: {separation.model} is used as it is, nothing is trained.")
        return
    if hasattr(openunmix, f"{separation.model}_spec"):
        raise UserError(f"separation.model: {separation.model} is a pretrained model; name a directory to train one")
    torch.set_num_threads(1)  # steps this small are slower on two threads, much slower on a busy machine
    train_tracks = read_stems(Path(training.stems_dir) / "train", separation.sample_rate)
    test_tracks = read_stems(Path(training.stems_dir) / "test", separation.sample_rate)
    started = time.monotonic()
    model = train_separator(training, train_tracks, separation.sample_rate, config.seed)
    seconds = time.monotonic() - started

    directory = Path(separation.model)
    unfinished = directory.with_name(f".{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_model(model, training, separation.sample_rate, unfinished)
    scores = score_separation(load_separator(str(unfinished), separation.wiener_iterations), test_tracks, separation)
    _write_json(unfinished / "si_sdr.json", scores)
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(unfinished, directory)
    print(
        f"separator: {training.steps} steps on {len(train_tracks)} tracks in {seconds:.0f} s, written to {directory}. "
        f"SI-SDR over {len(test_tracks)} unseen tracks (mean): mixture {scores['si_sdr_mixture']:.2f} dB, "
        f"separated vocals {scores['si_sdr_vocals']:.2f} dB."
    )


if __name__ == "__main__":
    main()
