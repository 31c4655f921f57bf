"""Training on two processes (gloo, on the CPU): what is learnt is what one process learns."""

import json
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
import yaml
from mini_songs import write_cuts

from altpo_model.config import load_config
from altpo_model.errors import UserError
from recipe.data import load_cuts
from recipe.sampling import JointSampler
from recipe.train import train
from recipe.training_module import TrainingModule

SMALL = {"channels": [4, 1], "kernels": [3, 1], "pool_after": 0, "lstm_layers": 1, "lstm_size": 8, "dropout": 0.0}
STEPS = 20
TRAINING = {
    **{"learning_rate": 1e-2, "warmup_steps": 2, "batch_size": 16, "epoch_steps": 5, "epochs": 4, "patience": 99},
    **{"workers": 1, "start_lyrics": False, "shuffle_buffer": 100, "gradient_clip": 1.0},
}


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    for name, count, song in (
        ("librispeech_train", 12, False),
        ("dali_train", 30, True),
        ("dali_validation", 5, True),  # an odd number, longest first: the two processes get different batches
    ):
        write_cuts(folder / "data", name, count, song, seed=count)
    path = folder / "tiny.yaml"
    networks = {"pitch_onset": {"encoder_conf": SMALL}, "lyrics": {"encoder_conf": {**SMALL, "pool_after": 1}}}
    content = {"data_dir": str(folder / "data"), "threads": 1, "model": networks, "song_training": TRAINING}
    content["trainer"] = {"accelerator": "cpu", "checkpoint_steps": 2, "tensorboard": False}
    content["decoding"] = {"max_seconds": 4.0}
    path.write_text(yaml.safe_dump(content))
    return path


