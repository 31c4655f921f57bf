"""Align given lyrics: when each word of a song is sung, by forced alignment of the whole song at once.

    python -m recipe.align song.mp3 lyrics.txt --output song.lrc
    python -m recipe.align --corpus jamendo --conf conf/mini.yaml

One song: LYRICS is plain text, a line a line; lines such as [Chorus] are not sung and are left out. What is written
goes by the output's suffix: .json (lines and words with times and confidence), .lrc (enhanced LRC, with the times of
words) or .txt (a word a line: start, end, confidence, word; an empty line between lines). Times are in seconds.

A corpus: every song of data_dir/songs/<corpus>_*.jsonl.gz with its own text. Writes into
exp_dir/alignments/<system>: <corpus>.jsonl.gz, a Lhotse SupervisionSet (words with times, their confidence as score;
custom fields alignment_score, unexplained and fits), and <corpus>.json (the table). Songs stand by alignment score, the
worst first: below alignment.min_score the lyrics do not fit the audio.

Where the corpus has times, the starts of words are compared as mir_eval.alignment does: median and average absolute
error of a song in seconds, words at most 0.3 s off in %, and words more than 1 s off in %; "mean" is the mean of the
songs, "all words" counts each word once.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mir_eval
import numpy as np
import torch
from lhotse import CutSet, SupervisionSegment, SupervisionSet, load_manifest_lazy
from lhotse.audio import AudioLoadingError, DurationMismatchError
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem
from torch import Tensor
from tqdm import tqdm

from altpo_model.audio_files import AudioInfo, BrokenAudio, audio_blocks, check_audio
from altpo_model.checkpoint import load_model
from altpo_model.config import Alignment, Config, argument_parser, config_from
from altpo_model.decoding.align import AlignedLyrics, Aligner
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.posteriors import song_log_probs
from altpo_model.separation import load_separator, separate_stream
from recipe.inference import trained_systems

SYSTEMS = ("multitask", "baseline")
WITHIN = 0.3  # seconds; mir_eval's default
FAR = 1.0  # seconds
_ERRORS = {"median": "median s", "average": "average s", "within": f"% within {WITHIN} s", "far": f"% over {FAR} s"}

_BLOCK_SECONDS = 10
_SECTION = re.compile(r"\s*\[[^\]]*\]\s*")  # [Chorus], [Verse 2]


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("audio", nargs="?", type=Path)
    parser.add_argument("lyrics", nargs="?", type=Path)
    parser.add_argument("--output", type=Path, help=".json, .lrc or .txt (default: print)")
    parser.add_argument("--language", help="what numbers in the lyrics are sung in (default: English)")
    parser.add_argument("--separator", help="an Open-Unmix (default: the conf's separation.model)")
    parser.add_argument("--model", type=Path, help="of one song (default: model.pt of the system of the conf's run)")
    parser.add_argument("--corpus", help="align the whole songs of this corpus")
    parser.add_argument("--system", choices=SYSTEMS, default="multitask", help="(default: %(default)s)")
    parser.add_argument("--star", action="store_true", help="the audio may have words between lines that LYRICS lacks")
    arguments = parser.parse_args()
    if arguments.corpus and (arguments.audio or arguments.model or arguments.output):
        parser.error("--corpus NAME goes without AUDIO and LYRICS, --model and --output")
    if not arguments.corpus and not arguments.lyrics:
        parser.error("give AUDIO and LYRICS, or --corpus NAME")
    if arguments.output and arguments.output.suffix not in FORMATS:
        parser.error(f"--output {arguments.output}: its suffix must be one of {', '.join(FORMATS)}")
    config = config_from(arguments)
    if config.threads:
        torch.set_num_threads(config.threads)
    options = config.alignment
    options.star = options.star or arguments.star
    network = LyricsNetwork(arguments.model or trained_systems(config) / arguments.system / "model.pt", options)
    if arguments.corpus:
        align_corpus(config, network, arguments.corpus, arguments.system)
        return
    lines = read_lyrics(arguments.lyrics)
    config.separation.model = arguments.separator or config.separation.model
    waveforms = separated(arguments.audio, config, network.sample_rate)
    try:
        aligned = network.align(waveforms, lines, arguments.language)
    except UserError as error:
        raise UserError(f"{arguments.lyrics}: {error}") from None
    _tell(aligned, options)
    if arguments.output:
        with write_atomically(arguments.output) as temporary:
            temporary.write_text(FORMATS[arguments.output.suffix](aligned), encoding="utf-8")
    else:
        print(as_text(aligned), end="")


class LyricsNetwork:
    """A trained model, on the GPU if there is one, that aligns lyrics."""

    def __init__(self, path: Path, options: Alignment):
        model, tokens, features = load_model(path)
        if model.system not in SYSTEMS:  # the oracle needs notes, pitch_onset has no lyrics network
            raise UserError(f"{path}: the system {model.system} cannot align lyrics; take {' or '.join(SYSTEMS)}")
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.aligner = Aligner(tokens, options)
        self.sample_rate = features.sample_rate
        self.frame_seconds = model.lyrics.encoder.subsampling * features.hop / features.sample_rate

    def align(self, waveforms: Tensor, lines: list[list[str]], language: str | None = None) -> AlignedLyrics:
        """``waveforms``: (2, N) vocals and mixture. Raises UserError (see `Aligner.align`)."""
        return self.aligner.align(song_log_probs(self.model, waveforms), lines, self.frame_seconds, language)


def read_lyrics(path: Path) -> list[list[str]]:
    """The words of each line of a text file, sections' names left out. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise UserError(f"{path}: the lyrics cannot be read: {reason}") from None
    lines = [line.split() for line in text.strip().splitlines() if not _SECTION.fullmatch(line)]
    if not any(lines):
        raise UserError(f"{path}: the lyrics are empty")
    return lines


