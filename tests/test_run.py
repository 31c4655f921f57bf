"""run.sh from end to end on a tiny setting, and what it says to mistakes."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile
import yaml
from lhotse import CutSet, SupervisionSet, load_manifest, validate

from altpo_model.checkpoint import load_model
from altpo_model.ultrastar import format_ultrastar
from altpo_model.ultrastar_export import ultrastar_song

ROOT = Path(__file__).parents[1]

SMALL = {"channels": [4, 1], "kernels": [3, 1], "pool_after": 0, "lstm_layers": 1, "lstm_size": 16, "dropout": 0.0}
TRAINING = {"epoch_steps": 4, "epochs": 1, "batch_size": 5, "workers": 0}


def run(*arguments: str, expect: int = 0) -> str:
    """Standard output and error of ./run.sh; the exit status must be as expected and no traceback shown."""
    done = subprocess.run(["./run.sh", *arguments], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    said = done.stdout + done.stderr
    assert done.returncode == expect, said[-4000:]
    assert "Traceback" not in said, said[-4000:]
    return said


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A finished run on a few generated songs: (conf file, its data_dir, its exp_dir, what it said)."""
    folder = tmp_path_factory.mktemp("run")
    data, exp = folder / "data", folder / "exp"
    corpora = data / "corpora"
    content = {
        "base": str(ROOT / "conf" / "mini.yaml"),
        "data_dir": str(data),
        "exp_dir": str(exp),
        "corpora": {
            "mini": {
                "dir": str(corpora), "speech_train": 16, "speech_validation": 3, "speech_test": 3, "dali_train": 10,
                "dali_validation": 1, "dali_test": 2, "rwc": 4, "jamendo": 2, "stems_train": 3, "stems_test": 2,
                "lm_sentences": 2000,
            },
            "librispeech": {"dir": str(corpora / "LibriSpeech")},
            "dali": {"dir": str(corpora / "DALI/annotations"), "audio_dir": str(corpora / "DALI/audio")},
            "rwc": {
                "audio_dir": str(corpora / "RWC/audio"), "train_songs": 3,
                "annotation_dir": str(corpora / "RWC/AIST.RWC-MDB-P-2001.SMF_SYNC"),
            },
            "jamendo": {"dir": str(corpora / "JamendoLyrics")},
        },
        "separation": {
            "model": str(data / "separator"),
            "training": {"stems_dir": str(corpora / "stems"), "steps": 5, "hidden_size": 16},
        },
        "lm": {"text": str(corpora / "LibriSpeech/librispeech-lm-norm.txt.gz")},
        "filter": {"max_error": 1.0},
        "decoding": {"tune_lm_scales": [0.4, 0.9], "tune_word_scores": [0.0, 2.0]},
        "model": {"pitch_onset": {"encoder_conf": SMALL}, "lyrics": {"encoder_conf": {**SMALL, "pool_after": 1}}},
        **{f"{kind}_training": TRAINING for kind in ("filter", "speech", "pitch_onset", "song")},
    }  # fmt: skip
    conf = folder / "tiny.yaml"
    conf.write_text(yaml.safe_dump(content))
    return conf, data, exp, run("--conf", str(conf))


def test_whole_recipe_prints_both_tables_and_writes_every_figure(tiny):
    _, _, exp, said = tiny
    assert "| multitask | songs (DALI) |" in said and "| pitch_onset |" in said
    results = json.loads((exp / "results.json").read_text())
    assert set(results["wer"]) == {"speech", "baseline", "oracle", "multitask"}
    assert set(results["wer"]["multitask"]) == {"dali", "jamendo"}
    for by_set in results["wer"].values():
        for by_method in by_set.values():
            assert list(by_method) == ["ctc-greedy-search", "ctc-beam-search", "1best"]
            assert all(set(figures) == {"corpus", "segments"} for figures in by_method.values())
    assert set(results["notes"]) == {"pitch_onset", "multitask"}
    assert all(len(s["dali"]["COn"]) == len(s["dali"]["COnP"]) == 3 for s in results["notes"].values())
    assert set(results["filter"]) == {"shifts_found", "wrong_rejected", "good_kept"}
    assert set(results["separation"]) == {"si_sdr_mixture", "si_sdr_vocals"}
    assert {"0", "1", "2", "3", "4", "5", "6", "7", "8"} <= set(results["seconds"])
    assert (exp / "report" / "report.md").is_file() and (exp / "report" / "segment.png").is_file()
    assert "%WER" in (exp / "errors" / "multitask-dali_test-1best.txt").read_text()
    for system in ("speech", "baseline", "oracle", "multitask"):
        weights = json.loads((exp / system / "weights.json").read_text())
        assert list(weights) == ["ctc-beam-search", "1best"]
        assert all(set(row) >= {"lm_scale", "word_score", "WERs"} for row in weights.values())
    assert len(json.loads((exp / "alignments" / "multitask" / "jamendo.json").read_text())["songs"]) == 2


