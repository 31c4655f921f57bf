"""Cuts -> batches: what training and decoding read."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import lightning
import numpy as np
import torch
from lhotse import CutSet, SupervisionSegment, load_manifest_lazy
from lhotse.audio import AudioLoadingError, DurationMismatchError
from lhotse.cut import Cut
from lhotse.dataset.sampling import SimpleCutSampler
from torch.utils.data import DataLoader, Dataset

from altpo_model.config import Config, Training
from altpo_model.errors import UserError
from altpo_model.lang import Tokens
from altpo_model.model import Batch
from altpo_model.notes import NO_PITCH, Note, frame_targets
from recipe.sampling import JointSampler


class SegmentDataset(Dataset):
    """Lhotse's map from the cuts of a batch to (`Batch`, cuts).

    Channel 0 is ``cut.vocals``, channel 1 the cut's own recording; a cut without ``vocals`` is speech, in both.
    """

    def __init__(self, tokens: Tokens, sample_rate: int, hop: int):
        self.tokens = tokens
        self.sample_rate = sample_rate
        self.hop = hop

    def __getitem__(self, cuts: Iterable[Cut]) -> tuple[Batch, list[Cut]]:
        cuts = list(cuts)
        signals = [self._signals(cut) for cut in cuts]
        num_samples = torch.tensor([signal.shape[1] for signal in signals])
        num_frames = (num_samples // self.hop).clamp(min=1)
        texts = [torch.tensor(self.tokens.encode(cut.supervisions[0].text or ""), dtype=torch.long) for cut in cuts]
        pitch = torch.full((len(cuts), int(num_frames.max())), NO_PITCH)
        onset = torch.zeros(pitch.shape)
        for i, cut in enumerate(cuts):
            targets = frame_targets(
                notes_of(cut.supervisions[0], cut.start), int(num_frames[i]), self.hop / self.sample_rate
            )
            pitch[i, : num_frames[i]], onset[i, : num_frames[i]] = map(torch.from_numpy, targets)
        waveforms = torch.zeros(len(cuts), 2, int(num_samples.max()))
        for i, signal in enumerate(signals):
            waveforms[i, :, : signal.shape[1]] = torch.from_numpy(signal)
        batch = Batch(
            waveforms=waveforms,
            num_samples=num_samples,
            is_song=torch.tensor([is_song(cut) for cut in cuts]),
            tokens=torch.nn.utils.rnn.pad_sequence(texts, batch_first=True),
            num_tokens=torch.tensor([len(text) for text in texts]),
            pitch=pitch,
            onset=onset,
        )
        return batch, cuts

    def _signals(self, cut: Cut) -> np.ndarray:
        """(2, N) float32."""
        if cut.sampling_rate != self.sample_rate:
            raise UserError(f"cut {cut.id}: {cut.sampling_rate} Hz, but features.sample_rate is {self.sample_rate}")
        try:
            mixture = cut.load_audio()
            vocals = cut.load_vocals() if is_song(cut) else mixture
        except (AudioLoadingError, DurationMismatchError) as error:
            where = cut.recording.sources[0].source
            raise UserError(f"cut {cut.id}: {where} or its vocals cannot be read; run stages 1 to 4 again") from error
        length = min(mixture.shape[1], vocals.shape[1])
        return np.concatenate([vocals[:, :length], mixture[:, :length]])


def is_song(cut: Cut) -> bool:
    """Whether the cut has separated vocals; speech has none."""
    return cut.has_custom("vocals")


def notes_of(supervision: SupervisionSegment, cut_start: float) -> list[Note]:
    """The notes of a supervision, in the time of a cut that starts at ``cut_start`` of the recording.

    In Lhotse, alignments are in the time of the recording, those of a cut's supervisions too.
    """
    items = (supervision.alignment or {}).get("note", [])
    return [Note(item.start - cut_start, item.end - cut_start, int(item.symbol)) for item in items]


def load_cuts(config: Config, name: str) -> CutSet:
    """The segments ``data_dir/cuts/<name>.jsonl.gz`` or, for training where ``trainer.shar`` is set, their shards."""
    if config.trainer.shar and name.endswith("_train"):
        if not shar_path(config, name).is_dir():
            raise UserError(f"{shar_path(config, name)}: no such folder; make it with recipe/export_shar.py")
        return CutSet.from_shar(in_dir=shar_path(config, name))
    path = cuts_path(config, name)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run stage 4, which makes it")
    return load_manifest_lazy(path)


def joined_cuts(config: Config, corpora: tuple[str, ...], part: str) -> CutSet:
    """The segments of one part of all of these corpora that are in the run, mixed in proportion to their numbers."""
    names = [f"{corpus}_{part}" for corpus in corpora if getattr(config.corpora, corpus)]
    sets = [load_cuts(config, name) for name in names if cuts_path(config, name).is_file()]
    if not sets:
        wanted = " or ".join(f"{corpus}_{part}" for corpus in corpora)
        raise UserError(f"{config.data_dir}/cuts: no {wanted}; set a corpus and its split so that stage 4 makes it")
    if len(sets) == 1:
        return sets[0]
    return CutSet.mux(*sets, weights=[len(cuts) for cuts in sets], seed=config.seed)


def filter_rows(config: Config) -> dict[str, dict[str, float]]:
    """{song: {"best_offset", "best_res", "sec_best_res"}} of the filter: rows of the conf's table and of the scan."""
    rows = {}
    for path in (config.filter.table, Path(config.data_dir) / "filter" / "table.csv"):
        if path and Path(path).is_file():
            with Path(path).open(newline="", encoding="utf-8-sig") as stream:
                for row in csv.DictReader(stream):
                    song = row.pop("")
                    rows[song] = {column: float(value) for column, value in row.items()}
    return rows