def separated(path: Path, config: Config, sample_rate: int) -> Tensor:
    """(2, N) vocals and mixture of an audio file. Raises UserError."""
    separation = config.separation
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        info = check_audio(path)
        separator = load_separator(separation.model, separation.wiener_iterations, device)
        chunks = separation.chunk_seconds, separation.overlap_seconds
        parts = list(separate_stream(_blocks(path, info), info.sampling_rate, separator, *chunks, sample_rate))
    except BrokenAudio as error:
        raise UserError(f"{path}: cannot be read as audio: {error}") from None
    return torch.cat([torch.stack([vocals, mixture]) for mixture, vocals in parts], dim=1)


def _blocks(path: Path, info: AudioInfo) -> Iterator[Tensor]:
    """(channels, samples) each, with a progress bar."""
    with tqdm(total=round(info.num_samples / info.sampling_rate), unit="s", desc="separation", mininterval=5) as bar:
        for block in audio_blocks(path, _BLOCK_SECONDS):
            yield block
            bar.update(round(block.shape[1] / info.sampling_rate))


def _tell(aligned: AlignedLyrics, options: Alignment) -> None:
    print(f"alignment score {aligned.score:.2f} (0 is best)", file=sys.stderr)
    if aligned.score < options.min_score:
        print("the lyrics do not fit the audio", file=sys.stderr)
        return
    for line in aligned.lines:
        if line.score is not None and line.score < options.min_score:
            words = " ".join(word.text for word in line.words)
            print(f"this line is hardly to be heard there (score {line.score:.2f}): {words}", file=sys.stderr)


