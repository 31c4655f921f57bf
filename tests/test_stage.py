"""The books of run.sh: when a stage is done again."""

import gzip
import json
import subprocess
import sys

import pytest

from altpo_model.config import Config, load_config
from recipe.stage import seconds_of_stages


@pytest.fixture
def stage(tmp_path):
    conf = tmp_path / "x.yaml"
    conf.write_text(f"data_dir: {tmp_path}/data\nexp_dir: {tmp_path}/exp\n")
    (tmp_path / "in.txt").write_text("one")
    (tmp_path / "out").mkdir()

    def call(action, *more):
        command = [sys.executable, "-m", "recipe.stage", action, "--conf", str(conf), "--stage", "5-part"]
        options = ["--uses", "lm", "--reads", f"{tmp_path}/in.txt", "--writes", f"{tmp_path}/out"]
        return subprocess.run([*command, *options, "--clears", f"{tmp_path}/run", *more]).returncode

    return call


def test_finished_stage_is_done_again_only_when_something_changed(stage, tmp_path):
    assert stage("begin") == 0
    assert stage("begin") == 0, "a stage that was not finished is not done"
    assert stage("finish") == 0
    assert stage("begin") == 10
    assert stage("begin", "--set", "decoding.beam=3") == 10, "a key that the stage does not use"
    assert stage("begin", "--set", "lm.order=3") == 0
    assert stage("finish") == 0
    assert stage("begin", "--set", "lm.order=3") == 10
    assert stage("begin", "--force") == 0
    assert stage("finish") == 0
    (tmp_path / "in.txt").write_text("two")
    assert stage("begin") == 0
    assert stage("finish") == 0
    (tmp_path / "out").rmdir()
    assert stage("begin") == 0
    assert list(seconds_of_stages(load_config(tmp_path / "x.yaml"))) == []


def test_resumed_stage_keeps_its_folder_and_one_that_starts_anew_clears_it(stage, tmp_path):
    run = tmp_path / "run"
    assert stage("begin") == 0
    run.mkdir()
    assert stage("begin") == 0 and run.is_dir()
    assert stage("begin", "--set", "lm.order=3") == 0 and not run.exists()


def test_parts_of_a_stage_that_ran_side_by_side_count_once(tmp_path):
    for name, started, seconds in (("7-a", 100, 50), ("7-b", 120, 100), ("7-c", 500, 10), ("9", 0, 3)):
        path = tmp_path / "exp" / "stages" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"key": "", "started": started, "seconds": seconds}))
    assert seconds_of_stages(Config(data_dir=str(tmp_path), exp_dir=str(tmp_path / "exp"))) == {"7": 130.0, "9": 3.0}


def test_gzip_files_count_by_what_they_hold(stage, tmp_path):
    path = tmp_path / "m.jsonl.gz"

    def write(text, mtime):
        with gzip.GzipFile(path, "wb", mtime=mtime) as stream:
            stream.write(text)

    reads = ("--reads", str(path))
    write(b"same", 1)
    assert stage("begin", *reads) == 0
    assert stage("finish", *reads) == 0
    write(b"same", 2)
    assert stage("begin", *reads) == 10
    write(b"else", 2)
    assert stage("begin", *reads) == 0
