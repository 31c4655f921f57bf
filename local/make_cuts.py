"""Stage 4 (and stage 3 for RWC): whole songs and utterances -> segments for training and decoding.

Reads data_dir/songs/<corpus>_<split>.jsonl.gz (and LibriSpeech's manifests), writes
data_dir/cuts/<corpus>_<split>.jsonl.gz. Songs are cut into fixed windows (paper, section 4.1) or at pauses between
words; a word that a border cuts is in no text. A song of which only the text is known is one segment. Of DALI and
UltraStar, the songs that the pitch-shift filter has selected are divided into train, validation and test.

Songs whose lyrics do not fit their audio can be left out as well: align a corpus with the model of a finished run
(recipe/align.py --corpus), name its exp/<...>/alignments/<system>/<corpus>.jsonl.gz in segments.alignments, and run
stage 4 again.
"""

from pathlib import Path

import numpy as np
from lhotse import CutSet, MonoCut, SupervisionSegment, load_manifest, load_manifest_lazy

from altpo_model.config import LYRICS_CORPORA, PITCH_CORPORA, Config, Segments, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from filter_table import counts, paper_parts
from song_splits import split_songs

CORPORA = ("librispeech", *LYRICS_CORPORA, *PITCH_CORPORA, "jamendo")


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--corpus", choices=CORPORA, action="append", help="only this one (default: all)")
    arguments = parser.parse_args()
    config = config_from(arguments)
    for corpus in arguments.corpus or CORPORA:
        if getattr(config.corpora, corpus) is not None:
            for split, cuts in make_cuts(config, corpus).items():
                _write(config, f"{corpus}_{split}", cuts)


def make_cuts(config: Config, corpus: str) -> dict[str, CutSet]:
    """The segments of one corpus by split."""
    if corpus == "librispeech":
        return _speech_cuts(config)
    if corpus in LYRICS_CORPORA:
        songs = _divided_songs(config, corpus)
    else:
        splits = ("train", "test") if corpus in PITCH_CORPORA else ("test",)
        songs = {split: list(_songs(config, f"{corpus}_{split}")) for split in splits}
    return {
        split: CutSet.from_cuts(segment for song in part for segment in segments_of(song, config.segments))
        for split, part in songs.items()
    }


def _divided_songs(config: Config, corpus: str) -> dict[str, list[MonoCut]]:
    songs, split = list(_songs(config, f"{corpus}_selected")), getattr(config.corpora, corpus).split
    if split.by != "paper":
        return split_songs(songs, split)
    parts = paper_parts(config.filter, split)
    here = split_songs(songs, split, parts)
    print(f"{corpus}: the paper's split has {counts(parts)}; with audio here: {counts(here)}")
    if outside := len(songs) - sum(map(len, here.values())):
        print(f"{corpus}: {outside} songs are in no part of it")
    return here


def segments_of(song: MonoCut, segments: Segments) -> list[MonoCut]:
    """Cut one song. Segments hold at least one whole word or, in a corpus without words, one note.

    A song that has a text but no times of words is one segment.
    """
    alignment = song.supervisions[0].alignment or {}
    if song.supervisions[0].text and not alignment.get("word"):
        return [_segment(song, 0.0, song.duration, 0, text=song.supervisions[0].text)]
    units = [(item.start, item.end) for item in alignment.get("word") or alignment.get("note") or []]
    if segments.by == "fixed":
        borders = np.arange(0.0, song.duration, segments.max_seconds)
        spans = [(start, min(start + segments.max_seconds, song.duration)) for start in borders]
    elif segments.by == "pauses":
        spans = pause_spans(units, song.duration, segments)
    else:
        raise UserError(f"segments.by must be fixed or pauses, not {segments.by!r}")
    spans = [span for span in spans if any(span[0] <= start and end <= span[1] for start, end in units)]
    return [_segment(song, start, end, number) for number, (start, end) in enumerate(spans)]


def pause_spans(units: list[tuple[float, float]], duration: float, segments: Segments) -> list[tuple[float, float]]:
    """(start, end) in seconds of segments that begin and end in pauses of at least ``min_pause`` between words.

    A phrase that is too long for a segment is cut at its widest gaps, however narrow these are. ``units`` are the
    words' times. A single unit that is longer than a segment is left out.
    """
    longest = segments.max_seconds - 2 * segments.padding
    phrases: list[list[tuple[float, float]]] = []
    for unit in sorted(units):
        if phrases and unit[0] - max(end for _, end in phrases[-1]) < segments.min_pause:
            phrases[-1].append(unit)
        else:
            phrases.append([unit])
    phrases = [part for phrase in phrases for part in _split_long(phrase, longest)]
    joined: list[tuple[float, float]] = []
    for phrase in phrases:
        start, end = phrase[0][0], max(end for _, end in phrase)
        if segments.join and joined and end - joined[-1][0] <= longest:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    spans = []
    for i, (start, end) in enumerate(joined):
        before = joined[i - 1][1] if i else 0.0
        after = joined[i + 1][0] if i + 1 < len(joined) else duration
        left = min(segments.padding, max(0.0, start - before) / 2 if i else start)
        right = min(segments.padding, max(0.0, after - end) / 2 if i + 1 < len(joined) else max(0.0, after - end))
        spans.append((max(0.0, start - left), min(duration, end + right)))
    return spans


