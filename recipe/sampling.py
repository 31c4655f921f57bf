"""Which segments are in which batch of a training, on which device."""

from collections.abc import Callable, Iterator
from itertools import islice

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset.sampling import DynamicBucketingSampler
from lhotse.dataset.sampling.base import TimeConstraint
from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets
from torch.utils.data import Sampler

from altpo_model.config import Training
from altpo_model.errors import UserError

BUCKETS = 8  # of durations
CUTS_FOR_BUCKETS = 2000  # whose durations say where the buckets' borders are


class JointSampler(Sampler[list[list[Cut]]]):
    """One epoch of shuffled batches of segments of about the same length; of each batch, this device's parts.

    Every device draws the same joint batches and takes its own segments from them, so the order of the data does not
    depend on the number of devices. With songs and speech, each part has the mixture that ``training.song_share`` says.

    songs, speech: one of them may be None.
    rank, world_size: of this device, and how many there are.
    position: tells how many batches have been trained on; the next one, and no other, comes first in an iteration. (The
    sampler cannot know: data loading processes have drawn more batches from it than were trained on.)

    Raises UserError when a batch cannot be divided into parts of the same size.
    """

    def __init__(
        self,
        songs: CutSet | None,
        speech: CutSet | None,
        training: Training,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], int] = lambda: 0,
    ):
        self.epoch_steps = training.epoch_steps
        self.position = position
        self.num_parts = world_size * training.accumulate
        self.own_parts = range(rank, self.num_parts, world_size)
        num_songs = int(training.batch_size * training.song_share)
        if songs is None or speech is None:
            sizes = {"segments": training.batch_size}
        else:
            sizes = {"songs": num_songs, "segments of speech": training.batch_size - num_songs}
        for kind, size in sizes.items():
            if size % self.num_parts:
                raise UserError(
                    f"a batch has {size} {kind}, which {world_size} devices x {training.accumulate} parts cannot share "
                    "evenly; change batch_size, song_share, accumulate or trainer.devices"
                )
            if training.shuffle_buffer <= BUCKETS * (size - 1):  # no bucket might hold a whole batch
                raise UserError(
                    f"shuffle_buffer is {training.shuffle_buffer}; for {size} {kind} a batch it must be over "
                    f"{BUCKETS * (size - 1)}"
                )
        sources = [cuts for cuts in (songs, speech) if cuts is not None]
        self.streams = [_Stream(cuts, size, training, seed) for cuts, size in zip(sources, sizes.values(), strict=True)]

    def __len__(self) -> int:
        return self.epoch_steps

    def __iter__(self) -> Iterator[list[list[Cut]]]:
        epoch, done = divmod(self.position(), self.epoch_steps)
        batches = zip(*(stream.batches(epoch) for stream in self.streams), strict=True)
        for batch in islice(batches, done, self.epoch_steps):
            yield [
                [cut for cuts in batch for cut in islice(cuts, part, None, self.num_parts)] for part in self.own_parts
            ]


class _Stream:
    """Batches of ``size`` cuts from a set that is read over and over.

    Each epoch's buckets are filled anew, from where the set was left at the end of the epoch before: any epoch can be
    drawn without those before it, and all of a large set is read in the end.
    """

    def __init__(self, cuts: CutSet, size: int, training: Training, seed: int):
        self.cuts, self.size, self.buffer, self.seed = cuts, size, training.shuffle_buffer, seed
        self.length = len(cuts)
        self.cuts_an_epoch = training.epoch_steps * size + self.buffer
        self.place, self.reader = 0, iter(())
        sample = islice(cuts.repeat(), max(BUCKETS, min(self.length, CUTS_FOR_BUCKETS)))
        self.borders = estimate_duration_buckets(sample, BUCKETS, TimeConstraint(max_cuts=size))

    def batches(self, epoch: int) -> Iterator[CutSet]:
        start = epoch * self.cuts_an_epoch % self.length
        if self.place % self.length > start:
            start += self.length  # after the end of this reading
        for _ in range(start - self.place % self.length):
            next(self)
        sampler = DynamicBucketingSampler(
            self,
            max_cuts=self.size,
            shuffle=True,
            duration_bins=self.borders,
            buffer_size=self.buffer,
            seed=self.seed,
            world_size=1,
            rank=0,
        )
        sampler.set_epoch(epoch)  # changes the order
        return iter(sampler)

    def __iter__(self) -> Iterator[Cut]:
        return self

    def __next__(self) -> Cut:
        if self.place % self.length == 0:
            self.reader = iter(self.cuts)
        self.place += 1
        return next(self.reader)
