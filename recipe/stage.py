"""Keeps the books of run.sh: which stages are done, from what, in how many seconds.

A finished stage leaves a record in data_dir/stages or exp_dir/stages: a hash of the conf keys that it uses and of
the files that it reads. It is done again when the hash differs, when something that it writes is gone, or on --force.
Files count by content (a gzip file by the checksum of what it holds), files over 1 MiB by size and time of change.
"""

import argparse
import dataclasses
import hashlib
import json
import re
import shlex
import shutil
import sys
import time
from itertools import product
from pathlib import Path

from altpo_model.config import PITCH_CORPORA, Config, load_config
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.lang import lang_directory

DONE_BEFORE = 10  # exit status of `begin` when there is nothing to do
WHOLE_FILE = 1 << 20  # bytes up to which a file counts by its content


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("paths", "begin", "finish"))
    parser.add_argument("--conf", required=True)
    parser.add_argument("--set", dest="overrides", action="append")
    parser.add_argument("--stage", help="number, or number-part such as 7-multitask")
    parser.add_argument("--books", choices=("data", "exp"), default="data", help="where the record is kept")
    parser.add_argument("--uses", nargs="*", default=[], help="conf keys")
    parser.add_argument("--reads", nargs="*", default=[], help="files and folders; {key} stands for a conf value")
    parser.add_argument("--after", nargs="*", default=[], help="stages of the data; their inputs are its inputs too")
    parser.add_argument("--writes", nargs="*", default=[], help="what a finished stage has left, likewise")
    parser.add_argument("--clears", nargs="*", default=[], help="removed when the stage starts anew, not on resuming")
    parser.add_argument("--force", action="store_true")
    arguments = parser.parse_args()
    config = load_config(arguments.conf, arguments.overrides)
    if arguments.action == "paths":
        print(f"data_dir={shlex.quote(config.data_dir)} exp_dir={shlex.quote(config.exp_dir)}")
        models = config.trained or config
        print(f"models={shlex.quote(models.exp_dir)} models_data={shlex.quote(models.data_dir)}")
        print(f"lang={shlex.quote(str(lang_directory(models.data_dir, config.lang)))}")
        print(f"parallel_systems={config.parallel_systems}")
        librispeech = config.corpora.librispeech
        print(f"downloads_librispeech={'true' if librispeech and librispeech.download else 'false'}")
        print(f"needs_pitch_network={'true' if needs_pitch_network(config) else 'false'}")
        print("corpora=(" + " ".join(name for name, corpus in vars(config.corpora).items() if corpus) + ")")
    elif arguments.action == "begin":
        sys.exit(begin(config, arguments))
    else:
        finish(config, arguments)


def needs_pitch_network(config: Config) -> bool:
    """Whether stage 3 trains a network: DALI without a ready table needs one; UltraStar takes what can be had."""
    corpora = config.corpora
    has_notes = any(getattr(corpora, corpus) for corpus in PITCH_CORPORA)
    dali_needs = corpora.dali is not None and not config.filter.table
    return config.trained is None and (dali_needs or (corpora.ultrastar is not None and has_notes))


def begin(config: Config, arguments: argparse.Namespace) -> int:
    """0 when the stage is to be done, DONE_BEFORE when it is done; keeps the hash and the time of the start."""
    record = _record_path(config, arguments.books, arguments.stage)
    started = record.with_suffix(".started")
    key = _hash(config, arguments)
    is_fresh = record.is_file() and json.loads(record.read_text())["key"] == key
    if is_fresh and not arguments.force and all(path.exists() for path in _paths(config, arguments.writes)):
        return DONE_BEFORE
    resumes = not arguments.force and started.is_file() and json.loads(started.read_text())["key"] == key
    if not resumes:
        for path in arguments.clears:
            shutil.rmtree(path, ignore_errors=True)
    record.unlink(missing_ok=True)
    with write_atomically(started) as temporary:
        temporary.write_text(json.dumps({"key": key, "time": time.time()}))
    return 0


def finish(config: Config, arguments: argparse.Namespace) -> None:
    record = _record_path(config, arguments.books, arguments.stage)
    started = record.with_suffix(".started")
    begun = json.loads(started.read_text())
    seconds = time.time() - begun["time"]
    with write_atomically(record) as temporary:
        temporary.write_text(json.dumps({"key": begun["key"], "started": begun["time"], "seconds": round(seconds, 1)}))
    started.unlink()
    print(f"stage {arguments.stage}: finished in {seconds:.0f} s")


def seconds_of_stages(config: Config) -> dict[str, float]:
    """Seconds by stage number of the stages that are finished; parts that ran side by side count once."""
    spans: dict[int, list[tuple[float, float]]] = {}
    for folder in (config.data_dir, config.exp_dir):
        for path in Path(folder, "stages").glob("*.json"):
            record = json.loads(path.read_text())
            span = record["started"], record["started"] + record["seconds"]
            spans.setdefault(int(path.stem.partition("-")[0]), []).append(span)
    seconds = {}
    for number, parts in sorted(spans.items()):
        total, until = 0.0, 0.0
        for start, end in sorted(parts):
            total += max(0.0, end - max(start, until))
            until = max(until, end)
        seconds[str(number)] = round(total, 1)
    return seconds


def _record_path(config: Config, books: str, stage: str) -> Path:
    return Path(config.data_dir if books == "data" else config.exp_dir) / "stages" / f"{stage}.json"


def _hash(config: Config, arguments: argparse.Namespace) -> str:
    digest = hashlib.sha256()
    for key in arguments.uses:
        value = _value(config, key)
        plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        digest.update(f"{key}={json.dumps(plain, sort_keys=True)}\n".encode())
    for stage in arguments.after:
        record = _record_path(config, "data", stage)
        digest.update(f"{stage} {json.loads(record.read_text())['key'] if record.is_file() else ''}\n".encode())
    for path in _paths(config, arguments.reads):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(f"{file} {_fingerprint(file)}\n".encode())
    return digest.hexdigest()


def _paths(config: Config, patterns: list[str]) -> list[Path]:
    """The paths with the conf's values in place of {key}, each of a list's; one whose value is null is left out."""
    paths = []
    for pattern in patterns:
        values = {key: _value(config, key) for key in re.findall(r"\{([\w.]+)\}", pattern)}
        if None not in values.values():
            for each in product(*(value if isinstance(value, list) else [value] for value in values.values())):
                path = pattern
                for key, value in zip(values, each, strict=True):
                    path = path.replace(f"{{{key}}}", str(value))
                paths.append(Path(path))
    return paths


def _fingerprint(file: Path) -> str:
    if not file.is_file():
        return "missing"
    state = file.stat()
    if file.suffix == ".gz":
        with file.open("rb") as stream:  # the trailer: CRC32 and size of the content; the header has a time in it
            stream.seek(max(0, state.st_size - 8))
            return stream.read().hex()
    if state.st_size <= WHOLE_FILE:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{state.st_size} {state.st_mtime_ns}"


def _value(config: Config, key: str):
    """The value of a dotted conf key; None where a section on the way is null."""
    value = config
    for part in key.split("."):
        if value is None:
            return None
        if not hasattr(value, part):
            raise UserError(f"run.sh names the conf key {key}, which does not exist")
        value = getattr(value, part)
    return value


if __name__ == "__main__":
    main()