def test_every_manifest_is_valid_and_words_are_inside_their_segments(tiny):
    _, data, exp, _ = tiny
    paths = [*data.rglob("*.jsonl.gz"), *exp.rglob("*.jsonl.gz")]
    assert len(paths) > 15
    for path in paths:
        manifest = load_manifest(path)
        validate(manifest)
        if isinstance(manifest, CutSet):
            manifest.describe()
    for cut in load_manifest(data / "cuts" / "dali_test.jsonl.gz"):
        assert cut.load_vocals().shape == cut.load_audio().shape
        for word in cut.supervisions[0].alignment["word"]:
            assert cut.start <= word.start and word.end <= cut.end + 1e-3
    hypotheses = load_manifest(exp / "hypotheses" / "multitask" / "dali_test.ctc-beam-search.jsonl.gz")
    assert isinstance(hypotheses, SupervisionSet)
    for hypothesis in hypotheses:
        carried = hypothesis.custom["words_of_notes"]
        assert len(carried) == len(hypothesis.alignment["note"])
        assert all(word is None or word < len(hypothesis.alignment["word"]) for word in carried)
    assert {h.id for h in hypotheses} == set(load_manifest(data / "cuts" / "dali_test.jsonl.gz").ids)


def test_lhotse_command_line_takes_the_files(tiny, tmp_path):
    _, data, _, _ = tiny
    cuts = data / "cuts" / "dali_train.jsonl.gz"
    for command in (
        ["cut", "describe", str(cuts)],
        ["validate", str(cuts)],
        ["subset", "--first", "2", str(cuts), str(tmp_path / "two.jsonl.gz")],
    ):
        subprocess.run(["lhotse", *command], check=True, capture_output=True)
    assert len(load_manifest(tmp_path / "two.jsonl.gz")) == 2


def test_second_run_does_nothing_again_and_says_so(tiny):
    conf, _, exp, _ = tiny
    before = {path: path.stat().st_mtime_ns for path in exp.rglob("*.pt")}
    said = run("--conf", str(conf))
    assert "+ python" not in said
    assert said.count("done before, nothing changed") >= 12
    assert {path: path.stat().st_mtime_ns for path in exp.rglob("*.pt")} == before


def test_decoding_and_scoring_alone_are_repeated_when_asked_for(tiny):
    conf, _, exp, _ = tiny
    first = json.loads((exp / "results.json").read_text())
    said = run("--conf", str(conf), "--stage", "8", "--stop-stage", "9")
    assert "recipe.decode" in said and "recipe.score" in said and "recipe.train" not in said
    again = json.loads((exp / "results.json").read_text())
    assert again["wer"] == first["wer"] and again["notes"] == first["notes"]


