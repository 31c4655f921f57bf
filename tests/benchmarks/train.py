"""A training step of the paper's multi-task system: the recipe's own against the paper's text written down in torch.

    python tests/benchmarks/train.py                  # conf/paper.yaml, two threads; a GPU where there is one
    python tests/benchmarks/train.py --sweep          # how time and memory grow with T and with B

A step is all that training does for a batch: reading FLAC (song: vocals and mixture), features, both networks, losses,
gradients, clipping, Adam. Both sides read the same clips in the same order, start from the same weights, and are
processes of their own that take their steps in turn; medians of ``--rounds`` are printed. `plain.py` is the other side:
librosa's log-mel on the host, one clip at a time, and torch's own layers in the usual way. As the recipe also sets how
the C library keeps freed memory (recipe/allocator.py), which any script could do, the plain side runs twice, without
and with that. tests/test_training_step.py shows that both compute the same step.

CPU time is the time of all threads of a side. On a machine that runs other programs it says more than wall time. Needs
librosa, which the recipe does not: pip install librosa.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem
from torch.utils.flop_counter import FlopCounterMode

from altpo_model.config import Config, argument_parser, config_from
from altpo_model.errors import exits_cleanly
from altpo_model.model import JointModel, Share
from altpo_model.notes import frame_targets
from altpo_model.tokens import CharTokens
from recipe.allocator import keep_freed_memory
from recipe.data import SegmentDataset, is_song, load_cuts, notes_of, training_loader
from recipe.training_module import TrainingModule

PARTS = ("loading", "features", "pitch and onset", "lyrics", "losses", "backward", "optimiser")
MANIFEST = 2000  # cuts in a manifest, of as many recordings as a batch has; the sampler looks at the first thousands
WORDS = ("stay", "away", "tonight", "my", "love")


@dataclass
class Setting:
    """What both sides are given."""

    config: Config
    clips: int  # B
    threads: int
    device: str
    compile: bool
    channels_last: bool

    @property
    def songs(self) -> int:
        return int(self.clips * self.config.song_training.song_share) or 1


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    gpu = torch.cuda.is_available()
    parser.add_argument("--clips", type=int, default=16 if gpu else 5, help="B, songs and speech 4:1; %(default)s")
    parser.add_argument("--frames", type=int, default=1000, help="T of a clip")
    parser.add_argument(
        "--speech-frames", type=int, help="T of the speech clips, where shorter: ours masks, plain cannot"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile of our networks")
    parser.add_argument("--channels-last", action="store_true", help="our convolutions' memory, channels last")
    parser.add_argument("--sweep", action="store_true", help="time and memory of steps by T and B")
    parser.set_defaults(conf="conf/paper.yaml")
    arguments = parser.parse_args()
    config = config_from(arguments)
    config.song_training.start_lyrics = False
    config.song_training.workers = 0
    torch.set_num_threads(arguments.threads)
    # Threads that wait for work spin by default, which takes the cores of whatever else runs, the other side included.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    device = "cuda" if gpu else "cpu"
    options = arguments.threads, device, arguments.compile, arguments.channels_last
    with tempfile.TemporaryDirectory() as folder:
        if arguments.sweep:
            sweep(config, Path(folder), options)
            return
        setting = Setting(write_corpus(config, Path(folder), arguments), arguments.clips, *options)
        compare(setting, arguments)


def compare(setting: Setting, arguments: argparse.Namespace) -> None:
    shorter = arguments.speech_frames and arguments.speech_frames < arguments.frames
    sides = {"ours": Side(Ours, setting, True)}
    if not shorter:
        sides = {"plain": Side(Plain, setting, False), "plain, freed memory kept": Side(Plain, setting, True), **sides}
    steps = {name: [] for name in sides}
    for number in range(arguments.rounds + 1):  # the first one warms up
        for name, side in sides.items():
            steps[name].append(side.step())
            print(
                f"  round {number}, {name}: {steps[name][-1]['wall']:.2f} s, CPU {steps[name][-1]['cpu']:.2f} s",
                flush=True,
            )
    peaks = {name: side.stop() for name, side in sides.items()}
    rate = matrix_rate(setting.device)
    work = step_flops(setting.config, arguments.frames) * setting.clips
    print(f"\n{setting.clips} clips ({setting.songs} songs) of {arguments.frames} frames, {setting.device}, ", end="")
    print(f"{setting.threads} threads, {setting.config.song_training.precision}")
    print(f"{'':26}wall s  CPU s  GFLOP/s  peak GB   ours is faster: wall, CPU")
    ours = {kind: statistics.median(step[kind] for step in steps["ours"][1:]) for kind in ("wall", "cpu")}
    for name in sides:
        wall, cpu = (statistics.median(step[kind] for step in steps[name][1:]) for kind in ("wall", "cpu"))
        print(f"{name:25}{wall:7.2f}{cpu:7.2f}{work / wall / 1e9:9.0f}{peaks[name] / 1e9:9.2f}", end="")
        print(f"{wall / ours['wall']:14.2f} x {cpu / ours['cpu']:.2f} x")
    print(f"matrix rate {rate / 1e9:.0f} GFLOP/s (fp32, 2048 x 2048)")
    print(f"a clip's step has {work / setting.clips / 1e9:.0f} GFLOP")
    print("parts of ours, " + ("ms of CPU time:" if setting.device == "cpu" else "ms:"))
    for part in PARTS:
        print(f"  {part:18}{1000 * statistics.median(step['parts'][part] for step in steps['ours'][1:]):8.0f}")


def sweep(config: Config, folder: Path, options: tuple) -> None:
    """One side at a time in a fresh process, because a process's peak memory never falls."""
    print(f"{'B':>3}{'T':>6}  {'side':26}wall s  CPU s  peak GB")
    sizes = [(1, 250), (1, 500), (1, 1000), (1, 2000), (2, 1000), (4, 1000)]
    for clips, frames in sizes if options[1] == "cpu" else [(16 * b, t) for b, t in sizes]:
        arguments = argparse.Namespace(clips=clips, frames=frames, speech_frames=None)
        setting = Setting(write_corpus(config, folder / f"{clips}-{frames}", arguments), clips, *options)
        for name, kind, kept in (("plain, freed memory kept", Plain, True), ("ours", Ours, True)):
            side = Side(kind, setting, kept)
            last = [side.step() for _ in range(3)][1:]
            wall, cpu = (min(step[key] for step in last) for key in ("wall", "cpu"))
            print(f"{clips:3}{frames:6}  {name:26}{wall:6.2f}{cpu:7.2f}{side.stop() / 1e9:9.2f}", flush=True)


