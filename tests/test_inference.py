"""What a trained system says of segments and of whole songs."""

import numpy as np
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from test_align import SMALL

from altpo_model.checkpoint import save_model
from altpo_model.config import Config, Features
from altpo_model.model import JointModel
from altpo_model.posteriors import song_output
from altpo_model.tokens import CharTokens
from recipe.inference import System

RATE = 16000


def song(folder, name, seconds):
    samples = 0.1 * np.random.default_rng(len(name)).standard_normal(int(seconds * RATE)).astype(np.float32)
    soundfile.write(folder / f"{name}.flac", samples, RATE)
    recording = Recording.from_file(folder / f"{name}.flac", recording_id=name)
    supervision = SupervisionSegment(name, name, 0.0, recording.duration, text="")
    return MonoCut(name, 0.0, recording.duration, 0, [supervision], recording=recording, custom={"vocals": recording})


def test_whole_songs_among_segments_are_taken_in_chunks(tmp_path):
    torch.manual_seed(0)
    config = Config(exp_dir=str(tmp_path), model=SMALL)
    model = JointModel(config.model, Features(), len(CharTokens()), "multitask")
    save_model(tmp_path / "multitask" / "model.pt", model, config, CharTokens())
    cuts = CutSet.from_cuts([song(tmp_path, "short", 3.0), song(tmp_path, "whole", 130.0)])
    outputs = System(config, "multitask").outputs(cuts, "test")
    assert {cut.id: len(p) for cut, p in zip(outputs.cuts, outputs.log_probs, strict=True)} == {
        "whole": 130 * RATE // 256 // 2 + 1,
        "short": 3 * RATE // 256 // 2 + 1,
    }
    assert len(outputs.notes) == 2
    samples = torch.from_numpy(np.concatenate([cuts["whole"].load_vocals(), cuts["whole"].load_audio()]))
    expected = song_output(model.eval(), samples).log_probs[0]
    assert torch.allclose(torch.from_numpy(outputs.log_probs[0]), expected, atol=1e-5)