def as_json(aligned: AlignedLyrics) -> str:
    lines = []
    for line in aligned.lines:
        words = [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "confidence": round(word.confidence, 3),
            }
            for word in line.words
        ]
        score = None if line.score is None else round(line.score, 3)
        lines.append({"text": " ".join(word.text for word in line.words), "score": score, "words": words})
    content = {"score": round(aligned.score, 3), "unexplained": round(aligned.unexplained, 3), "lines": lines}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_lrc(aligned: AlignedLyrics) -> str:
    """Enhanced LRC: ``[line's start] <word's start> word <word's start> word ... <line's end>``."""
    lines = []
    for line in aligned.lines:
        if not line.words:
            lines.append("")
            continue
        words = " ".join(f"<{_clock(word.start)}> {word.text}" for word in line.words)
        lines.append(f"[{_clock(line.words[0].start)}] {words} <{_clock(line.words[-1].end)}>")
    return "\n".join(lines) + "\n"


def as_text(aligned: AlignedLyrics) -> str:
    """A word a line, with tabs between: start, end, confidence, word. An empty line between lines."""
    lines = [
        "".join(f"{word.start:.3f}\t{word.end:.3f}\t{word.confidence:.3f}\t{word.text}\n" for word in line.words)
        for line in aligned.lines
        if line.words
    ]
    return "\n".join(lines)


FORMATS = {".json": as_json, ".lrc": as_lrc, ".txt": as_text}


def _clock(seconds: float) -> str:
    hundredths = round(100 * seconds)
    return f"{hundredths // 6000:02d}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"