class Side:
    """A process that takes steps when told to."""

    def __init__(self, kind: type, setting: Setting, keeps_memory: bool):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, kind, setting, keeps_memory))
        self.process.start()
        other.close()
        self.pipe.recv()  # it is ready

    def step(self) -> dict:
        self.pipe.send(True)
        return self.pipe.recv()

    def stop(self) -> int:
        """Gives the peak memory of its steps in bytes; on a CPU, over what the process had before the first."""
        self.pipe.send(False)
        peak = self.pipe.recv()
        self.process.join()
        return peak


def _serve(pipe, kind: type, setting: Setting, keeps_memory: bool) -> None:
    if keeps_memory:
        keep_freed_memory()
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    side = kind(setting)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send("ready")
    while pipe.recv():
        clock = Clock(setting.device)
        side.step(clock)
        pipe.send(clock.result())
    on_gpu = setting.device == "cuda"
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    pipe.send(torch.cuda.max_memory_allocated() if on_gpu else 1024 * kilobytes)


class Clock:
    """Wall and CPU time of a step, and of its parts: CPU time on a CPU, time between synchronisations on a GPU."""

    def __init__(self, device: str):
        self.device = device
        self.parts = dict.fromkeys(PARTS, 0.0)
        self.last = self._now()
        self.start = time.perf_counter(), time.process_time()

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def ends(self, part: str) -> None:
        """What has passed since the last call, or the start, is of this part."""
        now = self._now()
        self.parts[part] += now - self.last
        self.last = now

    def result(self) -> dict:
        self._now()
        wall, cpu = time.perf_counter() - self.start[0], time.process_time() - self.start[1]
        return {"wall": wall, "cpu": cpu, "parts": self.parts}