def start(
    conf: Path, name: str, world_size: int, *overrides: str, unused: bool = False
) -> list[multiprocessing.Process]:
    """Processes of one training in folder/<name>, started as torchrun starts them.

    unused: the model has a parameter that takes no part in anything.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")  # they need not import everything again
    processes = [
        fork.Process(target=_trained, args=(conf, name, rank, world_size, port, overrides, unused))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    return processes


def _trained(
    conf: Path, name: str, rank: int, world_size: int, port: int, overrides: tuple[str, ...], unused: bool
) -> None:
    """Trains, and leaves the losses of every step and the gradients of the first."""
    folder = conf.parent / name
    if world_size > 1:
        os.environ |= {
            **{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"},
            **{"WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size)},
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        }

    def after_step(module, outputs, batch, number):
        if rank == 0:
            row = {"step": module.global_step, **{k: float(v) for k, v in module.trainer.callback_metrics.items()}}
            with (folder / "losses.jsonl").open("a") as stream:
                stream.write(json.dumps(row) + "\n")

    clip = TrainingModule.on_before_optimizer_step

    def before_step(module, optimizer):
        if module.global_step == 0:
            gradients = {key: v.grad.clone() for key, v in module.named_parameters() if v.grad is not None}
            torch.save(gradients, folder / f"gradients-{rank}.pt")
        clip(module, optimizer)

    if unused:
        TrainingModule.configure_model = lambda module: setattr(module, "idle", torch.nn.Parameter(torch.zeros(1)))
    folder.mkdir(exist_ok=True)
    TrainingModule.on_train_batch_end, TrainingModule.on_before_optimizer_step = after_step, before_step
    train(load_config(conf, [f"exp_dir={folder}", *overrides]), "multitask")


def finish(processes: list[multiprocessing.Process]) -> None:
    for process in processes:
        process.join(300)
        assert process.exitcode == 0


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(conf):
    """{name: folder} of the same training done in three ways."""
    ways = {"one": (1, "song_training.accumulate=1"), "two": (2, "song_training.accumulate=1")}
    ways["two_by_two"] = (2, "song_training.accumulate=2")
    for name, (world_size, override) in ways.items():
        finish(start(conf, name, world_size, override))
    return {name: conf.parent / name for name in ways}


@pytest.mark.parametrize("way", ["two", "two_by_two"])
def test_gradients_are_those_of_one_process_with_the_joint_batch(runs, way):
    alone = torch.load(runs["one"] / "gradients-0.pt")
    for rank in (0, 1):
        shared = torch.load(runs[way] / f"gradients-{rank}.pt")
        largest = max(float(value.abs().max()) for value in alone.values())
        for name in alone:
            torch.testing.assert_close(shared[name], alone[name], rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("way", ["two", "two_by_two"])
def test_losses_of_twenty_steps_are_those_of_one_process(runs, way):
    alone, shared = (rows(runs[name] / "losses.jsonl") for name in ("one", way))
    assert [row["step"] for row in shared] == list(range(1, STEPS + 1))
    for ours, theirs in zip(shared, alone, strict=True):
        for name in ("loss", "loss pitch", "loss onset", "loss lyrics"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4)
    assert alone[-1]["loss"] < 0.8 * alone[0]["loss"], "nothing was learnt: no test of anything"


def test_measures_are_those_of_the_whole_validation_set(runs):
    alone, shared = (rows(runs[name] / "multitask" / "validation.jsonl") for name in ("one", "two"))
    assert len(shared) == 4, "one process writes"
    for ours, theirs in zip(shared, alone, strict=True):
        for name in ("WER", "note error", "frame error"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-3)


def test_killed_process_ends_the_others_and_the_next_start_goes_on_to_the_same_result(conf, runs, capfd):
    folder = conf.parent / "killed"
    processes = start(conf, "killed", 2)
    last = folder / "multitask" / "last.ckpt"
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and not (last.is_file() and len(rows(folder / "losses.jsonl")) >= 8):
        time.sleep(0.005)
    os.kill(processes[1].pid, signal.SIGKILL)
    for process in processes:
        process.join(120)
    assert processes[0].exitcode not in (0, None)
    assert "another process has died" in capfd.readouterr().err
    step = torch.load(last, weights_only=True)["global_step"]
    assert step % TRAINING["epoch_steps"], "it was to be killed within an epoch"
    finish(start(conf, "killed", 2))
    whole, again = (
        torch.load(exp / "multitask" / "model.pt", weights_only=True)["weights"] for exp in (runs["two"], folder)
    )
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    losses = {row["step"]: row["loss"] for row in rows(folder / "losses.jsonl")}
    assert losses == {row["step"]: row["loss"] for row in rows(runs["two"] / "losses.jsonl")}


def test_unused_parameters_are_one_line_that_names_the_key_which_admits_them(conf, capfd):
    processes = start(conf, "idle", 2, "song_training.epochs=1", unused=True)
    for process in processes:
        process.join(120)
    assert all(process.exitcode for process in processes)
    assert "not all parameters were used; set trainer.find_unused_parameters=true" in capfd.readouterr().err
    admitted = ("song_training.epochs=1", "trainer.find_unused_parameters=true")
    processes = start(conf, "admitted", 2, *admitted, unused=True)
    for process in processes:
        process.join(120)
    assert len(rows(conf.parent / "admitted" / "losses.jsonl")) == 5


def sampler(conf: Path, **options) -> JointSampler:
    config = load_config(conf)
    return JointSampler(
        load_cuts(config, "dali_train"), load_cuts(config, "librispeech_train"), config.song_training, 0, **options
    )


def names(batches) -> list[list[list[str]]]:
    return [[[cut.id for cut in part] for part in batch] for batch in batches]


def test_devices_share_each_batch_with_the_same_mixture(conf):
    (joint,) = zip(*names(sampler(conf)), strict=True)
    shares = [names(sampler(conf, rank=rank, world_size=4)) for rank in range(4)]
    for step, batch in enumerate(joint):
        parts = [share[step][0] for share in shares]
        assert sorted(name for part in parts for name in part) == sorted(batch)
        assert all([name.split("_")[0] for name in part] == ["dali"] * 3 + ["librispeech"] for part in parts)


def test_batches_go_on_where_training_was_in_any_epoch(conf):
    consumed = 0
    whole = sampler(conf, position=lambda: consumed)
    epochs = []
    for _ in range(4):
        epochs += names(whole)
        consumed += 5
    assert len(epochs) == 20 and all(epochs.count(batch) == 1 for batch in epochs)
    for place in (3, 5, 12):
        rest = names(sampler(conf, position=lambda place=place: place))
        assert rest == epochs[place : place - place % 5 + 5]


def test_later_epochs_read_on_in_a_large_set(conf):
    config = load_config(conf, ["song_training.shuffle_buffer=9", "song_training.batch_size=2"])
    songs = load_cuts(config, "dali_train")
    seen = set()
    for step in range(0, 40, 5):
        one = JointSampler(songs, None, config.song_training, 0, position=lambda step=step: step)
        seen |= {name for batch in names(one) for part in batch for name in part}
    assert len(seen) > 25, "an epoch reads 19 of the 30 segments"


def test_buffer_too_small_for_whole_batches_is_one_line(conf):
    config = load_config(conf, ["song_training.shuffle_buffer=88"])
    with pytest.raises(UserError, match="shuffle_buffer is 88; for 12 songs a batch it must be over 88"):
        JointSampler(load_cuts(config, "dali_train"), load_cuts(config, "dali_train"), config.song_training, 0)


def test_batch_that_cannot_be_shared_is_one_line(conf):
    with pytest.raises(UserError, match="12 songs, which 8 devices x 1 parts cannot share evenly"):
        sampler(conf, world_size=8)
