"""Stage 10: the report of a run, exp/<conf name>/report/: report.md with the tables, and figures as PNG.

training.png    validation measures of every run by step
filter.png      histograms of the pitch-shift filter's shifts and errors
segment.png     as the paper's Figure 3: the spectrogram of a test segment, the pitch posterior with the reference
                notes, the onset posterior with the picked onsets, and the characters where CTC peaks
"""

import json
from pathlib import Path

import matplotlib
import numpy as np
import torch

from altpo_model.checkpoint import load_model
from altpo_model.config import Config, argument_parser, config_from
from altpo_model.decoding.words import collapse
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.notes import pick_onsets
from recipe.data import SegmentDataset, cuts_path, filter_rows, load_cuts, notes_of
from recipe.score import tables
from recipe.train import RUNS, run_folder

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the back end is chosen before)


@exits_cleanly
def main() -> None:
    config = config_from(argument_parser(__doc__).parse_args())
    results = Path(config.exp_dir) / "results.json"
    if not results.is_file():
        raise UserError(f"{results}: no such file; run stage 9, which makes it")
    folder = Path(config.exp_dir) / "report"
    figures = {
        "training.png": training_figure(config),
        "filter.png": filter_figure(config),
        "segment.png": segment_figure(config),
    }
    scored = json.loads(results.read_text())
    parts = [f"# Report of {config.name}", tables(scored)]
    for name, figure in figures.items():
        if figure is not None:
            with write_atomically(folder / name) as temporary:
                figure.savefig(temporary, dpi=110)
            pyplot.close(figure)
            parts.append(f"![{name.removesuffix('.png')}]({name})\n")
    minutes = ", ".join(f"{stage}: {seconds / 60:.1f}" for stage, seconds in scored["seconds"].items())
    parts.append(f"Minutes by stage: {minutes}\n")
    with write_atomically(folder / "report.md") as temporary:
        temporary.write_text("\n".join(parts))
    print(f"report: {folder}/report.md")


def training_figure(config: Config):
    """Word error rate, note error and frame error on the validation set by step; None where nothing was trained."""
    curves = {}
    for run in RUNS:
        path = run_folder(config, run) / "validation.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        for measure in ("WER", "note error", "frame error"):
            points = {row["step"]: row[measure] for row in rows if measure in row}
            if points:
                curves.setdefault(measure, {})[run] = sorted(points.items())
    if not curves:
        return None
    figure, axes = pyplot.subplots(1, len(curves), figsize=(5 * len(curves), 3.5), layout="constrained", squeeze=False)
    for axis, (measure, runs) in zip(axes[0], curves.items(), strict=True):
        for run, points in runs.items():
            axis.plot(*zip(*points, strict=True), marker=".", label=run)
        axis.set(xlabel="step", ylabel=f"{measure} of the validation set in %", ylim=(0, None))
        axis.legend()
    return figure


def filter_figure(config: Config):
    rows = list(filter_rows(config).values())
    if not rows:
        return None
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    shifts = [row["best_offset"] for row in rows]
    left.hist(shifts, bins=np.arange(config.filter.min_shift, config.filter.max_shift + 2) - 0.5)
    left.set(xlabel="best shift in semitones", ylabel="songs", yscale="log")
    right.hist([row["best_res"] for row in rows], bins=30, range=(0, 1), alpha=0.7, label="best shift")
    right.hist([row["sec_best_res"] for row in rows], bins=30, range=(0, 1), alpha=0.7, label="second best")
    right.axvline(config.filter.max_error, color="black", linestyle=":", label="threshold")
    right.set(xlabel="frame error", ylabel="songs")
    right.legend()
    return figure


@torch.inference_mode()
def segment_figure(config: Config, name: str = "dali_test"):
    """The first segment of the song test set through the multi-task system; None where either is missing."""
    exp_dir = Path(config.trained.exp_dir if config.trained else config.exp_dir)
    if not (cuts_path(config, name).is_file() and (exp_dir / "multitask" / "model.pt").is_file()):
        return None
    model, tokens, features = load_model(exp_dir / "multitask" / "model.pt")
    cut = next(iter(load_cuts(config, name)))
    batch, _ = SegmentDataset(tokens, features.sample_rate, features.hop)[[cut]]
    output = model(batch)
    seconds = features.hop / features.sample_rate
    mel = model.features(batch.waveforms, batch.num_samples)[0][0, 0].numpy()  # (mel_bins, T)
    pitch = output.pitch_logits[0].softmax(0)[:128].numpy()
    onset = output.onset_logits[0].sigmoid().numpy()
    times = np.arange(len(onset)) * seconds
    figure, axes = pyplot.subplots(4, 1, figsize=(11, 9), sharex=True, layout="constrained", height_ratios=[3, 3, 1, 1])
    axes[0].imshow(mel, origin="lower", aspect="auto", extent=(0, times[-1], 0, len(mel)), cmap="magma")
    axes[0].set(ylabel="mel band", title=f"{cut.id}: {cut.supervisions[0].text}")
    axes[1].imshow(
        pitch, origin="lower", aspect="auto", extent=(0, times[-1], -0.5, 127.5), cmap="Greys", vmin=0, vmax=1
    )
    notes = notes_of(cut.supervisions[0], cut.start)
    for number, note in enumerate(notes):
        label = "reference" if number == 0 else None
        axes[1].plot([note.onset, note.offset], [note.pitch] * 2, color="tab:red", alpha=0.6, label=label)
    if notes:
        pitches = [note.pitch for note in notes]
        axes[1].set(ylim=(min(pitches) - 8, max(pitches) + 8))
        axes[1].legend(loc="upper right")
    axes[1].set(ylabel="pitch (MIDI)")
    picked = pick_onsets(onset, config.decoding.onset_threshold, config.decoding.onset_window, seconds)
    axes[2].plot(times, onset)
    axes[2].plot(times[picked], onset[picked], "v", color="tab:red")
    axes[2].set(ylabel="onset", ylim=(0, 1.1))
    frame = seconds * model.lyrics.encoder.subsampling
    best = output.log_probs[0].argmax(-1).numpy()
    path = collapse(best)
    axes[3].plot(np.arange(len(best)) * frame, 1 - output.log_probs[0, :, 0].exp().numpy(), color="lightgrey")
    for token, (start, _) in zip(path.ids, path.frames, strict=True):
        axes[3].text(start * frame, 0.4, tokens.symbol(int(token)), fontsize=9)
    axes[3].set(ylabel="characters", xlabel="seconds", ylim=(0, 1.1), xlim=(0, times[-1]))
    return figure


if __name__ == "__main__":
    main()
