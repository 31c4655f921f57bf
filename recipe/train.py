"""Stages 3, 6 and 7: train one network or system.

--run filter       the pitch and onset network on RWC or MIR-ST500, for the pitch-shift filter (paper, section 4.1.1)
--run speech       the lyrics network on LibriSpeech, conditioned on zeros (pre-training)
--run pitch_onset | baseline | oracle | multitask     the four systems on DALI, UltraStar (and speech)

Each run has a folder, exp/<conf name>/<run> (data_dir/filter for the filter): validation.jsonl (losses and
measures by step), last.ckpt (from which an interrupted run goes on), best.ckpt and, when the run is finished, model.pt:
the best weights with the configuration that they need.
"""

import json
import logging
import time
import warnings
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from altpo_model.augmentation import Augment
from altpo_model.checkpoint import load_model, save_model
from altpo_model.config import LYRICS_CORPORA, PITCH_CORPORA, Config, Training, argument_parser, config_from
from altpo_model.decoding.greedy import best_paths
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.model import Batch, JointModel, losses
from altpo_model.notes import form_notes
from altpo_model.tokens import CharTokens
from recipe.allocator import keep_freed_memory
from recipe.data import SegmentDataset, evaluation_loader, joined_cuts, load_cuts, notes_of, training_loader
from recipe.measures import note_scores, word_error_rate

RUNS = ("filter", "speech", "pitch_onset", "baseline", "oracle", "multitask")


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run", required=True, choices=RUNS)
    arguments = parser.parse_args()
    train(config_from(arguments), arguments.run)