class Ours:
    """The recipe's loader, module, losses and optimiser, as Lightning calls them."""

    def __init__(self, setting: Setting):
        self.training = setting.config.song_training
        self.module = TrainingModule(setting.config, "multitask", CharTokens()).to(setting.device).train()
        if setting.channels_last:
            self.module.to(memory_format=torch.channels_last)
        self.optimizer = self.module.configure_optimizers()["optimizer"]
        self.device = torch.device(setting.device)
        self.batches = iter(_loader(setting))
        model = self.module.model
        for part, network in (
            ("features", model.features),
            ("pitch and onset", model.pitch_onset),
            ("lyrics", model.lyrics),
        ):
            network.register_forward_hook(lambda *_, part=part: self.clock.ends(part))
        if setting.compile:
            model.pitch_onset.compile()
            model.lyrics.compile()

    def step(self, clock: Clock) -> None:
        self.clock = clock
        [batch] = self.module.transfer_batch_to_device(next(self.batches), self.device, 0)
        clock.ends("loading")
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled="bf16" in self.training.precision):
            loss = self.module.part_losses(batch, Share())["loss"]
        clock.ends("losses")
        loss.backward()
        clock.ends("backward")
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.training.gradient_clip)
        self.optimizer.step()
        clock.ends("optimiser")


class Plain:
    """The paper's text in torch and librosa; see plain.py."""

    def __init__(self, setting: Setting):
        import plain

        self.plain = plain
        self.config = setting.config
        self.device = setting.device
        self.tokens = CharTokens()
        self.model = plain.PlainModel(setting.config, len(self.tokens))
        ours = JointModel(setting.config.model, setting.config.features, len(self.tokens), "multitask")
        self.model.copy_weights(ours)
        self.model.to(setting.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), setting.config.song_training.learning_rate)
        self.batches = iter(_loader(setting).sampler)

    def step(self, clock: Clock) -> None:
        [cuts] = next(self.batches)
        files = [(_file(cut.vocals) if is_song(cut) else None, _file(cut.recording)) for cut in cuts]
        features = np.stack([self.plain.read_clip(*pair, self.config.features) for pair in files])
        hop_seconds = self.config.features.hop / self.config.features.sample_rate
        notes = [notes_of(cut.supervisions[0], cut.start) for cut in cuts]
        pitch, onset = zip(*(frame_targets(n, features.shape[-1], hop_seconds) for n in notes), strict=True)
        texts = [torch.tensor(self.tokens.encode(cut.supervisions[0].text)) for cut in cuts]
        batch = {
            "features": torch.from_numpy(features),
            "is_song": torch.tensor([is_song(cut) for cut in cuts]),
            "pitch": torch.from_numpy(np.stack(pitch)),
            "onset": torch.from_numpy(np.stack(onset)),
            "tokens": torch.nn.utils.rnn.pad_sequence(texts, batch_first=True),
            "num_tokens": torch.tensor([len(text) for text in texts]),
        }
        batch = {name: value.to(self.device) for name, value in batch.items()}
        self.plain.step(self.model, self.optimizer, [batch], self.config.song_training)


def _loader(setting: Setting):
    config, training = setting.config, setting.config.song_training
    training.batch_size = setting.clips
    dataset = SegmentDataset(CharTokens(), config.features.sample_rate, config.features.hop)
    songs = load_cuts(config, "songs")
    speech = load_cuts(config, "speech") if setting.clips > setting.songs else None
    return training_loader(songs, speech, dataset, training, config.seed)


def _file(recording: Recording) -> str:
    return recording.sources[0].source


