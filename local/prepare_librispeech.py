"""Stage 1, LibriSpeech: Lhotse manifests of the configured parts, with normalised text.

The manifests are made by Lhotse's own recipe. Writes
``<data_dir>/manifests/librispeech_{recordings,supervisions}_<part>.jsonl.gz``.

With --download (stage 0) it only fetches the configured parts that are not there, by Lhotse's own recipe too;
--mirror names another copy of www.openslr.org/resources.
"""

import http.client
import itertools
import shutil
import socket
import tarfile
import tempfile
import zlib
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from lhotse import Recording
from lhotse.recipes import download_librispeech as lhotse_download_librispeech
from lhotse.recipes import prepare_librispeech as lhotse_prepare_librispeech
from lhotse.recipes.librispeech import LIBRISPEECH, MINI_LIBRISPEECH

from alignments import Losses
from altpo_model.audio_files import BrokenAudio, check_audio
from altpo_model.config import LibriSpeech, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.text import normalize_text
from manifests import (
    LeftOut,
    Manifests,
    Prepared,
    Report,
    existing_dir,
    finish_split,
    preparation_parser,
    run_preparation,
)
from parallel import parallel_map

_OPENSLR = "https://www.openslr.org/resources"
_SILENCE = 60  # seconds without a byte after which a download is given up
_STAGING = ".download"  # in the corpus folder: archives that are being fetched and unpacked


def prepare_librispeech(
    corpus_dir: str | Path,
    dataset_parts: list[str],
    output_dir: str | Path | None = None,
    num_jobs: int = 1,
    executor: Executor | None = None,
    report: Report | None = None,
) -> Manifests:
    """Prepare the named parts of LibriSpeech ("train-clean-360", "dev-clean", ...).

    Returns: ``{part: {"recordings": RecordingSet, "supervisions": SupervisionSet}}``, also written to ``output_dir``.
    Raises UserError when a folder is missing or a part has no utterance left.
    """
    report = report if report is not None else Report("librispeech", unit="utterances")
    corpus_dir = existing_dir(corpus_dir, "corpora.librispeech.dir")
    for part in dataset_parts:
        if not (corpus_dir / part).is_dir():
            raise UserError(f"{corpus_dir / part}: no such folder; set corpora.librispeech to the parts that are there")
    manifests = {}
    for part in dataset_parts:
        manifests[part] = _prepare_part(corpus_dir, part, output_dir, num_jobs, executor, report)
    return manifests


def download_parts(corpus_dir: str | Path, dataset_parts: list[str], base_url: str = _OPENSLR) -> list[str]:
    """Fetch and unpack the named parts that are not in ``corpus_dir``. Returns those that it fetched.

    A part takes its place when it is whole; a download that was interrupted is taken up again.
    base_url: of openslr.org or a copy of it. Raises UserError, also when there is no such part.
    """
    corpus_dir = Path(corpus_dir)
    missing = [part for part in dataset_parts if not (corpus_dir / part).is_dir()]
    for part in missing:
        if part not in (*LIBRISPEECH, *MINI_LIBRISPEECH):
            raise UserError(f"corpora.librispeech: LibriSpeech has no part {part!r}; it has {', '.join(LIBRISPEECH)}")
    for part in missing:
        _download_part(corpus_dir, part, base_url)
    shutil.rmtree(corpus_dir / _STAGING, ignore_errors=True)
    return missing


