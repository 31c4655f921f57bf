import json
import math
import urllib.error

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from lhotse import CutSet, load_manifest, validate
from openunmix.model import OpenUnmix
from tiny_audio import assert_one_clear_line, run_program, truncate, write_conf, write_sine

from altpo_model.errors import UserError
from altpo_model.separation import StreamingResampler, load_separator, separate_stream
from separation_score import si_sdr


def write_random_model(folder, sample_rate=16000, channels=1, n_fft=512, layers=3):
    """An untrained Open-Unmix in the layout of its own loader."""
    torch.manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
    model = OpenUnmix(nb_bins=n_fft // 2 + 1, nb_channels=channels, hidden_size=16, nb_layers=layers)
    torch.save(model.state_dict(), folder / "vocals.pth")
    (folder / "vocals.json").write_text(
        json.dumps({"args": {"nfft": n_fft, "nb_channels": channels, "hidden_size": 16}})
    )
    (folder / "separator.json").write_text(
        json.dumps({"sample_rate": sample_rate, "nfft": n_fft, "nhop": n_fft // 4, "nb_channels": channels})
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_random_model(tmp_path_factory.mktemp("models") / "mono16k")


def noise(seconds, rate, channels=1):
    return 0.1 * torch.randn(channels, round(seconds * rate), generator=torch.Generator().manual_seed(0))


def blocks(signal, size):
    return [signal[:, start : start + size] for start in range(0, signal.shape[1], size)]


def collect(pairs):
    mixture, vocals = zip(*pairs, strict=True)
    return torch.cat(mixture), torch.cat(vocals)


@pytest.mark.parametrize("rates", [(44100, 16000), (22050, 16000), (48000, 16000), (16000, 44100), (8000, 16000)])
@pytest.mark.parametrize("size", [100, 4410, 100000])
def test_a_resampled_stream_is_the_resampled_whole(rates, size):
    signal = noise(1.234, rates[0], channels=2)
    resampler = StreamingResampler(*rates)
    parts = [resampler.push(block) for block in blocks(signal, size)] + [resampler.flush()]
    expected = torchaudio.functional.resample(signal, *rates)
    assert torch.allclose(torch.cat(parts, dim=-1), expected, atol=1e-6)


def test_chunks_give_what_the_whole_gives(model):
    """With random weights, the memory of the BLSTM is short: away from the borders nothing of a chunk may be seen."""
    separator = load_separator(str(model))
    signal = noise(12.0, 16000)
    whole = separator(signal)[0]
    _, chunked = collect(separate_stream(blocks(signal, 16000), 16000, separator, 4.0, 1.0, 16000))
    assert chunked.shape == whole.shape
    difference = (chunked - whole).abs()
    assert difference.max() < 0.02 * whole.abs().max()
    away = torch.ones(len(whole), dtype=bool)
    for start in range(3, 12, 3):  # chunks of 4 s that overlap by 1 s meet in [3, 4], [6, 7], [9, 10]
        away[round((start - 0.5) * 16000) : round((start + 1.5) * 16000)] = False
    assert difference[away].max() < 1e-4 * whole.abs().max()


def test_the_division_into_blocks_changes_nothing(model):
    separator = load_separator(str(model))
    signal = noise(9.0, 44100, channels=2)
    results = [
        collect(separate_stream(blocks(signal, size), 44100, separator, 4.0, 1.0, 16000)) for size in (44100, 7777)
    ]
    for first, second in zip(*results, strict=True):
        assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 300, 44099, 44100, 44100 * 7 + 1])
@pytest.mark.parametrize("model_rate", [16000, 44100])
def test_mixture_and_vocals_have_the_length_of_the_song(tmp_path, samples, model_rate):
    separator = load_separator(str(write_random_model(tmp_path, model_rate, channels=2)))
    signal = noise(8.0, 44100, channels=2)[:, :samples]
    mixture, vocals = collect(separate_stream(blocks(signal, 20000), 44100, separator, 3.0, 1.0, 16000))
    assert len(mixture) == len(vocals) == math.ceil(samples * 16000 / 44100)
    assert torch.allclose(mixture, torchaudio.functional.resample(signal.mean(0), 44100, 16000), atol=1e-6)


def test_memory_does_not_grow_with_the_song(model):
    """What is held between blocks stays below two chunks, however many blocks have passed."""
    separator = load_separator(str(model))
    fed = yielded = most = 0

    def feed():
        nonlocal fed
        for _ in range(60):
            fed += 16000
            yield noise(1.0, 16000)

    for mixture, vocals in separate_stream(feed(), 16000, separator, 4.0, 1.0, 16000):
        yielded += len(vocals)
        most = max(most, fed - yielded, len(mixture))
    assert yielded == fed and most <= 2 * 4 * 16000


def test_the_loaded_model_is_in_evaluation_mode_and_repeats_itself(model):
    separator = load_separator(str(model))
    signal = noise(2.0, 16000)
    assert torch.equal(separator(signal), separator(signal))


def test_si_sdr_is_that_of_its_definition():
    """An estimate of the reference and an orthogonal error of a tenth of its energy: 10 dB, at any scale."""
    reference = torch.tensor([1.0, 1.0, 0.0, 0.0])
    error = torch.tensor([0.0, 0.0, 1.0, -1.0]) / math.sqrt(10)
    assert si_sdr(3 * (reference + error), reference) == pytest.approx(10.0, abs=1e-3)


def test_a_model_that_cannot_be_had_is_one_clear_line(tmp_path, model, monkeypatch):
    with pytest.raises(UserError, match="neither a directory nor a pretrained"):
        load_separator("nowhere/model")
    with pytest.raises(UserError, match="has no separator.json"):
        load_separator(str(tmp_path))
    two_layers = write_random_model(tmp_path / "two", layers=2)
    with pytest.raises(UserError, match="three LSTM layers"):
        load_separator(str(two_layers))
    (two_layers / "vocals.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_separator(str(two_layers))

    def no_network(*arguments, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    with pytest.raises(UserError, match="umxhq could not be downloaded"):
        load_separator("umxhq")


@pytest.fixture
def songs(tmp_path, model):
    """A prepared JamendoLyrics of a stereo MP3 and a stereo FLAC at 44.1 kHz; returns the conf file."""
    root = tmp_path / "JamendoLyrics"
    for folder in ("lyrics", "annotations/words"):
        (root / folder).mkdir(parents=True)
    rows = ["URL,Filepath,Artist,Language"]
    for song, suffix in (("One", ".mp3"), ("Two_é", ".flac")):
        write_sine(root / "mp3" / f"{song}{suffix}", 5.0, rate=44100, channels=2)
        (root / "lyrics" / f"{song}.words.txt").write_text("la\nla")
        (root / "annotations/words" / f"{song}.csv").write_text("word_start,word_end,line_end\n0,1,nan\n1,2,2\n")
        rows.append(f"u,{song}.mp3,A,English")
    (root / "JamendoLyrics.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    separation = {"model": str(model), "chunk_seconds": 3.0, "overlap_seconds": 0.5}
    conf = write_conf(tmp_path, {"corpora": {"jamendo": {"dir": str(root)}}, "separation": separation})
    assert run_program("prepare_jamendo", "--conf", conf).returncode == 0
    return conf


def test_songs_become_cuts_with_16_khz_mono_flac(songs, tmp_path):
    done = run_program("separate", "--conf", songs, "--set", "jobs=2")
    assert done.returncode == 0, done.stderr
    cuts = CutSet.from_file(tmp_path / "data/songs/jamendo_test.jsonl.gz")
    assert [cut.id for cut in cuts] == ["One", "Two_é"]
    for cut in cuts:
        for name, recording in (("mixture", cut.recording), ("vocals", cut.vocals)):
            path = tmp_path / "data/audio/jamendo" / cut.id / f"{name}.flac"
            assert recording.sources[0].source == str(path)
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert cut.load_audio().shape == cut.load_vocals().shape
        assert [item.symbol for item in cut.supervisions[0].alignment["word"]] == ["la", "la"]
    assert {cut.id: cut.load_audio().shape for cut in cuts}["Two_é"] == (1, 80000)
    validate(cuts, read_data=True)
    assert len(load_manifest(tmp_path / "data/songs/jamendo_test.jsonl.gz")) == 2


def test_shards_divide_the_songs_and_the_last_run_only_joins_them(songs, tmp_path):
    folder, manifest = tmp_path / "data/audio/jamendo", tmp_path / "data/songs/jamendo_test.jsonl.gz"
    for shard, done_so_far in ((1, ["Two_é"]), (0, ["One", "Two_é"])):
        done = run_program("separate", "--conf", songs, "--shard", shard, "--num-shards", 2)
        assert done.returncode == 0, done.stderr
        assert sorted(path.parent.name for path in folder.glob("*/vocals.flac")) == done_so_far
        assert not manifest.exists()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.flac")}
    assert run_program("separate", "--conf", songs).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*.flac")} == before and len(before) == 4
    assert [cut.id for cut in load_manifest(manifest)] == ["One", "Two_é"]


def test_a_finished_song_is_separated_again_only_when_source_or_model_changed(songs, tmp_path):
    vocals = [tmp_path / "data/audio/jamendo" / song / "vocals.flac" for song in ("One", "Two_é")]

    def written_again(*arguments):
        before = [path.stat().st_mtime_ns for path in vocals]
        done = run_program("separate", "--conf", songs, *arguments)
        assert done.returncode == 0, done.stderr
        return [path.stat().st_mtime_ns != old for path, old in zip(vocals, before, strict=True)]

    assert run_program("separate", "--conf", songs).returncode == 0
    assert written_again() == [False, False]
    write_sine(tmp_path / "JamendoLyrics/mp3/Two_é.flac", 5.0, rate=44100, channels=2, frequency=330)
    assert written_again() == [False, True]
    (vocals[0].parent / "separated.json").unlink()  # as a killed run leaves it
    assert written_again() == [True, False]
    other = write_random_model(tmp_path / "other", n_fft=1024)
    assert written_again("--set", f"separation.model={other}") == [True, True]


def test_a_song_that_breaks_off_is_named_left_out_and_counted(songs, tmp_path):
    truncate(tmp_path / "JamendoLyrics/mp3/Two_é.flac")
    done = run_program("separate", "--conf", songs)
    assert done.returncode == 0, done.stderr
    assert "1 songs" in done.stdout and "broken audio: 1 (Two_é: breaks off at" in done.stdout
    assert not list((tmp_path / "data/audio/jamendo/Two_é").iterdir())


def test_full_scale_does_not_wrap(songs, tmp_path):
    """A square wave at full scale overshoots when it is resampled."""
    square = np.sign(np.sin(2 * np.pi * 441 * np.arange(44100 * 5) / 44100))
    soundfile.write(tmp_path / "JamendoLyrics/mp3/Two_é.flac", np.stack([square, square], axis=1), 44100)
    assert run_program("separate", "--conf", songs).returncode == 0
    stored, _ = soundfile.read(tmp_path / "data/audio/jamendo/Two_é/mixture.flac")
    expected = torchaudio.functional.resample(torch.tensor(square, dtype=torch.float32), 44100, 16000).clamp(-1, 1)
    assert np.abs(stored - expected.numpy()).max() < 2e-3


def test_no_manifest_and_no_model_stop_with_one_line(tmp_path, songs):
    conf = tmp_path / "tiny.yaml"
    missing = run_program("separate", "--conf", conf, "--set", "separation.model=no/model")
    assert_one_clear_line(missing, "separation.model", "no/model")
    assert_one_clear_line(
        run_program("separate", "--conf", conf, "--set", f"data_dir={tmp_path / 'empty'}"), "stage 1", "jamendo"
    )
    assert_one_clear_line(run_program("separate", "--shard", 2, "--num-shards", 2), "--shard 2 is not one of 2")


def write_stems(folder, seconds=3.0):
    """Vocals high up, accompaniment low down: a separator learns that quickly."""
    time = np.arange(round(seconds * 22050)) / 22050
    for part, tracks in (("train", 3), ("test", 2)):
        for track in range(tracks):
            vocals = 0.3 * np.sin(2 * np.pi * (1500 + 400 * track) * time) * (np.sin(2 * np.pi * time) > 0)
            accompaniment = 0.3 * np.sin(2 * np.pi * (150 + 40 * track) * time)
            path = folder / part / f"Track {track}"
            path.mkdir(parents=True)
            soundfile.write(path / "mixture.wav", vocals + accompaniment, 22050, subtype="PCM_16")
            soundfile.write(path / "vocals.wav", vocals, 22050, subtype="PCM_16")


TINY_TRAINING = {"n_fft": 256, "n_hop": 128, "hidden_size": 32, "steps": 60, "batch_size": 4, "segment_seconds": 1.0}


def test_training_writes_a_model_that_open_unmix_loads_and_that_separates(tmp_path):
    write_stems(tmp_path / "stems")
    training = {**TINY_TRAINING, "stems_dir": str(tmp_path / "stems")}
    conf = write_conf(tmp_path, {"separation": {"model": str(tmp_path / "model"), "training": training}})
    done = run_program("train_separator", "--conf", conf)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "model/si_sdr.json").read_text())
    assert scores["si_sdr_vocals"] > scores["si_sdr_mixture"] + 3
    assert f"{scores['si_sdr_vocals']:.2f} dB" in done.stdout
    assert load_separator(str(tmp_path / "model")).sample_rate == 16000
    assert sorted(path.name for path in tmp_path.iterdir() if "model" in path.name) == ["model"]
    weights = (tmp_path / "model/vocals.pth").read_bytes()
    assert run_program("train_separator", "--conf", conf).returncode == 0
    assert (tmp_path / "model/vocals.pth").read_bytes() == weights, "the same seed gave another model"


def test_missing_stems_stop_with_one_line_and_leave_the_old_model(tmp_path):
    model = write_random_model(tmp_path / "model")
    training = {**TINY_TRAINING, "stems_dir": str(tmp_path / "nowhere")}
    conf = write_conf(tmp_path, {"separation": {"model": str(model), "training": training}})
    assert_one_clear_line(run_program("train_separator", "--conf", conf), "nowhere", "separation.training.stems_dir")
    assert (model / "vocals.pth").is_file()
