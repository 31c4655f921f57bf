"""Stage 2, second half: separate the vocals of every song, and store mixture and vocals as 16 kHz mono FLAC.

Reads the song corpora's manifests; writes ``<data_dir>/audio/<corpus>/<song>/{mixture,vocals}.flac`` and whole songs as
``<data_dir>/songs/<corpus>_<split>.jsonl.gz`` (cuts of the mixture, with the custom recording ``vocals``). A song
is separated again only when its source, the model or the settings have changed.

Several machines can share the work before that: each separates its songs and writes no cuts. On a cluster:

    srun bash -c 'python local/separate.py --conf conf/paper.yaml --shard $SLURM_PROCID --num-shards $SLURM_NTASKS'

Then this program (or stage 2) without ``--shard`` finds the songs done, and writes the cuts of all of them.
"""

import functools
import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from altpo_model.audio_files import SHORTFALL_SECONDS, BrokenAudio, audio_blocks
from altpo_model.config import LYRICS_CORPORA, PITCH_CORPORA, Config, Separation, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.separation import MODEL_FILES, VocalSeparator, load_separator, separate_stream
from manifests import LeftOut, Report
from parallel import parallel_map

SONG_SPLITS = {
    **dict.fromkeys(LYRICS_CORPORA, ["all"]),
    **dict.fromkeys(PITCH_CORPORA, ["train", "test"]),
    "jamendo": ["test"],
}

_STAMP = "separated.json"  # in the song's folder, written last
_BLOCK_SECONDS = 10


@dataclass(frozen=True)
class Separated:
    """A song's two signals on disk, and whether this run made them."""

    mixture: Recording
    vocals: Recording
    fresh: bool


def separate_song(
    recording: Recording, folder: Path, separation: Separation, model_mark: str, separator: VocalSeparator
) -> Separated:
    """Write ``mixture.flac`` and ``vocals.flac`` into ``folder``, unless they are there for the same source and model.

    model_mark: changes when the model does (see `model_mark`). Raises BrokenAudio.
    """
    source = Path(recording.sources[0].source)
    paths = {name: folder / f"{name}.flac" for name in ("mixture", "vocals")}
    stamp = _stamp(source, separation, model_mark)
    fresh = not (_stamp_of(folder) == stamp and all(path.is_file() for path in paths.values()))
    if fresh:
        (folder / _STAMP).unlink(missing_ok=True)
        with (
            write_atomically(paths["mixture"]) as mixture_path,
            write_atomically(paths["vocals"]) as vocals_path,
            _flac(mixture_path, separation.sample_rate) as mixture_file,
            _flac(vocals_path, separation.sample_rate) as vocals_file,
        ):
            for mixture, vocals in separate_stream(
                _blocks(source, recording),
                recording.sampling_rate,
                separator,
                separation.chunk_seconds,
                separation.overlap_seconds,
                separation.sample_rate,
            ):
                mixture_file.write(mixture.clamp(-1, 1).numpy())
                vocals_file.write(vocals.clamp(-1, 1).numpy())
        with write_atomically(folder / _STAMP) as temporary:
            temporary.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
    mixture, vocals = (Recording.from_file(path, recording_id=recording.id) for path in paths.values())
    return Separated(mixture, vocals, fresh)


def song_cut(separated: Separated, supervision: SupervisionSegment) -> MonoCut:
    """The whole song as a cut."""
    mixture = separated.mixture
    cut = MonoCut(
        id=mixture.id,
        start=0.0,
        duration=mixture.duration,
        channel=0,
        recording=mixture,
        supervisions=[replace(supervision, channel=0, duration=mixture.duration)],
    )
    cut.vocals = separated.vocals
    return cut


def model_mark(model: str) -> str:
    """A pretrained model's name, or a checksum of the files of a model directory."""
    directory = Path(model).expanduser()
    if not directory.is_dir():
        return model
    checksum = hashlib.sha256()
    for path in sorted(path for path in directory.iterdir() if path.name in MODEL_FILES or path.suffix == ".pth"):
        checksum.update(path.read_bytes())
    return checksum.hexdigest()


def _stamp(source: Path, separation: Separation, mark: str) -> dict:
    try:
        state = source.stat()
    except OSError as error:
        raise BrokenAudio(f"{source}: {error.strerror}") from None
    return {
        "source": str(source),
        "bytes": state.st_size,
        "modified": state.st_mtime_ns,
        "model": mark,
        "chunk_seconds": separation.chunk_seconds,
        "overlap_seconds": separation.overlap_seconds,
        "wiener_iterations": separation.wiener_iterations,
        "sample_rate": separation.sample_rate,
    }


