"""Stages 3, 6 and 7: train one network or system.

--run filter       the pitch and onset network on RWC or MIR-ST500, for the pitch-shift filter (paper, section 4.1.1)
--run speech       the lyrics network on LibriSpeech, conditioned on zeros (pre-training)
--run pitch_onset | baseline | oracle | multitask     the four systems on DALI, UltraStar (and speech)

Each run has a folder, exp/<conf name>/<run> (data_dir/filter for the filter): validation.jsonl (losses and
measures by step), last.ckpt (from which an interrupted run goes on), kept/*.ckpt, tensorboard/ and, when the run is
finished, model.pt: the best weights (or the mean of several checkpoints) with the configuration that they need.

Several devices of one machine: --set trainer.devices=4. Several machines, either of
    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:PORT -m -- recipe.train --run ...
    srun --nodes 2 --ntasks-per-node 4 python -m recipe.train --run ...
The number of devices changes the speed alone: a batch, and all that is learnt from it, stays the same.
"""

import importlib.util
import json
import logging
import os
import re
import time
import warnings
from pathlib import Path

import lightning
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy

from altpo_model.checkpoint import mean_weights, save_model
from altpo_model.config import LYRICS_CORPORA, PITCH_CORPORA, Config, Training, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.lang import Tokens, lang_directory, read_tokens
from altpo_model.tokens import CharTokens
from recipe.allocator import keep_freed_memory
from recipe.data import SegmentData, joined_cuts, load_cuts
from recipe.training_module import TrainingModule, run_folder, training_of

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
    training = training_of(config, run)
    folder = run_folder(config, run)
    songs, speech, validation = _cuts(config, run)
    module = TrainingModule(config, run, _tokens(config, run))
    kept = _kept_checkpoints(training, folder, module.monitor)
    trainer = _trainer(config, training, folder, module.monitor, kept)
    last = folder / "last.ckpt"
    if last.is_file() and trainer.is_global_zero:
        print(f"{run}: going on from {last}")
    data = SegmentData(config, training, module.tokens, songs, speech, validation)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=last if last.is_file() else None, weights_only=True)
    except RuntimeError as error:
        if "find_unused_parameters" in str(error):
            raise UserError(f"{run}: not all parameters were used; set trainer.find_unused_parameters=true") from error
        if trainer.world_size > 1 and re.search("gloo|nccl", str(error), re.IGNORECASE):
            raise UserError(
                f"{run}: another process has died; start again, it goes on from the last checkpoint"
            ) from error
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt
    if not trainer.is_global_zero:
        return
    paths = sorted(kept.best_k_models)
    states = [torch.load(path, weights_only=True, map_location="cpu")["state_dict"] for path in paths]
    module.load_state_dict(mean_weights(states))
    save_model(folder / "model.pt", module.model, config, module.tokens)
    what = f"best {module.monitor} {float(kept.best_model_score):.2f} %"
    if training.average > 1 or training.average_of == "last":
        what = f"mean of the {training.average_of} {len(paths)} checkpoints"
    print(f"{run}: {what} in {folder}/model.pt")


def _trainer(
    config: Config, training: Training, folder: Path, monitor: str, kept: ModelCheckpoint
) -> lightning.Trainer:
    options = config.trainer
    devices, nodes = _processes(config)
    callbacks = [
        EarlyStopping(monitor, mode="min", patience=training.patience, check_finite=True),
        Progress(folder / "validation.jsonl"),
        kept,
        LastCheckpoint(folder / "last.ckpt", options.checkpoint_steps, training.epoch_steps),
    ]
    logger = False
    if options.tensorboard:
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError("trainer.tensorboard needs the package tensorboard: install it, or set the key to false")
        logger = TensorBoardLogger(folder, name="tensorboard", version="")
        callbacks.append(LearningRateMonitor("step"))
    return lightning.Trainer(
        max_epochs=training.epochs,
        precision=training.precision,
        accelerator=options.accelerator,
        devices=devices,
        num_nodes=nodes,
        # Buffers never change, and devices may have different numbers of validation batches: nothing to exchange there.
        strategy=DDPStrategy(broadcast_buffers=False, find_unused_parameters=options.find_unused_parameters)
        if devices * nodes != 1
        else "auto",
        logger=logger,
        log_every_n_steps=options.curve_steps,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def _processes(config: Config) -> tuple[int, int]:
    """Devices of a machine, and machines: as torchrun or srun has started them, else the conf's."""
    if torch.distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        return devices, int(os.environ["WORLD_SIZE"]) // devices
    if SLURMEnvironment.detect():
        nodes = int(os.environ["SLURM_NNODES"])
        return int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return config.trainer.devices, config.trainer.nodes


def _kept_checkpoints(training: Training, folder: Path, monitor: str) -> ModelCheckpoint:
    """The checkpoints whose mean is the finished model."""
    if training.average_of not in ("best", "last"):
        raise UserError(f"average_of must be best or last, not {training.average_of!r}")
    monitor, mode = (monitor, "min") if training.average_of == "best" else ("step", "max")
    return ModelCheckpoint(
        dirpath=folder / "kept",
        filename="{step}",
        monitor=monitor,
        mode=mode,
        save_top_k=training.average,
        enable_version_counter=False,
    )


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


class LastCheckpoint(Checkpoint):
    """Keeps the checkpoint from which a run goes on: after each validation and every ``steps`` steps in between."""

    def __init__(self, path: Path, steps: int | None, epoch_steps: int):
        self.path, self.steps, self.epoch_steps = path, steps, epoch_steps

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        step = trainer.global_step
        if self.steps and step % self.steps == 0 and step % self.epoch_steps:  # before a validation, it would skip that
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer, module) -> None:
        trainer.save_checkpoint(self.path)


class Progress(Callback):
    """Prints steps, losses, measures and the time left at each validation, and adds them to a file of JSON lines."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_start(self, trainer, module) -> None:
        self.start, self.first_step = time.monotonic(), trainer.global_step

    def on_validation_end(self, trainer, module) -> None:
        if not trainer.is_global_zero:
            return
        training = module.training_config
        steps = training.epochs * training.epoch_steps
        each = (time.monotonic() - self.start) / max(1, trainer.global_step - self.first_step)
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if not k.startswith("lr-")}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as stream:
            stream.write(json.dumps({"step": trainer.global_step, **values}) + "\n")
        shown = ", ".join(f"{k} {v:.3f}" if k.startswith("loss") else f"{k} {v:.2f} %" for k, v in values.items())
        left = each * (steps - trainer.global_step)
        print(f"  {module.run}, step {trainer.global_step}/{steps}: {shown}; {left / 60:.1f} min left", flush=True)


def _tokens(config: Config, run: str) -> Tokens:
    """Those of the lang directory; the filter's network, which is trained before it is made, writes none."""
    if run == "filter" or config.lang == "char":
        return CharTokens()
    return read_tokens(lang_directory(config.data_dir, config.lang))


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
