"""Training: mixed batches, what starts from what, and going on after kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from mini_songs import write_cuts

from altpo_model.checkpoint import load_model
from altpo_model.config import LYRICS_CORPORA, Training, load_config
from altpo_model.errors import UserError
from altpo_model.model import Share
from altpo_model.tokens import CharTokens
from recipe.data import SegmentDataset, joined_cuts, load_cuts, training_loader
from recipe.train import train
from recipe.training_module import TrainingModule

SMALL = {"channels": [4, 1], "kernels": [3, 1], "pool_after": 0, "lstm_layers": 1, "lstm_size": 8, "dropout": 0.2}
TRAINING = {"learning_rate": 1e-2, "warmup_steps": 2, "batch_size": 5, "epoch_steps": 3, "epochs": 4, "workers": 0}


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    for name, count, song in (
        ("librispeech_train", 12, False),
        ("librispeech_validation", 3, False),
        ("dali_train", 12, True),
        ("dali_validation", 3, True),
        ("rwc_train", 8, True),
        ("rwc_test", 3, True),
    ):
        write_cuts(folder / "data", name, count, song, seed=count)
    content = {
        "data_dir": str(folder / "data"),
        "exp_dir": str(folder / "exp"),
        "threads": 1,
        "trainer": {"accelerator": "cpu", "tensorboard": False},
        "model": {"pitch_onset": {"encoder_conf": SMALL}, "lyrics": {"encoder_conf": {**SMALL, "pool_after": 1}}},
        **{f"{kind}_training": TRAINING for kind in ("filter", "speech", "pitch_onset", "song")},
    }
    content["song_training"] = {**TRAINING, "start_pitch_onset": True, "learning_rate": 0.0}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_mixed_batches_hold_songs_and_speech_four_to_one(conf):
    config = load_config(conf)
    dataset = SegmentDataset(CharTokens(), 16000, 256)
    loader = training_loader(
        load_cuts(config, "dali_train"),
        load_cuts(config, "librispeech_train"),
        dataset,
        Training(**{**TRAINING, "epoch_steps": 8}),
        0,
    )
    iterator = iter(loader)
    for _ in range(8):
        ((batch, cuts),) = next(iterator)
        assert batch.is_song.sum() == 4 and len(cuts) == 5
        speech = ~batch.is_song
        assert torch.equal(batch.waveforms[speech, 0], batch.waveforms[speech, 1]), "speech stands in both channels"
        assert (batch.pitch[speech] == 128).all() and batch.onset[speech].sum() == 0
        song = int(batch.is_song.nonzero()[0])
        assert not torch.equal(batch.waveforms[song, 0], batch.waveforms[song, 1])
        assert batch.onset[song].sum() == 3
        assert (
            CharTokens().decode(batch.tokens[song, : batch.num_tokens[song]].tolist())
            == cuts[song].supervisions[0].text
        )


def test_songs_of_all_lyrics_corpora_train_together(conf):
    config = load_config(conf, ["corpora.ultrastar.split=train"])
    assert "ultrastar" not in {cut.id.partition("_")[0] for cut in joined_cuts(config, LYRICS_CORPORA, "validation")}
    write_cuts(Path(config.data_dir), "ultrastar_train", 5, song=True)
    ids = [cut.id for cut in joined_cuts(config, LYRICS_CORPORA, "train")]
    alone = [cut.id for cut in load_cuts(config, "dali_train")]
    assert sorted(ids) == sorted([*alone, *(f"ultrastar_train-{i}" for i in range(5))])
    config.corpora.ultrastar = None
    assert [cut.id for cut in joined_cuts(config, LYRICS_CORPORA, "train")] == alone


def test_no_segments_of_a_part_is_one_line_that_names_the_key(conf):
    with pytest.raises(UserError, match="no dali_nothing or ultrastar_nothing; set a corpus and its split"):
        joined_cuts(load_config(conf), LYRICS_CORPORA, "nothing")


def test_song_system_without_its_start_says_what_to_run(conf):
    with pytest.raises(UserError, match="speech/model.pt.*stages 6 and 7"):
        train(load_config(conf, [f"exp_dir={conf.parent / 'nothing'}"]), "baseline")


def test_filter_without_rwc_says_what_it_needs(conf):
    with pytest.raises(UserError, match="filter.table"):
        train(load_config(conf, ["corpora.rwc=null"]), "filter")


def test_multitask_starts_from_the_speech_and_pitch_onset_networks(conf):
    config = load_config(conf)
    for run in ("speech", "pitch_onset", "multitask"):
        train(config, run)
    exp = Path(config.exp_dir)
    speech, pitch_onset, multitask = (
        load_model(exp / r / "model.pt")[0] for r in ("speech", "pitch_onset", "multitask")
    )
    # The learning rate of the song systems is zero here: what they start from is what they end with.
    for name, value in multitask.lyrics.state_dict().items():
        assert torch.equal(value, speech.lyrics.state_dict()[name])
    for name, value in multitask.pitch_onset.state_dict().items():
        assert torch.equal(value, pitch_onset.pitch_onset.state_dict()[name])


def test_augmentation_changes_what_training_hears_and_not_what_validation_does(conf):
    options = ["pitch_onset_training.augmentation={vocals_gain: 6, other_accompaniment: 1, pitch_shift: 3}"]
    module = TrainingModule(load_config(conf, options), "pitch_onset", CharTokens())
    heard = []
    module.model.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    batch = SegmentDataset(CharTokens(), 16000, 256)[load_cuts(load_config(conf), "dali_validation")]
    torch.manual_seed(0)
    module.part_losses(batch[0], Share())
    with torch.no_grad():
        module.validation_step(batch, 0)
    assert heard[1] is batch[0]
    changed = [
        (
            not torch.equal(heard[0].waveforms[i], batch[0].waveforms[i]),
            not torch.equal(heard[0].pitch[i], batch[0].pitch[i]),
        )
        for i in range(3)
    ]
    assert all(signals for signals, _ in changed) and any(notes for _, notes in changed)


@pytest.mark.parametrize("within_epoch", [True, False])
def test_killed_training_goes_on_from_its_last_checkpoint_to_the_same_result(conf, within_epoch):
    folder = conf.parent
    killed = folder / f"killed-{within_epoch}"
    overrides = ["speech_training.epochs=8", "speech_training.workers=1"]  # a worker reads ahead of what was trained on
    overrides.append("speech_training.augmentation={vocals_gain: 6, other_accompaniment: 0.5, pitch_shift: 2}")
    overrides.append(f"trainer.checkpoint_steps={1 if within_epoch else 'null'}")
    whole = folder / f"whole-{within_epoch}"
    train(load_config(conf, [f"exp_dir={whole}", *overrides]), "speech")
    options = [part for override in [f"exp_dir={killed}", *overrides] for part in ("--set", override)]
    command = [sys.executable, "-m", "recipe.train", "--run", "speech", "--conf", str(conf), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last, step = killed / "speech" / "last.ckpt", 0
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and (step < 4 or bool(step % 3) != within_epoch):
        time.sleep(0.005)
        step = torch.load(last, weights_only=True)["global_step"] if last.is_file() else 0
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "speech" / "model.pt").exists(), "it was killed too late for this test"
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "going on from" in again.stdout
    first, second = (torch.load(exp / "speech" / "model.pt", weights_only=True)["weights"] for exp in (whole, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    rows = [json.loads(line) for line in (killed / "speech" / "validation.jsonl").read_text().splitlines()]
    assert sorted({row["step"] for row in rows}) == list(range(3, 25, 3))
    assert {row["step"]: row["loss"] for row in rows} == {
        row["step"]: row["loss"] for row in map(json.loads, (whole / "speech" / "validation.jsonl").open())
    }


def test_finished_model_is_the_mean_of_the_last_checkpoints(conf):
    keys = ("average=2", "average_of=last", "learning_rate=0.05", "epochs=3")
    config = load_config(conf, [f"exp_dir={conf.parent / 'mean'}", *(f"speech_training.{key}" for key in keys)])
    train(config, "speech")
    folder = Path(config.exp_dir) / "speech"
    weights = torch.load(folder / "model.pt", weights_only=True)["weights"]
    six, nine = (torch.load(folder / "kept" / f"step={step}.ckpt", weights_only=True)["state_dict"] for step in (6, 9))
    assert len(list((folder / "kept").iterdir())) == 2
    for name, value in weights.items():
        torch.testing.assert_close(value, (six[f"model.{name}"] + nine[f"model.{name}"]) / 2)
    assert not torch.equal(six["model.lyrics.output.weight"], nine["model.lyrics.output.weight"])


def test_curves_of_losses_learning_rate_and_measures_are_kept_where_the_conf_says_so(conf):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    overrides = ["trainer.curve_steps=1", "pitch_onset_training.epochs=2"]
    for name, more in (("curves", ["trainer.tensorboard=true"]), ("none", ["trainer.tensorboard=false"])):
        train(load_config(conf, [f"exp_dir={conf.parent / name}", *overrides, *more]), "pitch_onset")
    assert not (conf.parent / "none" / "pitch_onset" / "tensorboard").exists()
    events = accumulator.EventAccumulator(str(conf.parent / "curves" / "pitch_onset" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(6))
    assert len(events.Scalars("note error")) == 2
    assert [event.value for event in events.Scalars("lr-Adam")] == pytest.approx([0.005] + [0.01] * 5)