def _split_long(phrase: list[tuple[float, float]], longest: float) -> list[list[tuple[float, float]]]:
    if max(end for _, end in phrase) - phrase[0][0] <= longest:
        return [phrase]
    if len(phrase) == 1:
        return []
    gaps = [phrase[i][0] - phrase[i - 1][1] for i in range(1, len(phrase))]
    widest = 1 + int(np.argmax(gaps))
    return _split_long(phrase[:widest], longest) + _split_long(phrase[widest:], longest)


def _segment(song: MonoCut, start: float, end: float, number: int, text: str | None = None) -> MonoCut:
    """The part of a song between two times, with what it wholly holds; ``text`` where there are no times of words.

    Words and syllables that a border cuts are left out. A note that a border cuts keeps its own times, so that it has
    its pitch but no onset in a segment that it began before. As in all of Lhotse, alignments stay in the time of the
    recording.
    """
    reference = song.supervisions[0]
    alignment = {}
    for kind, items in (reference.alignment or {}).items():
        whole = kind != "note"
        alignment[kind] = [
            item
            for item in items
            if (start <= item.start and item.end <= end if whole else item.start < end and item.end > start)
        ]
    name = f"{song.id}-{number:03d}"
    cut = song.truncate(offset=start, duration=end - start, preserve_id=True).drop_supervisions()
    cut.id = name
    cut.supervisions = [
        SupervisionSegment(
            id=name,
            recording_id=song.recording_id,
            start=0.0,
            duration=cut.duration,
            text=" ".join(item.symbol for item in alignment.get("word", [])) if text is None else text,
            language=reference.language,
            speaker=reference.speaker,
            alignment=alignment,
        )
    ]
    return cut


def _speech_cuts(config: Config) -> dict[str, CutSet]:
    """LibriSpeech's utterances; those longer than a segment are left out of training."""
    parts = {}
    for part in ("train", "validation", "test"):
        cuts = []
        for split in getattr(config.corpora.librispeech, part):
            folder = Path(config.data_dir) / "manifests"
            recordings = load_manifest(folder / f"librispeech_recordings_{split}.jsonl.gz")
            supervisions = load_manifest(folder / f"librispeech_supervisions_{split}.jsonl.gz")
            cuts += CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
        kept = [cut for cut in cuts if part != "train" or cut.duration <= config.segments.max_seconds]
        if len(kept) < len(cuts):
            print(
                f"librispeech_{part}: {len(cuts) - len(kept)} utterances over {config.segments.max_seconds} s left out"
            )
        parts[part] = CutSet.from_cuts(kept)
    return parts


def _songs(config: Config, name: str) -> CutSet:
    path = Path(config.data_dir) / "songs" / f"{name}.jsonl.gz"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run stage {3 if name.endswith('_selected') else 2}, which makes it")
    unfit = _unfit_songs(config.segments)
    songs = load_manifest_lazy(path)
    left_out = sorted(song.id for song in songs if song.id in unfit)
    if left_out:
        print(f"{name}: {len(left_out)} songs left out, whose lyrics do not fit the audio: {', '.join(left_out)}")
    return CutSet.from_cuts(song for song in songs if song.id not in unfit) if left_out else songs


def _unfit_songs(segments: Segments) -> set[str]:
    """The songs that recipe/align.py found not to fit, of all the alignments that the conf names."""
    unfit = set()
    for path in map(Path, segments.alignments):
        if not path.is_file():
            raise UserError(
                f"{path}: no such alignments (`segments.alignments`); make them with recipe/align.py --corpus"
            )
        unfit |= {song.id for song in load_manifest(path) if not (song.custom or {}).get("fits", True)}
    return unfit


def _write(config: Config, name: str, cuts: CutSet) -> None:
    """Write a part; one without segments has no file, also where an earlier run has left one."""
    cuts = list(cuts)
    path = Path(config.data_dir) / "cuts" / f"{name}.jsonl.gz"
    if cuts:
        with write_atomically(path) as temporary:
            CutSet.from_cuts(cuts).to_file(temporary)
    else:
        path.unlink(missing_ok=True)
    words = sum(len((cut.supervisions[0].text or "").split()) for cut in cuts)
    hours = sum(cut.duration for cut in cuts) / 3600
    print(f"{name}: {len(cuts)} segments, {hours:.2f} h, {words} words")


if __name__ == "__main__":
    main()