def _stamp_of(folder: Path) -> dict | None:
    try:
        return json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _flac(path: Path, sample_rate: int) -> soundfile.SoundFile:
    return soundfile.SoundFile(path, "w", sample_rate, channels=1, format="FLAC", subtype="PCM_16")


def _blocks(source: Path, recording: Recording) -> Iterator[torch.Tensor]:
    """The audio of a file in blocks of (channels, samples). Raises BrokenAudio when it ends early or is no audio."""
    read = 0
    for samples in audio_blocks(source, _BLOCK_SECONDS):
        read += samples.shape[1]
        yield samples
    if recording.num_samples - read > SHORTFALL_SECONDS * recording.sampling_rate:
        raise BrokenAudio(f"ends at {read / recording.sampling_rate:.1f} of {recording.duration:.1f} s")


@functools.cache
def _separator(model: str, wiener_iterations: int) -> VocalSeparator:
    """The separator of this process, which computes in one thread: songs are what is done in parallel."""
    torch.set_num_threads(1)
    return load_separator(model, wiener_iterations, "cuda" if torch.cuda.is_available() else "cpu")


def _separate(recording: Recording, folder: Path, separation: Separation, mark: str) -> Separated | LeftOut:
    separator = _separator(separation.model, separation.wiener_iterations)
    try:
        return separate_song(recording, folder / recording.id, separation, mark, separator)
    except BrokenAudio as error:
        return LeftOut("broken audio", str(error))


def _song_sets(config: Config) -> Iterator[tuple[str, str, RecordingSet, SupervisionSet]]:
    """Corpus, split, recordings, supervisions of every song corpus of the run."""
    for corpus, splits in SONG_SPLITS.items():
        if getattr(config.corpora, corpus) is None:
            continue
        for split in splits:
            folder = Path(config.data_dir) / "manifests"
            paths = [folder / f"{corpus}_{kind}_{split}.jsonl.gz" for kind in ("recordings", "supervisions")]
            for path in paths:
                if not path.is_file():
                    raise UserError(f"{path}: no such manifest; run stage 1 first (local/prepare_{corpus}.py)")
            yield corpus, split, RecordingSet.from_file(paths[0]), SupervisionSet.from_file(paths[1])


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--shard", type=int, default=0, help="separate the songs of this shard alone, counted from 0")
    parser.add_argument("--num-shards", type=int, default=1, help="of how many (default: %(default)s)")
    arguments = parser.parse_args()
    if not 0 <= arguments.shard < arguments.num_shards:
        raise UserError(f"--shard {arguments.shard} is not one of {arguments.num_shards}: they count from 0")
    config = config_from(arguments)
    separation = config.separation
    started = time.monotonic()
    report = Report("separation")
    fresh_seconds = 0.0
    sets = list(_song_sets(config))
    _separator(separation.model, separation.wiener_iterations)  # a model that cannot be loaded ends the run here
    mark = model_mark(separation.model)
    jobs = max(1, min(config.jobs, sum(len(recordings) for _, _, recordings, _ in sets)))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for corpus, split, recordings, supervisions in sets:
            songs = list(recordings)[arguments.shard :: arguments.num_shards]
            separate = functools.partial(
                _separate, folder=Path(config.data_dir) / "audio" / corpus, separation=separation, mark=mark
            )
            executor = pool if jobs > 1 else None
            results = parallel_map(separate, songs, f"separation of {corpus} {split}", jobs, executor)
            by_song = {supervision.recording_id: supervision for supervision in supervisions}
            cuts = []
            for song, result in zip(songs, results, strict=True):
                if isinstance(result, LeftOut):
                    report.leave_out(song.id, result)
                    continue
                cuts.append(song_cut(result, by_song[song.id]))
                fresh_seconds += song.duration * result.fresh
            report.splits[f"{corpus} {split}"] = (len(cuts), sum(cut.duration for cut in cuts), 0)
            if arguments.num_shards > 1:
                continue
            if not cuts:
                raise UserError(f"{corpus} {split}: no song could be separated. {report.summary()}")
            with write_atomically(Path(config.data_dir) / "songs" / f"{corpus}_{split}.jsonl.gz") as temporary:
                CutSet.from_cuts(cuts).to_file(temporary)
    seconds = time.monotonic() - started
    print(f"{report.summary()} {fresh_seconds / 60:.1f} minutes of audio separated in {seconds:.0f} s, the rest kept.")


if __name__ == "__main__":
    main()
