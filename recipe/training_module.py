"""The joint model with its optimiser, its losses and its validation measures, for Lightning."""

import math
from contextlib import nullcontext
from pathlib import Path

import lightning
import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor

from altpo_model.augmentation import Augment
from altpo_model.checkpoint import load_model
from altpo_model.config import Config, Training
from altpo_model.decoding.greedy import best_paths
from altpo_model.errors import UserError
from altpo_model.lang import Tokens
from altpo_model.model import Batch, JointModel, Share, losses
from altpo_model.notes import form_notes
from recipe.data import notes_of
from recipe.measures import note_scores, word_error_rate


class TrainingModule(lightning.LightningModule):
    """The model of a run. Validation measures are in %, over the segments of all devices.

    A batch is divided among devices and, on each, into parts. The gradients are those of the whole batch in one: before
    anything is computed, all learn how many clips and frames the whole batch has.
    """

    automatic_optimization = False  # the parts of a batch are not independent of each other

    def __init__(self, config: Config, run: str, tokens: Tokens):
        super().__init__()
        self.run = run
        self.training_config = training_of(config, run)
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

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        if isinstance(batch[0], Batch):
            return batch[0].to(device), batch[1]
        return [part.to(device) for part, _ in batch]  # in training

    def on_train_batch_start(self, batch: list[Batch], _: int) -> None:
        # Dropout, masks and augmentation depend on the seed, the step and the device alone: a run can go on anywhere.
        seed = np.random.SeedSequence((self.config.seed, self.global_step, self.global_rank)).generate_state(1)
        torch.manual_seed(int(seed[0]))

    def training_step(self, batch: list[Batch], _: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        values: dict[str, Tensor] = {}
        for number, (part, share) in enumerate(zip(batch, self._shares(batch), strict=True), start=1):
            is_last = number == len(batch)  # only then do the devices exchange their gradients
            with nullcontext() if is_last else self.trainer.strategy.block_backward_sync():
                of_part = self.part_losses(part, share)
                self.manual_backward(of_part["loss"] * self.trainer.world_size)  # whose mean over devices will be taken
            values = {name: value.detach() + values.get(name, 0.0) for name, value in of_part.items()}
        values = dict(zip(values, self._sum_over_devices(torch.stack(list(values.values()))), strict=True))
        if not torch.isfinite(values["loss"]):
            raise UserError(f"the loss is {values['loss']:.4g} at step {self.global_step}; lower the learning rate")
        self.log_dict({name if name == "loss" else f"loss {name}": value for name, value in values.items()})
        optimizer.step()
        self.lr_schedulers().step()

    def part_losses(self, part: Batch, share: Share) -> dict[str, Tensor]:
        augmented = self.augment(part)
        return losses(self.model(augmented), augmented, self.training_config, share)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.clip_gradients(optimizer, self.training_config.gradient_clip, "norm")

    def _shares(self, batch: list[Batch]) -> list[Share]:
        """What each of this device's parts is of the whole batch."""
        frames = [(self.model.features.num_frames(part.num_samples) * part.is_song).sum() for part in batch]
        clips = [torch.full_like(count, len(part.is_song)) for count, part in zip(frames, batch, strict=True)]
        counts = torch.stack([torch.stack(frames), torch.stack(clips)], dim=1).float()  # (parts, 2)
        shares = counts / self._sum_over_devices(counts.sum(dim=0)).clamp(min=1)
        return [Share(*share) for share in shares]

    def _sum_over_devices(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="sum")

    def validation_step(self, batch: tuple[Batch, list[Cut]], _: int) -> None:
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
        results = self._of_all_devices(self.results)
        measured = {}
        if self.model.lyrics is not None:
            measured["WER"] = word_error_rate([r["words"] for r in results])["corpus"]
        if self.model.pitch_onset is not None:
            measured["note error"] = 100 - math.fsum(r["notes"] for r in results) / len(results)
            wrong, frames = (sum(column) for column in zip(*(r["frames"] for r in results), strict=True))
            measured["frame error"] = 100 * wrong / frames
        self.results.clear()
        self.log_dict(measured)

    def _of_all_devices(self, results: list[dict]) -> list[dict]:
        if self.trainer.world_size == 1:
            return results
        gathered: list[list[dict]] = [[]] * self.trainer.world_size
        torch.distributed.all_gather_object(gathered, results)
        return [result for of_device in gathered for result in of_device]


def run_folder(config: Config, run: str) -> Path:
    """The filter's network belongs to the data, which several experiments share."""
    return Path(config.data_dir) / "filter" if run == "filter" else Path(config.exp_dir) / run


def training_of(config: Config, run: str) -> Training:
    """The run's section of the conf."""
    return {
        "filter": config.filter_training,
        "speech": config.speech_training,
        "pitch_onset": config.pitch_onset_training,
    }.get(run, config.song_training)