def write_corpus(config: Config, folder: Path, arguments: argparse.Namespace) -> Config:
    """The conf with ``data_dir`` in ``folder``, where FLAC files of noisy tones and their cuts are."""
    songs = int(arguments.clips * config.song_training.song_share) or 1
    (folder / "cuts").mkdir(parents=True)
    for name, count, frames in (
        ("songs", songs, arguments.frames),
        ("speech", arguments.clips - songs, arguments.speech_frames or arguments.frames),
    ):
        seconds = frames * config.features.hop / config.features.sample_rate
        cuts = [_write_cut(folder, f"{name}-{i}", seconds, config.features.sample_rate, i) for i in range(count)]
        copies = [cut.with_id(f"{cut.id}-{i}") for i in range(MANIFEST // max(1, count)) for cut in cuts]
        CutSet.from_cuts(copies).to_file(folder / "cuts" / f"{name}.jsonl.gz")
    return replace(config, data_dir=str(folder))


def _write_cut(folder: Path, name: str, seconds: float, rate: int, seed: int) -> MonoCut:
    """Two notes and two words a second; with vocals where the name is a song's."""
    random = np.random.default_rng(seed)
    starts = np.arange(0.0, seconds - 0.5, 0.5)
    pitches = random.integers(50, 75, len(starts))
    words = random.choice(WORDS, len(starts))
    frequencies = np.repeat(440 * 2.0 ** ((pitches - 69) / 12), rate // 2)
    samples = round(seconds * rate)
    phase = 2 * np.pi * np.cumsum(np.pad(frequencies, (0, samples - len(frequencies)), "edge")) / rate
    vocals = 0.2 * np.sin(phase) + 0.1 * np.sin(2 * phase) + 0.002 * random.standard_normal(samples)
    signals = {"mixture": vocals + 0.05 * random.standard_normal(samples)}
    is_of_song = name.startswith("songs")
    if is_of_song:
        signals["vocals"] = vocals
    recordings = {}
    for kind, signal in signals.items():
        path = folder / f"{name}-{kind}.flac"
        soundfile.write(path, signal.astype(np.float32), rate)
        recordings[kind] = Recording.from_file(path, recording_id=name)
    notes = [AlignmentItem(str(p), float(start), 0.4) for p, start in zip(pitches, starts, strict=True)]
    supervision = SupervisionSegment(
        name, name, 0.0, seconds, text=" ".join(words), alignment={"note": notes} if is_of_song else None
    )
    custom = {"vocals": recordings["vocals"]} if is_of_song else None
    return MonoCut(
        name, 0.0, recordings["mixture"].duration, 0, [supervision], recording=recordings["mixture"], custom=custom
    )


def matrix_rate(device: str, size: int = 2048) -> float:
    """The best of ten products of square float32 matrices, in FLOP/s."""
    a = torch.randn(size, size, device=device)
    clocks = []
    for _ in range(10):
        clocks.append(_seconds(lambda: a @ a, device))
    return 2 * size**3 / min(clocks)


def _seconds(work: Callable, device: str) -> float:
    clock = Clock(device)
    work()
    return clock.result()["wall"]


def step_flops(config: Config, frames: int, counted: int = 50) -> float:
    """Of a clip's step, counted by torch over ``counted`` frames, to which it is proportional.

    On a CPU without oneDNN, whose LSTM the counter does not know.
    """
    warnings.filterwarnings("ignore", message="TF32 acceleration")  # of the switch of oneDNN itself
    model = JointModel(config.model, config.features, len(CharTokens()), "multitask").train()
    features, lengths = torch.randn(1, 2, config.features.mel_bins, counted), torch.tensor([counted])
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        logits, *_ = model.pitch_onset({"features": features}, lengths)
        conditions = logits.softmax(dim=2).transpose(1, 2)
        model.lyrics({"features": features}, lengths, conditions)[0].sum().backward()
    return counter.get_total_flops() * frames / counted


if __name__ == "__main__":
    main()