def align_corpus(config: Config, network: LyricsNetwork, corpus: str, system: str) -> dict:
    """Align the songs of a corpus, write their alignments and the table; returns the table's figures."""
    songs = [song for song in whole_songs(config, corpus) if song.supervisions and song.supervisions[0].text]
    if not songs:
        raise UserError(f"{config.data_dir}/songs: the songs of {corpus} have no text to align")
    started = time.monotonic()
    segments, rows, errors = [], {}, []
    for song in tqdm(songs, unit="song", mininterval=5, desc=f"{corpus}, {system}"):
        reference = (song.supervisions[0].alignment or {}).get("word", [])
        words = [item.symbol for item in reference] or song.supervisions[0].text.split()
        try:
            aligned = network.align(_waveforms(song, network.sample_rate), [words])
        except UserError as error:
            rows[song.id] = {"words": len(words), "score": None, "fits": False, "error": str(error)}
            segments.append(_supervision(song, None, False))
            continue
        fits = aligned.score >= network.aligner.options.min_score
        rows[song.id] = {
            "words": len(words),
            "score": round(aligned.score, 3),
            "unexplained": round(aligned.unexplained, 3),
            "fits": fits,
        }
        if reference:
            estimated = np.array([word.start for word in aligned.words]) + song.start
            starts = np.array([item.start for item in reference])
            rows[song.id] |= alignment_errors(starts, estimated)
            errors.append((starts, estimated))
        segments.append(_supervision(song, aligned, fits))
    seconds = time.monotonic() - started
    results = {
        "system": system,
        "songs": dict(sorted(rows.items(), key=lambda row: (row[1]["score"] is not None, row[1]["score"], row[0]))),
        **_summary(rows, errors),
        "audio_seconds": round(sum(song.duration for song in songs), 1),
        "seconds": round(seconds, 1),
    }
    folder = Path(config.exp_dir) / "alignments" / system
    with write_atomically(folder / f"{corpus}.jsonl.gz") as temporary:
        SupervisionSet.from_segments(segments).to_file(temporary)
    with write_atomically(folder / f"{corpus}.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(results))
    unfit = sum(not row["fits"] for row in rows.values())
    print(f"{corpus}: {len(rows)} songs, {results['audio_seconds'] / 60:.1f} minutes, aligned in {seconds:.1f} s")
    print(f"{unfit} of them have lyrics that do not fit (below {network.aligner.options.min_score}); all in {folder}")
    return results


def whole_songs(config: Config, corpus: str) -> CutSet:
    """The songs of all splits, each once (a selection of songs is in the file of all of them too)."""
    paths = sorted((Path(config.data_dir) / "songs").glob(f"{corpus}_*.jsonl.gz"))
    if not paths:
        raise UserError(f"{config.data_dir}/songs: no songs of the corpus {corpus}; run stages 1 and 2 with it")
    songs: dict[str, Cut] = {}
    for path in paths:
        for song in load_manifest_lazy(path):
            songs.setdefault(song.id, song)
    return CutSet.from_cuts(songs.values())


def _waveforms(song: Cut, sample_rate: int) -> Tensor:
    """(2, N) vocals and mixture. Raises UserError."""
    if song.sampling_rate != sample_rate:
        raise UserError(f"its audio has {song.sampling_rate} Hz, the model wants {sample_rate}")
    try:
        vocals, mixture = song.load_vocals(), song.load_audio()
    except (AudioLoadingError, DurationMismatchError):
        raise UserError(f"{song.recording.sources[0].source} or its vocals cannot be read; run stage 2 again") from None
    length = min(vocals.shape[1], mixture.shape[1])
    return torch.from_numpy(np.concatenate([vocals[:, :length], mixture[:, :length]]))


def _supervision(song: Cut, aligned: AlignedLyrics | None, fits: bool) -> SupervisionSegment:
    items = [
        AlignmentItem(
            word.text, round(song.start + word.start, 6), round(word.end - word.start, 6), round(word.confidence, 4)
        )
        for word in (aligned.words if aligned else [])
    ]
    scores = (
        {"alignment_score": round(aligned.score, 4), "unexplained": round(aligned.unexplained, 4)} if aligned else {}
    )
    return SupervisionSegment(
        id=song.id,
        recording_id=song.recording_id,
        start=song.start,
        duration=song.duration,
        text=song.supervisions[0].text,
        language=song.supervisions[0].language,
        speaker=song.supervisions[0].speaker,
        alignment={"word": items},
        custom={**{key: round(score, 4) for key, score in scores.items()}, "fits": fits},
    )


def alignment_errors(reference: np.ndarray, estimated: np.ndarray) -> dict[str, float]:
    """Of the starts of words in seconds, (n,) each, in order: mir_eval.alignment's measures, shares in %."""
    median, average = mir_eval.alignment.absolute_error(reference, estimated)
    return {
        "median": round(float(median), 4),
        "average": round(float(average), 4),
        "within": round(100 * float(mir_eval.alignment.percentage_correct(reference, estimated, window=WITHIN)), 2),
        "far": round(100 * float(np.mean(np.abs(reference - estimated) > FAR)), 2),
    }


def _summary(rows: dict[str, dict], errors: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, dict[str, float]]:
    """The mean of the songs that have times, and the same of all their words together."""
    if not errors:
        return {}
    measured = [row for row in rows.values() if "median" in row]
    # In a row, each song behind the one before, for mir_eval wants times in order.
    ends = np.cumsum([max(reference[-1], estimated[-1]) for reference, estimated in errors])
    begins = [0.0, *ends[:-1]]
    references, estimates = (
        np.concatenate([pair[side] + begin for pair, begin in zip(errors, begins, strict=True)]) for side in (0, 1)
    )
    return {
        "mean": {key: round(float(np.mean([row[key] for row in measured])), 4) for key in _ERRORS},
        "all words": alignment_errors(references, estimates),
    }


_FORMS = {"words": "d", "score": ".2f", "unexplained": ".2f"} | dict.fromkeys(_ERRORS, ".1f")
_FORMS |= {"median": ".3f", "average": ".3f"}


def table(results: dict) -> str:
    """The table in Markdown, the worst song first."""
    lines = [
        f"| song | words | score | unexplained | {' | '.join(_ERRORS.values())} |",
        f"|---|---|---|---|{'---|' * len(_ERRORS)}",
    ]
    rows = {**results["songs"], **{name: results[name] for name in ("mean", "all words") if name in results}}
    for name, row in rows.items():
        if "error" in row:
            lines.append(f"| {name} | {row['words']} | not aligned: {row['error']} |{'|' * (1 + len(_ERRORS))}")
            continue
        cells = [f"{row[key]:{form}}" if key in row else "" for key, form in _FORMS.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
