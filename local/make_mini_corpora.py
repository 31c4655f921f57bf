"""Stage 0: make the embedded mini corpora.

Speech, songs with their annotation, and stems, in the on-disk layouts of LibriSpeech, DALI, RWC, JamendoLyrics and
MUSDB18-HQ, under ``corpora.mini.dir``. The same configuration gives the same bytes, whatever ``jobs`` is. A corpus is
made in a folder of another name (``.LibriSpeech.partial``), which is renamed when it is whole.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from altpo_model.config import MiniCorpora, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from mini_corpora import dali, jamendo, librispeech, rwc, stems
from mini_corpora.plan import Plan, make_plan
from mini_corpora.rendering import Job, SongJob
from mini_corpora.workers import in_fresh_process

SONGS_A_SHARD, UTTERANCES_A_SHARD = 8, 200  # a process takes a second to start; a shard takes about ten
MARK = "GENERATED.txt"  # in each corpus made here; a folder without it is not touched


@dataclass(frozen=True)
class Corpus:
    name: str  # its folder
    jobs: list[Job]
    write_tables: Callable[[Plan, Path], None]
    partial: Path
    final: Path


@exits_cleanly
def main() -> None:
    config = config_from(argument_parser(__doc__).parse_args())
    if config.corpora.mini is None:
        print("mini corpora: not in this run (corpora.mini is null).")
        return
    print(make_mini_corpora(config.corpora.mini, config.jobs))


def make_mini_corpora(conf: MiniCorpora, num_jobs: int) -> str:
    """Make all corpora with ``num_jobs`` processes; return a summary. Replaces what an earlier run has made.

    Raises UserError when a folder in the way was not made by this program.
    """
    plan = make_plan(conf)
    corpora = _corpora(plan, conf)
    for corpus in corpora:
        if corpus.final.exists() and not (corpus.final / MARK).is_file():
            raise UserError(
                f"{corpus.final}: in the way, and not made by this program (no {MARK} in it); set corpora.mini.dir to "
                "another folder, or corpora.mini to null to use your own corpora"
            )
        shutil.rmtree(corpus.partial, ignore_errors=True)
        corpus.partial.mkdir(parents=True)
    seconds = {}
    shards = {corpus.name: _shards(corpus.jobs) for corpus in corpora}
    with (
        ThreadPoolExecutor(max(1, num_jobs)) as threads,
        tqdm(total=sum(map(len, shards.values())), desc="mini corpora", unit="shard", mininterval=5) as bar,
    ):
        pending = {name: [threads.submit(in_fresh_process, shard) for shard in part] for name, part in shards.items()}
        try:
            for corpus in corpora:
                seconds[corpus.name] = _finish(corpus, plan, pending[corpus.name], bar)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return _summary(plan, conf, seconds)


def _corpora(plan: Plan, conf: MiniCorpora) -> list[Corpus]:
    """In the order in which they are made."""
    folder, level = Path(conf.dir), conf.accompaniment_db

    def corpus(name: str, jobs: Callable[[Path], list[Job]], write_tables: Callable[[Plan, Path], None]) -> Corpus:
        partial = folder / f".{name}.partial"
        return Corpus(name, jobs(partial), write_tables, partial, folder / name)

    return [
        corpus("stems", lambda at: stems.jobs(plan, at, level), lambda plan, at: None),
        corpus("RWC", lambda at: rwc.jobs(plan, at, level), rwc.write_tables),
        corpus("DALI", lambda at: dali.jobs(plan, at, level), dali.write_tables),
        corpus("LibriSpeech", lambda at: librispeech.jobs(plan, at), librispeech.write_tables),
        corpus("JamendoLyrics", lambda at: jamendo.jobs(plan, at, level), jamendo.write_tables),
    ]


def _shards(jobs: list[Job]) -> list[list[Job]]:
    size = SONGS_A_SHARD if jobs and isinstance(jobs[0], SongJob) else UTTERANCES_A_SHARD
    return [jobs[i : i + size] for i in range(0, len(jobs), size)]


def _finish(corpus: Corpus, plan: Plan, pending: list[Future], bar: tqdm) -> float:
    """Wait for the corpus's audio, write its tables, put it in place; return its seconds of audio."""
    total = 0.0
    for future in pending:
        total += sum(future.result())
        bar.update()
    corpus.write_tables(plan, corpus.partial)
    (corpus.partial / MARK).write_text(
        "Made by local/make_mini_corpora.py, which may replace this folder.\n", encoding="utf-8"
    )
    if corpus.final.exists():
        shutil.rmtree(corpus.final)
    corpus.partial.rename(corpus.final)
    return total


def _summary(plan: Plan, conf: MiniCorpora, seconds: dict[str, float]) -> str:
    hours = {name: f"{length / 3600:.2f} h" for name, length in seconds.items()}
    speech = ", ".join(f"{len(utterances)} {split}" for split, utterances in plan.speech.items())
    kinds = [item.fault.kind for item in plan.dali]
    return (
        f"mini corpora in {conf.dir}: LibriSpeech {hours['LibriSpeech']} (utterances: {speech}; {len(plan.lm)} lines "
        f"for the language model); DALI {hours['DALI']} ({len(kinds)} songs, of which {kinds.count('shifted')} with "
        f"shifted notes and {kinds.count('wrong')} with a wrong annotation); RWC {hours['RWC']} ({len(plan.rwc)} "
        f"songs); JamendoLyrics {hours['JamendoLyrics']} ({len(plan.jamendo)} songs); stems {hours['stems']} "
        f"({len(plan.stems['train'])} train, {len(plan.stems['test'])} test)."
    )


if __name__ == "__main__":
    main()
