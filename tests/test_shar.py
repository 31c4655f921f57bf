"""Lhotse Shar: training from shards is training from single files."""

import pytest
import torch
from lhotse import CutSet, load_manifest
from mini_songs import write_cuts

from altpo_model.config import Config, Corpora, Training
from altpo_model.errors import UserError
from altpo_model.tokens import CharTokens
from recipe.data import SegmentDataset, cuts_path, joined_cuts, load_cuts, training_loader
from recipe.export_shar import export


@pytest.fixture
def config(tmp_path):
    config = Config(data_dir=str(tmp_path), corpora=Corpora(rwc=None))
    for name, song in (("dali_train", True), ("librispeech_train", False)):
        path = write_cuts(tmp_path, name, 12, song)
        # Segments that begin within their songs, with a note that they cut, as stage 4 makes them
        cuts = [cut.truncate(offset=0.31, duration=0.9, preserve_id=True) for cut in load_manifest(path)]
        CutSet.from_cuts(cuts).to_file(path)
    config.trainer.shard_segments = 5
    return config


def batches(config: Config) -> list:
    training = Training(batch_size=5, epoch_steps=6, workers=0)
    dataset = SegmentDataset(CharTokens(), 16000, 256)
    songs, speech = joined_cuts(config, ("dali",), "train"), load_cuts(config, "librispeech_train")
    return [part for (part,) in training_loader(songs, speech, dataset, training, seed=1)]


def test_shards_give_the_same_batches_as_single_files(config):
    single = batches(config)
    for name in ("dali_train", "librispeech_train"):
        export(config, name)
    assert len(list((cuts_path(config, "").parents[1] / "shar" / "dali_train").glob("vocals.*.tar"))) == 3
    config.trainer.shar = True
    for path in cuts_path(config, "").parents[1].glob("audio/*.flac"):
        path.unlink()  # shards have their own audio
    shards = batches(config)
    assert [[cut.id for cut in cuts] for _, cuts in shards] == [[cut.id for cut in cuts] for _, cuts in single]
    for (ours, _), (theirs, _) in zip(shards, single, strict=True):
        for field, value in vars(theirs).items():
            assert torch.equal(getattr(ours, field), value), field
    assert any((batch.pitch[:, 0] < 128).any() for batch, _ in single), "no note began before its segment"


def test_missing_shards_say_how_to_make_them(config):
    config.trainer.shar = True
    with pytest.raises(UserError, match="shar/dali_train: no such folder; make it with recipe/export_shar.py"):
        load_cuts(config, "dali_train")
