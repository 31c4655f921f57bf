"""Writing a corpus's manifests, and the account of what went into them."""

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet, validate

from alignments import Losses
from altpo_model.config import argument_parser, config_from
from altpo_model.errors import UserError
from altpo_model.files import write_atomically

_IN_MEMORY = 1000  # songs; a corpus of DALI's size takes more than 1 GB
_NAMED = 10  # items of one reason that the summary names; the file beside the manifests names all

Manifests = dict[str, dict[str, RecordingSet | SupervisionSet]]


class Prepared(NamedTuple):
    """One song that is in, and what of it is not."""

    recording: Recording
    supervision: SupervisionSegment
    losses: Losses


class LeftOut(NamedTuple):
    """Why one song is out: the reason that the summary counts, and what there is to say of this song."""

    reason: str
    detail: str = ""


@dataclass
class Report:
    """What a preparation read, kept and left out."""

    corpus: str
    unit: str = "songs"
    splits: dict[str, tuple[int, float, int]] = field(default_factory=dict)  # recordings, seconds, words
    left_out: dict[str, list[str]] = field(default_factory=dict)  # reason -> names
    losses: Losses = field(default_factory=Losses)
    remarks: list[str] = field(default_factory=list)  # what else a user should know, in a few words each

    def leave_out(self, name: str, why: LeftOut) -> None:
        told = f"{name}: {why.detail}" if why.detail else name
        told = told.encode("utf-8", "replace").decode("utf-8")  # a file's name may be no Unicode
        self.left_out.setdefault(why.reason, []).append(" ".join(told.split()))  # a line each in the file

    def sort_out(self, names: Iterable[str], results: Iterable[Prepared | LeftOut]) -> Iterator[Prepared]:
        """The prepared songs, one by one; the others, and all losses, go into the report."""
        for name, result in zip(names, results, strict=True):
            if isinstance(result, LeftOut):
                self.leave_out(name, result)
            else:
                self.losses.update(result.losses)
                yield result

    def summary(self) -> str:
        """One paragraph: counts and hours a split, then what was left out and why, with names."""
        parts = []
        for split, (recordings, seconds, words) in self.splits.items():
            counts = f"{split}: {recordings} {self.unit}, {seconds / 3600:.2f} h"
            parts.append(counts + (f", {words} words" if words else ""))
        text = f"{self.corpus}: " + "; ".join([*parts, *self.remarks]) + "."
        for reason, names in self.left_out.items():
            shown = "; ".join(names[:_NAMED]) + (f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
            text += f" Left out, {reason}: {len(names)} ({shown})."
        if self.losses.items:
            text += " Left out of the alignments: " + _counted(self.losses.items) + "."
        if self.losses.changes:
            text += " Shortened: " + _counted(self.losses.changes) + "."
        if self.losses.characters:
            text += " Characters dropped from the text: " + _counted(self.losses.characters) + "."
        return text


def preparation_parser(description: str) -> argparse.ArgumentParser:
    """The command line of every ``prepare_<corpus>.py``."""
    parser = argument_parser(description)
    parser.add_argument("--num-jobs", type=int, metavar="N", help="processes (default: the conf's `jobs`)")
    return parser


def run_preparation(
    corpus: str, arguments: argparse.Namespace, prepare: Callable[..., Manifests], unit: str = "songs"
) -> None:
    """What ``prepare_<corpus>.py`` does with the arguments of its `preparation_parser`.

    prepare: called with the corpus's section of the conf and the keywords output_dir, num_jobs and report.
    """
    config = config_from(arguments)
    section = getattr(config.corpora, corpus)
    if section is None:
        print(f"{corpus}: not in this run (corpora.{corpus} is null).")
        return
    report = Report(corpus, unit)
    num_jobs = config.jobs if arguments.num_jobs is None else arguments.num_jobs
    prepare(section, output_dir=Path(config.data_dir) / "manifests", num_jobs=num_jobs, report=report)
    print(report.summary())


def finish_split(
    corpus: str, split: str, songs: Iterable[Prepared], output_dir: str | Path | None, report: Report
) -> dict[str, RecordingSet | SupervisionSet]:
    """Validate the songs, which come in order of their ids, and add them to the report.

    With an ``output_dir`` they are written, one by one, to ``<corpus>_{recordings,supervisions}_<split>.jsonl.gz``, and
    what is left out by now to ``<corpus>_left_out.tsv``. The sets that are returned are in memory, unless they are
    large and written: then they read their files, as Lhotse's lazy sets do.
    Raises UserError when there is no song.
    """
    kinds = {"recordings": RecordingSet, "supervisions": SupervisionSet}
    names = {kind: f"{corpus}_{kind}_{split}.jsonl.gz" for kind in kinds}
    kept: dict[str, list] = {kind: [] for kind in kinds}
    count, seconds, words, last = 0, 0.0, 0, ""
    with ExitStack() as files:  # neither file takes its name before the other is written
        if output_dir is not None:
            paths = {k: files.enter_context(write_atomically(Path(output_dir) / name)) for k, name in names.items()}
            # Level 6 of gzip's 9, which is Lhotse's: a quarter of its time for 3 % more bytes.
            streams = {k: files.enter_context(gzip.open(path, "wt", 6, "utf-8")) for k, path in paths.items()}
        for recording, supervision, _ in songs:
            validate(recording)
            validate(supervision)
            if not last < recording.id == supervision.recording_id:
                raise ValueError(f"{corpus} {split}: {recording.id} is there twice, or out of order after {last}")
            last = recording.id
            count, seconds, words = count + 1, seconds + recording.duration, words + len(supervision.text.split())
            for kind, item in (("recordings", recording), ("supervisions", supervision)):
                if output_dir is None:
                    kept[kind].append(item)
                else:
                    streams[kind].write(json.dumps(item.to_dict(), ensure_ascii=False) + "\n")
        write_left_out(report, output_dir)
        if not count:
            reasons = (f"{reason}: {len(names)}, such as {names[0]}" for reason, names in report.left_out.items())
            raise UserError(
                f"{corpus} {split}: no {report.unit} to prepare ({'; '.join(reasons) or 'the corpus has none'})"
            )
    report.splits[split] = (count, seconds, words)
    if output_dir is None:
        return {"recordings": RecordingSet(kept["recordings"]), "supervisions": SupervisionSet(kept["supervisions"])}
    lazy = {kind: kinds[kind].from_jsonl_lazy(Path(output_dir) / name) for kind, name in names.items()}
    return lazy if count > _IN_MEMORY else {kind: manifest.to_eager() for kind, manifest in lazy.items()}


def write_left_out(report: Report, output_dir: str | Path | None) -> None:
    """Write ``<corpus>_left_out.tsv``: a line ``name<TAB>reason`` for everything that the report names."""
    if output_dir is None:
        return
    with write_atomically(Path(output_dir) / f"{report.corpus}_left_out.tsv") as temporary:
        lines = (f"{name}\t{reason}\n" for reason, names in report.left_out.items() for name in names)
        temporary.write_text("".join(lines), encoding="utf-8")


def existing_dir(path: str | Path, key: str) -> Path:
    """``path``, if it is a folder. Raises UserError that names the path and the conf key."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; set {key} to where the corpus is, or to null to go without it")
    return path


def _counted(counter: Counter) -> str:
    entries = sorted(counter.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{count} {name}" for name, count in entries)