def test_truncated_audio_is_named_left_out_and_counted(tiny):
    conf, data, _, _ = tiny
    for pattern in ("LibriSpeech/train-clean-360/**/*.flac", "DALI/audio/*.flac"):
        path = sorted((data / "corpora").glob(pattern))[0]
        whole = path.read_bytes()
        try:
            path.write_bytes(whole[: len(whole) // 2])
            said = run("--conf", str(conf), "--stage", "1", "--stop-stage", "1")
            assert path.name in said
        finally:
            path.write_bytes(whole)
    assert soundfile.info(path).frames


def test_only_jamendo_with_the_models_of_a_finished_run(tiny, tmp_path):
    conf, data, exp, _ = tiny
    elsewhere = tmp_path / "JamendoLyrics"
    shutil.copytree(data / "corpora" / "JamendoLyrics", elsewhere)
    content = {
        "base": str(ROOT / "conf" / "jamendo.yaml"),
        "data_dir": str(tmp_path / "data"),
        "exp_dir": str(tmp_path / "exp"),
        "trained": {"data_dir": str(data), "exp_dir": str(exp)},
        "separation": {"model": str(data / "separator")},
        "corpora": {"jamendo": {"dir": str(elsewhere)}},
    }
    (tmp_path / "j.yaml").write_text(yaml.safe_dump(content))
    said = run("--conf", str(tmp_path / "j.yaml"))
    assert "recipe.train" not in said
    results = json.loads((tmp_path / "exp" / "results.json").read_text())
    whole_run = json.loads((exp / "results.json").read_text())
    assert results["wer"]["multitask"]["jamendo"] == whole_run["wer"]["multitask"]["jamendo"]


@pytest.fixture(scope="module")
def karaoke(tiny, tmp_path_factory):
    """DALI's test songs as a person would have them: a folder a song, with an UltraStar text and the audio."""
    _, data, _, _ = tiny
    folder = tmp_path_factory.mktemp("karaoke")
    test_songs = {cut.recording_id for cut in load_manifest(data / "cuts" / "dali_test.jsonl.gz")}
    for song in load_manifest(data / "songs" / "dali_selected.jsonl.gz"):
        if song.id in test_songs:
            supervision = song.supervisions[0]
            levels = [supervision.alignment[level] for level in ("word", "syllable", "note")]
            tags = {"TITLE": song.id, "ARTIST": supervision.speaker, "LANGUAGE": "Englisch", "MP3": "audio.flac"}
            place = folder / f'{song.id} - it\'s a "song"'
            place.mkdir()
            (place / "song.txt").write_text(format_ultrastar(ultrastar_song(*levels, tags=tags)), encoding="utf-8")
            shutil.copy(data / "corpora" / "DALI" / "audio" / f"{song.id}.flac", place / "audio.flac")
    assert list(folder.iterdir())
    return folder


def test_karaoke_songs_as_a_test_set_score_as_the_same_songs_of_dali(tiny, karaoke, tmp_path):
    _, data, exp, _ = tiny
    content = {
        "base": str(ROOT / "conf" / "ultrastar.yaml"),
        "data_dir": str(tmp_path / "data"),
        "exp_dir": str(tmp_path / "exp"),
        "trained": {"data_dir": str(data), "exp_dir": str(exp)},
        "separation": {"model": str(data / "separator")},
        "corpora": {"ultrastar": {"dir": str(karaoke)}},
    }
    (tmp_path / "u.yaml").write_text(yaml.safe_dump(content))
    said = run("--conf", str(tmp_path / "u.yaml"))
    assert "recipe.train" not in said
    songs = [path.name.replace(" ", "_") for path in karaoke.iterdir()]
    for song in songs:
        assert f"  {song}: best shift" in said
    results = json.loads((tmp_path / "exp" / "results.json").read_text())
    whole_run = json.loads((exp / "results.json").read_text())
    for system in ("baseline", "oracle", "multitask"):
        assert set(results["songs"]["ultrastar"][system]) == set(songs)
        ours, dali = results["wer"][system]["ultrastar"], whole_run["wer"][system]["dali"]
        assert ours["ctc-greedy-search"]["corpus"] == pytest.approx(dali["ctc-greedy-search"]["corpus"], abs=10)
    words = {row["words"] for row in results["songs"]["ultrastar"]["multitask"].values()}
    assert words == {row["words"] for row in whole_run["songs"]["dali"]["multitask"].values()}
    assert set(results["notes"]) == {"pitch_onset", "multitask"}
    assert f"| {songs[0]} |" in (tmp_path / "exp" / "RESULTS.md").read_text()
    assert (tmp_path / "exp" / "songs.csv").read_text().count("\n") == 1 + 4 * len(songs)


def test_pieces_instead_of_characters_and_every_method_that_needs_no_k2(tiny, tmp_path):
    conf, data, _, _ = tiny
    exp = tmp_path / "exp"
    methods = ["ctc-greedy-search", "ctc-beam-search", "ctc-beam-search-lexicon-free", "ctc-decoding", "1best"]
    keys = (
        "lang=bpe_60", f"exp_dir={exp}", f"decoding.methods=[{', '.join(methods)}]", "decoding.tune_lm_scales=[0.4]",
        "decoding.tune_word_scores=[0.0]", "decoding.backend=kaldi",
    )  # fmt: skip
    options = [part for key in keys for part in ("--set", key)]
    said = run("--conf", str(conf), *options, "--stage", "5", "--stop-stage", "9", "--system", "baseline")
    assert "lang_bpe_60: 60 tokens" in said and "lang_bpe_60.bin: 6-gram model over tokens" in said
    assert load_model(exp / "baseline" / "model.pt")[1].symbol(1) == "<sos/eos>"
    by_method = json.loads((exp / "results.json").read_text())["wer"]["baseline"]["dali"]
    assert list(by_method) == methods
    assert by_method["ctc-decoding"] == by_method["ctc-greedy-search"]


def test_karaoke_songs_join_the_training_songs(tiny, karaoke, tmp_path):
    """The last of those that use ``tiny``: it adds to its data."""
    conf, data, _, _ = tiny
    keys = (f"corpora.ultrastar.dir={karaoke}", "corpora.ultrastar.split=train", f"exp_dir={tmp_path / 'exp'}")
    options = [part for key in keys for part in ("--set", key)]
    said = run("--conf", str(conf), *options, "--stop-stage", "7", "--system", "pitch_onset")
    segments = len(load_manifest(data / "cuts" / "ultrastar_train.jsonl.gz"))
    assert f"ultrastar_train: {segments} segments" in said and segments > 0
    assert not (data / "cuts" / "ultrastar_test.jsonl.gz").exists()
    assert (tmp_path / "exp" / "pitch_onset" / "model.pt").is_file()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--conf", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["--frobnicate"], 2, "--frobnicate"),
        (["--stage"], 2, "--stage needs a value"),
        (["--stage", "eleven"], 2, "0 to 10"),
        (["--system", "multi"], 2, "'multi'"),
        (["--set", "decoding.baem=3"], 1, "did you mean `decoding.beam`"),
        (["--set", "decoding.beam=many"], 1, "whole number"),
        (["--stage", "1", "--set", "corpora.dali.dir=/no/such/folder"], 1, "/no/such/folder"),
    ],
)
def test_mistake_is_told_in_two_lines_at_most(arguments, status, message, tmp_path):
    safe = ["--set", f"data_dir={tmp_path}/data", "--set", "corpora.librispeech=null"]
    done = subprocess.run(["./run.sh", *safe, *arguments], cwd=ROOT, capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert len(errors) <= 2, done.stderr