def cuts_path(config: Config, name: str) -> Path:
    return Path(config.data_dir) / "cuts" / f"{name}.jsonl.gz"


class TrainingDataset(Dataset):
    """The map from the parts of a batch, as `JointSampler` makes them, to their batches."""

    def __init__(self, segments: SegmentDataset):
        self.segments = segments

    def __getitem__(self, parts: list[list[Cut]]) -> list[tuple[Batch, list[Cut]]]:
        return [self.segments[part] for part in parts]


class SegmentData(lightning.LightningDataModule):
    """A run's segments for training and validation, each device's own part of them.

    The order of the data goes on after the batches that the trainer has done, in a new epoch as after an interruption.
    """

    def __init__(
        self,
        config: Config,
        training: Training,
        tokens: Tokens,
        songs: CutSet | None,
        speech: CutSet | None,
        validation: CutSet,
    ):
        super().__init__()
        self.config, self.training = config, training
        self.songs, self.speech, self.validation = songs, speech, validation
        self.dataset = SegmentDataset(tokens, config.features.sample_rate, config.features.hop)

    def train_dataloader(self) -> DataLoader:
        return training_loader(
            self.songs,
            self.speech,
            self.dataset,
            self.training,
            self.config.seed,
            self.trainer.global_rank,
            self.trainer.world_size,
            lambda: self.trainer.global_step,
            self.config.trainer.prefetch,
        )

    def val_dataloader(self) -> DataLoader:
        seconds = self.config.decoding.max_seconds
        return evaluation_loader(
            self.validation,
            self.dataset,
            seconds,
            self.training.workers,
            self.trainer.global_rank,
            self.trainer.world_size,
        )


def shar_path(config: Config, name: str) -> Path:
    return Path(config.data_dir) / "shar" / name


def training_loader(
    songs: CutSet | None,
    speech: CutSet | None,
    dataset: SegmentDataset,
    training: Training,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    position: Callable[[], int] = lambda: 0,
    prefetch: int = 2,
) -> DataLoader:
    """An epoch of lists of (`Batch`, cuts): the parts of each batch; see `JointSampler`.

    prefetch: batches that each data loading process holds ready.
    """
    return DataLoader(
        TrainingDataset(dataset),
        sampler=JointSampler(songs, speech, training, seed, rank, world_size, position),
        batch_size=None,
        num_workers=training.workers,
        persistent_workers=training.workers > 0,
        prefetch_factor=prefetch if training.workers > 0 else None,
        pin_memory=torch.cuda.is_available(),
    )


def evaluation_loader(
    cuts: CutSet, dataset: SegmentDataset, max_seconds: float, workers: int = 0, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """Each cut once, longest first, (`Batch`, cuts) of up to ``max_seconds`` of padded audio.

    Of several devices, each gets every ``world_size``-th cut. Raises UserError when there are fewer cuts than devices.
    """
    ordered = list(cuts.to_eager().sort_by_duration())
    if len(ordered) < world_size:
        raise UserError(
            f"{len(ordered)} segments cannot be shared by {world_size} devices; take fewer (trainer.devices)"
        )
    own = CutSet.from_cuts(ordered[rank::world_size])
    sampler = SimpleCutSampler(own, max_duration=max_seconds, shuffle=False, world_size=1, rank=0)
    pin = torch.cuda.is_available()
    return DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=workers, pin_memory=pin)