def train(config: Config, run: str) -> None:
    """Train ``run`` to its end and write its model.pt; go on from last.ckpt where there is one."""
    _quiet()
    keep_freed_memory()
    lightning.seed_everything(config.seed, verbose=False)
    if config.threads:
        torch.set_num_threads(config.threads)
    training = _training(config, run)
    folder = run_folder(config, run)
    dataset = _dataset(config)
    songs, speech, validation = _cuts(config, run)
    module = TrainingModule(config, run, dataset.tokens)
    checkpoints = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=module.monitor,
        mode="min",
        save_last=True,
        enable_version_counter=False,
    )
    trainer = lightning.Trainer(
        max_epochs=training.epochs,
        limit_train_batches=training.epoch_steps,
        gradient_clip_val=training.gradient_clip,
        precision=training.precision,
        devices=training.devices,
        logger=False,
        callbacks=[
            checkpoints,
            EarlyStopping(module.monitor, mode="min", patience=training.patience, check_finite=True),
            Progress(folder / "validation.jsonl"),
        ],
        plugins=[AtomicCheckpoints()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    last = folder / "last.ckpt"
    if last.is_file():
        print(f"{run}: going on from {last}")
    trainer.fit(
        module,
        training_loader(songs, speech, dataset, training, config.seed),
        evaluation_loader(validation, dataset, config.decoding.max_seconds),
        ckpt_path=last if last.is_file() else None,
        weights_only=True,
    )
    if trainer.interrupted:
        raise KeyboardInterrupt
    best = torch.load(checkpoints.best_model_path, weights_only=True, map_location="cpu")
    module.load_state_dict(best["state_dict"])
    save_model(folder / "model.pt", module.model, config, dataset.tokens)
    print(f"{run}: best {module.monitor} {float(checkpoints.best_model_score):.2f} % in {folder}/model.pt")


class TrainingModule(lightning.LightningModule):
    """The joint model with its optimiser, losses and validation measures (in %)."""

    def __init__(self, config: Config, run: str, tokens: CharTokens):
        super().__init__()
        self.run = run
        self.training_config = _training(config, run)
        self.config = config
        self.tokens = tokens
        self.hop_seconds = config.features.hop / config.features.sample_rate
        system = {"filter": "pitch_onset", "speech": "baseline"}.get(run, run)
        self.model = JointModel(config.model, config.features, len(tokens), system)
        self.model.load_pretrained()
        self.augment = Augment(self.training_config.augmentation)
        self.monitor = "note error" if system == "pitch_onset" else "WER"
        is_song_system = run in ("baseline", "oracle", "multitask")
        if is_song_system and self.training_config.start_lyrics and config.corpora.librispeech:
            self._start_from("speech", "lyrics")
        if run == "multitask" and self.training_config.start_pitch_onset:
            self._start_from("pitch_onset", "pitch_onset")
        self.results: list[dict] = []

    def _start_from(self, run: str, part: str) -> None:
        path = run_folder(self.config, run) / "model.pt"
        trained, _, _ = load_model(path)
        try:
            getattr(self.model, part).load_state_dict(getattr(trained, part).state_dict())
        except RuntimeError:
            raise UserError(f"{path}: its {part} network is not the one in the conf; run stage 6 and 7 again") from None

    def configure_optimizers(self):
        training = self.training_config
        # Lightning's mixed precision does not clip the gradients of a fused optimiser.
        fused = training.precision.startswith("32")
        optimizer = torch.optim.Adam(self.model.parameters(), training.learning_rate, fused=fused)
        steps = training.epochs * training.epoch_steps

        def rate(step: int) -> float:
            warm = min(1.0, (step + 1) / max(1, training.warmup_steps))
            left = (steps - step) / max(1, steps - training.warmup_steps)
            return warm * min(1.0, max(0.05, left)) if training.decay else warm

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["random_state"] = torch.get_rng_state()  # of dropout, masks and augmentation

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        torch.set_rng_state(checkpoint["random_state"])

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch[0].to(device), batch[1]

    def training_step(self, batch: tuple[Batch, list], _: int):
        augmented = self.augment(batch[0])
        parts = losses(self.model(augmented), augmented, self.training_config)
        if not torch.isfinite(parts["loss"]):
            raise UserError(f"the loss is {parts['loss']:.4g} at step {self.global_step}; lower the learning rate")
        self.log_dict({f"loss {k}" if k != "loss" else k: v.detach() for k, v in parts.items()})
        return parts["loss"]

    def validation_step(self, batch: tuple[Batch, list], _: int) -> None:
        output = self.model(batch[0])
        decoding, scoring = self.config.decoding, self.config.scoring
        paths = best_paths(output.log_probs, output.log_probs_lengths) if self.model.lyrics is not None else None
        for i, cut in enumerate(batch[1]):
            result = {}
            if paths is not None:
                result["words"] = (cut.supervisions[0].text, self.tokens.decode(paths[i].ids))
            if self.model.pitch_onset is not None:
                length = int(output.lengths[i])
                pitch = output.pitch_logits[i, :, :length].float().cpu().numpy()
                onset = torch.sigmoid(output.onset_logits[i, :length].float()).cpu().numpy()
                notes = form_notes(pitch, onset, self.hop_seconds, decoding.onset_threshold, decoding.onset_window)
                result["notes"] = note_scores(notes_of(cut.supervisions[0], cut.start), notes, scoring)["COnP"][2]
                truth = batch[0].pitch[i, :length].cpu().numpy()
                result["frames"] = (int((pitch.argmax(axis=0) != truth).sum()), length)
            self.results.append(result)

    def on_validation_epoch_end(self) -> None:
        measured = {}
        if self.model.lyrics is not None:
            measured["WER"] = word_error_rate([r["words"] for r in self.results])["corpus"]
        if self.model.pitch_onset is not None:
            measured["note error"] = 100 - sum(r["notes"] for r in self.results) / len(self.results)
            wrong, frames = (sum(column) for column in zip(*(r["frames"] for r in self.results), strict=True))
            measured["frame error"] = 100 * wrong / frames
        self.results.clear()
        self.log_dict(measured)


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that a killed run never leaves half-written, and that cannot bring code with them."""

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        with write_atomically(path) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)

    def load_checkpoint(self, path, map_location=None, weights_only=True):
        try:
            return super().load_checkpoint(path, map_location, weights_only=True)
        except Exception as error:  # torch raises many kinds, by where the file is broken
            raise UserError(
                f"{path}: not a checkpoint of this project ({type(error).__name__}); remove it to train from the start"
            ) from None


class Progress(Callback):
    """Prints steps, losses, measures and the time left at each validation, and adds them to a file of JSON lines."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_start(self, trainer, module) -> None:
        self.start, self.first_step = time.monotonic(), trainer.global_step

    def on_validation_end(self, trainer, module) -> None:
        training = module.training_config
        steps = training.epochs * training.epoch_steps
        each = (time.monotonic() - self.start) / max(1, trainer.global_step - self.first_step)
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as stream:
            stream.write(json.dumps({"step": trainer.global_step, **values}) + "\n")
        shown = ", ".join(f"{k} {v:.3f}" if k.startswith("loss") else f"{k} {v:.2f} %" for k, v in values.items())
        left = each * (steps - trainer.global_step)
        print(f"  {module.run}, step {trainer.global_step}/{steps}: {shown}; {left / 60:.1f} min left", flush=True)


def run_folder(config: Config, run: str) -> Path:
    """The filter's network belongs to the data, which several experiments share."""
    return Path(config.data_dir) / "filter" if run == "filter" else Path(config.exp_dir) / run


def _training(config: Config, run: str) -> Training:
    return {
        "filter": config.filter_training,
        "speech": config.speech_training,
        "pitch_onset": config.pitch_onset_training,
    }.get(run, config.song_training)


def _dataset(config: Config) -> SegmentDataset:
    return SegmentDataset(CharTokens(), config.features.sample_rate, config.features.hop)


def _cuts(config: Config, run: str):
    """(songs, speech, validation) of a run."""
    if run == "filter":
        if not any(getattr(config.corpora, corpus) for corpus in PITCH_CORPORA):
            raise UserError(
                "the pitch-shift filter learns from RWC or MIR-ST500: set corpora.rwc or corpora.mir_st500, or a ready "
                "table as filter.table"
            )
        return joined_cuts(config, PITCH_CORPORA, "train"), None, joined_cuts(config, PITCH_CORPORA, "test")
    if run == "speech":
        return None, load_cuts(config, "librispeech_train"), load_cuts(config, "librispeech_validation")
    songs, validation = (joined_cuts(config, LYRICS_CORPORA, part) for part in ("train", "validation"))
    speech = load_cuts(config, "librispeech_train") if run != "pitch_onset" and config.corpora.librispeech else None
    return songs, speech, validation


def _quiet() -> None:
    """Leave out what Lightning says of itself."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*lightning.*")


if __name__ == "__main__":
    main()