def _download_part(corpus_dir: Path, part: str, base_url: str) -> None:
    staging = corpus_dir / _STAGING
    archive = staging / f"{part}.tar.gz"
    by_hand = (
        f"or fetch {part}.tar.gz by hand from www.openslr.org/12 and unpack it so that {corpus_dir / part} is there"
    )
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE)  # Lhotse sets none
    try:
        unpacked = lhotse_download_librispeech(staging, dataset_parts=[part], base_url=base_url)
        for path in sorted(unpacked.iterdir()):  # the part, and the licence and lists that every archive has
            if not (corpus_dir / path.name).exists():
                path.rename(corpus_dir / path.name)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(
            f"{archive}: no whole archive ({error}); run again to fetch the rest, or delete it and run again, {by_hand}"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"LibriSpeech {part} could not be fetched from {base_url} ({error}); run again to go on, {by_hand}"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
    if not (corpus_dir / part).is_dir():
        raise UserError(f"{archive}: has no folder LibriSpeech/{part}; delete it and run again, {by_hand}")
    shutil.rmtree(unpacked)
    archive.unlink(missing_ok=True)


def _prepare_part(
    corpus_dir: Path, part: str, output_dir: str | Path | None, num_jobs: int, executor: Executor | None, report: Report
) -> dict:
    texts = _read_transcripts(corpus_dir / part, report)
    usable = []
    for path, fault in zip(texts, parallel_map(_fault, texts, f"LibriSpeech {part}", num_jobs, executor), strict=True):
        if fault:
            report.leave_out(path.stem, LeftOut("broken audio", f"{path}, {fault}"))
        else:
            usable.append(path)

    # Lhotse's recipe stops at the first file that it cannot open and at a line without text. So it is shown a folder
    # of links to the sound files alone, beside transcripts of the usable lines.
    recordings, supervisions = {}, {}
    with tempfile.TemporaryDirectory(prefix="librispeech") as view:
        for folder, paths in itertools.groupby(sorted(usable), key=lambda path: path.parent):
            chapter = Path(view) / folder.relative_to(corpus_dir)
            chapter.mkdir(parents=True)
            with (chapter / "chapter.trans.txt").open("w", encoding="utf-8") as transcript:
                for path in paths:
                    transcript.write(f"{path.stem} {texts[path]}\n")
                    (chapter / path.name).symlink_to(path.resolve())
        if usable:
            made = lhotse_prepare_librispeech(
                view, alignments_dir=corpus_dir, dataset_parts=[part], num_jobs=max(num_jobs, 1)
            )[part]
            recordings = {r.id: _moved(r, Path(view), corpus_dir) for r in made["recordings"]}
            supervisions = {supervision.recording_id: supervision for supervision in made["supervisions"]}
    for supervision in supervisions.values():
        supervision.text, dropped = normalize_text(supervision.text)
        report.losses.characters.update(dropped)
    utterances = [Prepared(recordings[name], supervisions[name], Losses()) for name in sorted(recordings)]
    return finish_split("librispeech", part, utterances, output_dir, report)


def _read_transcripts(folder: Path, report: Report) -> dict[Path, str]:
    """Sound file -> text, of one part. What is no utterance with a text, or has no line, is left out and reported."""
    texts: dict[Path, str] = {}
    for transcript in sorted(folder.rglob("*.trans.txt")):
        try:
            lines = transcript.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            report.leave_out(str(transcript), LeftOut("unreadable transcript", str(error)))
            continue
        for line in lines:
            utterance, _, text = line.strip().partition(" ")
            path = transcript.parent / f"{utterance}.flac"
            if not utterance:
                continue
            # Lhotse looks for 84-121123-0001 in the folder 84/121123.
            if Path(utterance).name != utterance or path.parent != folder / Path(utterance.replace("-", "/")).parent:
                report.leave_out(utterance, LeftOut("no utterance of its folder", str(transcript)))
            elif path in texts:
                report.leave_out(utterance, LeftOut("second line of an utterance", str(transcript)))
            else:
                texts[path] = " ".join(text.split()) if normalize_text(text)[0] else ""
    for path in sorted(folder.rglob("*.flac")):
        if path not in texts:
            report.leave_out(path.stem, LeftOut("no line in a transcript", str(path)))
    for path in [path for path, text in texts.items() if not text]:
        report.leave_out(path.stem, LeftOut("no text", str(path)))
        del texts[path]
    return texts


def _fault(path: Path) -> str | None:
    """Why the audio file cannot be used, or None."""
    try:
        check_audio(path)
    except BrokenAudio as error:
        return str(error)
    return None


def _moved(recording: Recording, view: Path, corpus_dir: Path) -> Recording:
    """The recording with the sound file's own path in place of the link's."""
    sources = [
        replace(source, source=str(corpus_dir / Path(source.source).relative_to(view))) for source in recording.sources
    ]
    return replace(recording, sources=sources)


@exits_cleanly
def main() -> None:
    parser = preparation_parser(__doc__)
    parser.add_argument("--download", action="store_true", help="fetch the configured parts that are not there")
    parser.add_argument("--mirror", default=_OPENSLR, metavar="URL", help="where from (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.download:
        _download(config_from(arguments).corpora.librispeech, arguments.mirror)
        return
    run_preparation(
        "librispeech",
        arguments,
        lambda librispeech, **common: prepare_librispeech(librispeech.dir, configured_parts(librispeech), **common),
        unit="utterances",
    )


def _download(librispeech: LibriSpeech | None, mirror: str) -> None:
    if librispeech is None:
        print("librispeech: not in this run (corpora.librispeech is null).")
        return
    parts = configured_parts(librispeech)
    fetched = download_parts(librispeech.dir, parts, mirror)
    print(f"librispeech: fetched {', '.join(fetched) or 'nothing'}, {len(parts) - len(fetched)} parts were there.")


def configured_parts(librispeech: LibriSpeech) -> list[str]:
    """The parts that the conf trains, validates and tests on, each once."""
    return list(dict.fromkeys([*librispeech.train, *librispeech.validation, *librispeech.test]))


if __name__ == "__main__":
    main()
