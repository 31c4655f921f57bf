"""Alignment of given lyrics: posteriors whose answers are worked out by hand, chunks, the command line."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mir_eval
import numpy as np
import pytest
import soundfile
import torch
import yaml
from lhotse import load_manifest, validate
from mini_songs import write_cuts
from test_audio_files import write_by_ffmpeg
from test_separation import write_random_model
from torch import nn

from altpo_model.checkpoint import save_model
from altpo_model.config import Alignment, Config, Features, Model, Network
from altpo_model.decoding.align import Aligner, alignment_score
from altpo_model.errors import UserError
from altpo_model.model import SYSTEMS, JointModel, Output
from altpo_model.posteriors import song_log_probs, song_output
from altpo_model.tokens import CharTokens
from recipe.align import alignment_errors, as_json, as_lrc, as_text, main, read_lyrics

ROOT = Path(__file__).parents[1]
TOKENS = CharTokens()
FRAME = 0.1  # seconds

SMALL = Model(
    pitch_onset=Network(
        "crnn",
        {"channels": [4, 1], "kernels": [3, 1], "pool_after": 0, "lstm_layers": 1, "lstm_size": 8, "dropout": 0.0},
    ),
    lyrics=Network(
        "crnn",
        {"channels": [4, 4], "kernels": [3, 3], "pool_after": 1, "lstm_layers": 1, "lstm_size": 8, "dropout": 0.0},
    ),
)


def emissions(path: str, surely: float = 0.9) -> torch.Tensor:
    """Log probabilities (T, 34) of ``path``, one character a frame, ``_`` the blank; the others share the rest."""
    probabilities = torch.full((len(path), len(TOKENS)), (1 - surely) / (len(TOKENS) - 1))
    for frame, character in enumerate(path):
        probabilities[frame, TOKENS.blank if character == "_" else TOKENS.encode(character)[0]] = surely
    return probabilities.log()


def align(path: str, *lines: str, language: str | None = None, **options):
    return Aligner(TOKENS, Alignment(**options)).align(
        emissions(path), [line.split() for line in lines], FRAME, language
    )


def times(aligned) -> list[tuple[str, float, float]]:
    return [(word.text, round(word.start, 6), round(word.end, 6)) for word in aligned.words]


def test_times_and_confidence_of_a_case_by_hand():
    # h i in frames 3 and 4, y o in 6 and 7; frame i is centred at i / 10 s and begins half a frame earlier.
    aligned = align("___hi yo____", "hi yo")
    # hi begins at (3 - 0.5) - 1 of margin; it ends, and yo begins, in the middle of frame 5; yo ends at 7.5 + 1.
    assert times(aligned) == [("hi", 0.15, 0.5), ("yo", 0.5, 0.85)]
    assert [word.confidence for word in aligned.words] == pytest.approx([0.9, 0.9])
    assert aligned.score == aligned.lines[0].score == pytest.approx(math.log(0.9))
    assert aligned.unexplained == 0.0


def test_margin_is_at_most_half_of_the_gap_and_stays_inside_the_audio():
    assert times(align("_hi___yo_", "hi yo", margin=0.0)) == [("hi", 0.05, 0.25), ("yo", 0.55, 0.75)]
    assert times(align("_hi___yo_", "hi yo", margin=1.0)) == [("hi", 0.0, 0.35), ("yo", 0.45, 0.85)]
    assert times(align("_hi___yo_", "hi yo", margin=9.0)) == [("hi", 0.0, 0.4), ("yo", 0.4, 0.9)]


def test_confidence_is_the_geometric_mean_of_the_characters_best_frames():
    log_probs = emissions("_hhi_")
    log_probs[1, TOKENS.encode("h")[0]] = math.log(0.5)
    log_probs[3, TOKENS.encode("i")[0]] = math.log(0.4)
    aligned = Aligner(TOKENS, Alignment()).align(log_probs, [["hi"]], FRAME)
    assert aligned.words[0].confidence == pytest.approx(math.sqrt(0.9 * 0.4))
    assert aligned.score == pytest.approx(alignment_score([math.log(0.9), math.log(0.4)]))


def test_path_is_the_best_of_all_paths():
    random = np.random.default_rng(5)
    log_probs = np.log(random.dirichlet(np.full(len(TOKENS), 0.5), size=9)).astype(np.float32)
    options = Alignment(margin=0.0, floor=1e-30)
    aligned = Aligner(TOKENS, options).align(log_probs, [["ab", "a"]], FRAME)
    silent = [TOKENS.blank, TOKENS.space, *TOKENS.encode(",.?!-'")]
    gap = np.logaddexp.reduce(log_probs[:, silent], axis=1)
    blank = log_probs[:, TOKENS.blank] + math.log(options.blank_weight)
    a, b = (log_probs[:, index] for index in TOKENS.encode("ab"))
    labels = [gap, a, b, gap, a, gap]

    def best(frame: int, label: int, in_blank: bool) -> tuple[float, tuple]:
        """The best continuation from a state of the CTC graph, by trying all of them."""
        score = (blank if in_blank else labels[label])[frame]
        if frame == 8:
            return (score, ()) if label == 5 else (-math.inf, ())
        following = [(label, in_blank)]
        if not in_blank:
            following.append((label, True))
        if label < 5:
            following.append((label + 1, False))
        continuations = []
        for state in following:
            value, rest = best(frame + 1, *state)
            continuations.append((value, ((frame + 1, *state), *rest)))
        value, rest = max(continuations)
        return score + value, rest

    starts = []
    for in_blank, label in ((True, -1), (False, 0)):
        value, rest = best(0, label, in_blank)
        starts.append((value, ((0, label, in_blank), *rest)))
    states = max(starts)[1]
    frames = {label: [f for f, at, in_blank in states if at == label and not in_blank] for label in (1, 2, 4)}
    expected = [
        (frames[1][0] - 0.5, frames[2][-1] + 0.5),
        (frames[4][0] - 0.5, frames[4][-1] + 0.5),
    ]
    assert [(word.start / FRAME, word.end / FRAME) for word in aligned.words] == [
        pytest.approx((max(0.0, start), end), abs=1e-6) for start, end in expected
    ]


def test_lines_keep_their_structure_and_their_words_as_they_stood():
    aligned = align("_hel_lo_world__we're here_", '"Hello,', "", "world!", "We’re here...")
    assert [[word.text for word in line.words] for line in aligned.lines] == [
        ['"Hello,'],
        [],
        ["world!"],
        ["We’re", "here..."],
    ]
    assert aligned.lines[1].score is None
    starts = [word.start for word in aligned.words]
    assert starts == sorted(starts) and all(word.confidence > 0.8 for word in aligned.words)


@pytest.mark.parametrize("lyrics", ["hi yo", "Hi, yo!", "hi -- yo?", "'hi' yo"])
@pytest.mark.parametrize("path", ["___hi yo____", "___hi,yo!___", "___hi_yo__._"])
def test_punctuation_changes_nothing_whether_network_or_lyrics_have_it(path, lyrics):
    aligned = align(path, lyrics)
    sung = [(word.start, word.end, word.confidence) for word in aligned.words if word.text != "--"]
    assert sung == [pytest.approx((0.15, 0.5, 0.9)), pytest.approx((0.5, 0.85, 0.9))]


def test_words_without_a_character_lie_between_their_neighbours():
    aligned = align("__hi____yo__", "♪ hi *** ♪", "yo ♫")
    assert times(aligned) == [
        ("♪", 0.05, 0.05),
        ("hi", 0.05, 0.45),
        ("***", 0.45, 0.55),
        ("♪", 0.55, 0.65),
        ("yo", 0.65, 1.05),
        ("♫", 1.05, 1.05),
    ]
    assert [word.confidence > 0 for word in aligned.words] == [False, True, False, False, True, False]
    assert align("__hi__", "***", "hi").lines[0].score is None


def test_a_word_that_is_sung_as_several_is_one():
    path = "_twenty_four seven_"
    assert times(align(path, "24 seven")) == [("24", 0.0, 1.2), ("seven", 1.2, 1.85)]
    assert [word.text for word in align("_vier_", "4", language="de").words] == ["4"]
    assert align("_vier_", "4", language="de").score > align("_vier_", "4").score


def test_first_character_that_the_network_did_not_hear_stays_with_its_word():
    path = list("_ok________________hey_")
    path[19] = "_"  # the h of hey
    log_probs = emissions("".join(path), surely=0.999)
    log_probs[3:20, TOKENS.encode("h")[0]] -= 5.0
    log_probs[4, TOKENS.encode("h")[0]] += 6.0  # a trace of it, far before
    at = {
        weight: Aligner(TOKENS, Alignment(blank_weight=weight)).align(log_probs, [["ok", "hey"]], FRAME).words[1].start
        for weight in (1.0, Alignment.blank_weight)
    }
    assert at[1.0] == pytest.approx(0.3, abs=0.051)
    assert at[Alignment.blank_weight] == pytest.approx(1.8, abs=0.051)


class Pieces:
    """Tokens as SentencePiece has them: the first of a word begins with its boundary, and there is no space."""

    symbols = ("<blk>", "<unk>", "▁hi", "▁y", "o", "▁,", "▁")
    blank, space = 0, None

    def __len__(self):
        return len(self.symbols)

    def symbol(self, index):
        return self.symbols[index]

    def spelling(self, word):
        if word == "rock":
            raise ValueError("no pieces")
        return {"hi": [2], "yo": [3, 4]}[word]


def test_pieces_align_as_characters_do():
    path = [0, 0, 0, 2, 2, 5, 3, 4, 0, 0, 0, 0]
    probabilities = torch.full((len(path), 7), 0.1 / 6)
    probabilities[range(len(path)), path] = 0.9
    aligned = Aligner(Pieces(), Alignment()).align(probabilities.log(), [["Hi,", "rock", "yo"]], FRAME)
    assert times(aligned) == [("Hi,", 0.15, 0.5), ("rock", 0.5, 0.5), ("yo", 0.5, 0.85)]
    assert [word.confidence for word in aligned.words] == pytest.approx([0.9, 0.0, 0.9])
    assert aligned.unexplained == 0.0


SONG = "___my love___stay away___tonight my love___"


def test_star_takes_a_line_that_the_lyrics_lack():
    whole = align(SONG, "my love", "stay away", "tonight my love")
    lacking = align(SONG, "my love", "tonight my love", star=True)
    assert times(lacking) == [word for line in (0, 2) for word in times_of(whole.lines[line])]
    assert lacking.score == pytest.approx(math.log(0.9))
    heard = len(SONG.replace("_", "").replace(" ", ""))
    assert lacking.unexplained == pytest.approx(len("stayaway") / heard)
    assert times(align(SONG, "stay away", star=True)) == times_of(whole.lines[1])


def times_of(line) -> list[tuple[str, float, float]]:
    return [(word.text, round(word.start, 6), round(word.end, 6)) for word in line.words]


def test_star_costs_nothing_where_the_lyrics_are_complete():
    lines = ("my love", "stay away", "tonight my love")
    assert times(align(SONG, *lines, star=True)) == times(align(SONG, *lines))


@pytest.mark.parametrize("star", [False, True])
def test_line_that_is_not_sung_moves_no_other_and_is_found_by_its_score(star):
    path = SONG.replace("___", "_" * 15)
    right = align(path, "my love", "stay away", "tonight my love", star=star)
    more = align(path, "my love", "quick fox", "stay away", "tonight my love", star=star)
    others = [*more.lines[:1], *more.lines[2:]]
    for line, expected in zip(others, right.lines, strict=True):
        for word, there in zip(line.words, expected.words, strict=True):
            assert (word.start, word.end) == pytest.approx((there.start, there.end), abs=1.01 * FRAME)
        assert line.score > Alignment.min_score
    assert more.lines[1].score < Alignment.min_score


def test_wrong_lyrics_score_less_than_right_ones():
    right = align(SONG, "my love", "stay away", "tonight my love")
    wrong = align(SONG, "the quick brown fox", "jumps over")
    assert wrong.score < Alignment.min_score < right.score
    assert wrong.unexplained > right.unexplained


def test_lyrics_that_the_audio_cannot_hold_are_one_line():
    # Characters, the gaps around and between the words, and a frame between the two l: 5 + 3 + 5 + 1.
    assert len(align("_" * 14, "hello world").words) == 2
    with pytest.raises(UserError, match=r"too long for the audio: .* less than 1\.4 s, and the audio has 1\.3 s"):
        align("_" * 13, "hello world")
    with pytest.raises(UserError, match="too long for the audio"):
        align("_" * 100, *["stay away tonight my love"] * 10)


@pytest.mark.parametrize("lines", [(), ("",), ("♪ ***", "", "...")])
def test_lyrics_without_a_letter_are_one_line(lines):
    with pytest.raises(UserError, match="the lyrics are empty"):
        align("______", *lines)


def test_another_number_of_classes_is_refused():
    with pytest.raises(UserError, match="29 classes a frame and the token table has 34"):
        Aligner(TOKENS, Alignment()).align(torch.zeros(9, 29), [["hi"]], FRAME)


class LocalModel(nn.Module):
    """Stands for a model: each frame is the sum of its own samples, so that a chunk gives what the whole does."""

    def __init__(self, subsampling: int):
        super().__init__()
        self.system = "multitask"
        self.weight = nn.Parameter(torch.ones(1))
        self.features = SimpleNamespace(hop=256, mel=SimpleNamespace(sample_rate=16000))
        self.lyrics = SimpleNamespace(encoder=SimpleNamespace(subsampling=subsampling))

    def forward(self, batch):
        frames = batch.waveforms[..., : batch.waveforms.shape[2] // 256 * 256].unflatten(2, (-1, 256)).sum(3)  # (1,2,T)
        every = frames[..., :: self.lyrics.encoder.subsampling].transpose(1, 2)
        return Output(batch.num_samples // 256, every, None, frames, frames[:, 0])


@pytest.mark.parametrize("subsampling", [1, 2, 4])
@pytest.mark.parametrize("samples", [256, 5000, 63 * 256, 64 * 256, 64 * 256 + 3, 65 * 256, 100_000, 123_457])
def test_chunks_join_to_the_frames_of_the_whole(samples, subsampling):
    model = LocalModel(subsampling)
    waveforms = torch.randn(2, samples)
    whole = song_output(model, waveforms, chunk_seconds=1e3)
    chunked = song_output(model, waveforms, chunk_seconds=1.0, context_seconds=0.2)
    for name in ("log_probs", "pitch_logits", "onset_logits"):
        assert torch.equal(getattr(chunked, name), getattr(whole, name)), name
    assert chunked.lengths.tolist() == [samples // 256]
    assert chunked.log_probs_lengths.tolist() == [-(-(samples // 256) // subsampling)]


@pytest.mark.parametrize("system", [system for system in SYSTEMS if system != "oracle"])
def test_chunks_of_a_network_are_as_the_whole_where_context_is_kept(system):
    torch.manual_seed(1)
    model = JointModel(SMALL, Features(), len(TOKENS), system).eval()
    waveforms = 0.1 * torch.randn(2, 16000 * 30)
    whole = song_output(model, waveforms, chunk_seconds=1e3)
    chunked = song_output(model, waveforms, chunk_seconds=10.0, context_seconds=2.0)
    cut = song_output(model, waveforms, chunk_seconds=6.0, context_seconds=0.0)
    for name in ("log_probs", "pitch_logits", "onset_logits"):
        if getattr(whole, name) is None:
            assert getattr(chunked, name) is None
            continue
        # Not equal, since instance norm sees the chunk alone.
        off, off_without = ((getattr(x, name) - getattr(whole, name)).abs().quantile(0.99) for x in (chunked, cut))
        assert off < 0.1 and off_without > 3 * off, name
    if whole.log_probs is not None:
        assert torch.equal(song_log_probs(model, waveforms), song_output(model, waveforms).log_probs[0])


def test_what_cannot_be_asked_of_a_model_is_one_line():
    model = JointModel(SMALL, Features(), len(TOKENS), "oracle")
    with pytest.raises(UserError, match="oracle"):
        song_output(model, torch.zeros(2, 16000))
    model = JointModel(SMALL, Features(), len(TOKENS), "multitask").eval()
    with pytest.raises(UserError, match="no samples"):
        song_output(model, torch.zeros(2, 0))
    assert song_output(model, torch.zeros(2, 100)).log_probs.shape == (1, 1, len(TOKENS))


def test_ten_minutes_align_in_less_than_four_gigabytes():
    program = """
import resource, torch
torch.set_num_threads(1)
from altpo_model.config import Alignment, load_config
from altpo_model.decoding.align import Aligner
from altpo_model.model import JointModel
from altpo_model.posteriors import song_log_probs
from altpo_model.tokens import CharTokens
config = load_config("conf/mini.yaml")
model = JointModel(config.model, config.features, 34, "multitask").eval()
log_probs = song_log_probs(model, 0.1 * torch.randn(2, 600 * 16000))
aligned = Aligner(CharTokens(), Alignment(star=True)).align(log_probs, [["stay", "away", "tonight"]] * 400, 0.032)
print(len(aligned.words), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    words, gigabytes = done.stdout.split()
    assert int(words) == 1200 and float(gigabytes) < 4


def test_errors_are_those_of_mir_eval_by_hand():
    reference, estimated = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.1, 1.0, 2.5, 4.2])
    assert alignment_errors(reference, estimated) == {
        "median": pytest.approx((0.1 + 0.5) / 2),
        "average": pytest.approx((0.1 + 0.0 + 0.5 + 1.2) / 4),
        "within": 50.0,
        "far": 25.0,
    }


def test_formats(tmp_path):
    aligned = align("___hi yo____", "Hi, yo", "", "♪")
    assert (
        as_lrc(aligned) == "[00:00.15] <00:00.15> Hi, <00:00.50> yo <00:00.85>\n\n[00:00.85] <00:00.85> ♪ <00:00.85>\n"
    )
    assert as_text(aligned) == ("0.150\t0.500\t0.900\tHi,\n0.500\t0.850\t0.900\tyo\n\n0.850\t0.850\t0.000\t♪\n")
    content = json.loads(as_json(aligned))
    assert [line["text"] for line in content["lines"]] == ["Hi, yo", "", "♪"]
    assert content["lines"][0]["words"][1] == {"word": "yo", "start": 0.5, "end": 0.85, "confidence": 0.9}
    lyrics = tmp_path / "song.txt"
    lyrics.write_bytes("\ufeff[Verse 1]\nHi, yo\r\n\n[Chorus] \nwe stay\n".encode())
    assert read_lyrics(lyrics) == [["Hi,", "yo"], [], ["we", "stay"]]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A conf whose run has untrained models and three songs, one of them with far too many words."""
    folder = tmp_path_factory.mktemp("align")
    cuts = load_manifest(write_cuts(folder / "data", "jamendo_test", 3, song=True))
    songs = []
    for song in cuts:
        if song.id.endswith("2"):
            supervision = song.supervisions[0]
            supervision.text, supervision.alignment = " ".join(["tonight"] * 100), None
        songs.append(song)
    (folder / "data" / "songs").mkdir()
    cuts.from_cuts(songs).to_file(folder / "data" / "songs" / "jamendo_test.jsonl.gz")
    cuts.from_cuts(songs[:1]).to_file(folder / "data" / "songs" / "jamendo_selected.jsonl.gz")
    config = Config(model=SMALL)
    for system in ("multitask", "pitch_onset"):
        torch.manual_seed(0)
        model = JointModel(SMALL, Features(), len(TOKENS), system)
        save_model(folder / "exp" / system / "model.pt", model, config, TOKENS)
    content = {"data_dir": str(folder / "data"), "exp_dir": str(folder / "exp"), "threads": 1}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content))
    return folder


def run_align(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["recipe.align", *map(str, arguments)])
    main()


def test_corpus_is_aligned_and_measured_song_by_song_worst_first(run_folder, monkeypatch, capsys):
    run_align(monkeypatch, "--corpus", "jamendo", "--conf", run_folder / "tiny.yaml")
    assert "not aligned: the lyrics are too long for the audio" in capsys.readouterr().out
    folder = run_folder / "exp" / "alignments" / "multitask"
    results = json.loads((folder / "jamendo.json").read_text())
    scores = [row["score"] for row in results["songs"].values()]
    assert list(results["songs"])[0] == "jamendo_test-2" and scores[0] is None and len(scores) == 3
    assert scores[1:] == sorted(scores[1:])
    aligned = load_manifest(folder / "jamendo.jsonl.gz")
    validate(aligned)
    songs = {song.id: song for song in load_manifest(run_folder / "data" / "songs" / "jamendo_test.jsonl.gz")}
    deviations = []
    assert {segment.id for segment in aligned} == set(songs)
    assert aligned["jamendo_test-2"].custom == {"fits": False}
    for segment in aligned:
        if segment.id == "jamendo_test-2":
            continue
        reference = songs[segment.id].supervisions[0].alignment["word"]
        items = segment.alignment["word"]
        assert [item.symbol for item in items] == [item.symbol for item in reference]
        assert all(0 <= item.start <= item.end <= segment.end + 1e-6 and 0 <= item.score <= 1 for item in items)
        assert segment.custom["alignment_score"] == pytest.approx(results["songs"][segment.id]["score"], abs=1e-3)
        assert segment.custom["fits"] == results["songs"][segment.id]["fits"]
        starts = [np.array([item.start for item in part]) for part in (reference, items)]
        median, average = mir_eval.alignment.absolute_error(*starts)
        assert results["songs"][segment.id]["median"] == pytest.approx(median, abs=1e-4)
        assert results["songs"][segment.id]["average"] == pytest.approx(average, abs=1e-4)
        deviations += abs(starts[0] - starts[1]).tolist()
    assert results["all words"]["median"] == pytest.approx(np.median(deviations), abs=1e-4)
    assert results["all words"]["within"] == pytest.approx(100 * np.mean(np.array(deviations) <= 0.3), abs=0.01)
    averages = [row["average"] for row in results["songs"].values() if "average" in row]
    assert results["mean"]["average"] == pytest.approx(np.mean(averages), abs=1e-3)


def test_one_song_from_audio_and_text_to_each_format(run_folder, tmp_path, monkeypatch, capsys):
    audio, lyrics = write_by_ffmpeg(tmp_path / "song.m4a", "aac"), tmp_path / "song.txt"
    lyrics.write_text("Stay,\n\nmy love!\n")
    model = write_random_model(tmp_path / "separator")
    options = (audio, lyrics, "--conf", run_folder / "tiny.yaml", "--separator", model, "--star")
    run_align(monkeypatch, *options)
    printed = capsys.readouterr()
    words = [line.split("\t") for line in printed.out.splitlines() if line]
    assert [word[3] for word in words] == ["Stay,", "my", "love!"]
    assert all(0 <= float(start) < float(end) <= 3.0 for start, end, *_ in words)
    assert "alignment score" in printed.err
    for suffix in (".txt", ".json", ".lrc"):
        run_align(monkeypatch, *options, "--output", tmp_path / f"aligned{suffix}")
    assert (tmp_path / "aligned.txt").read_text() == printed.out
    assert json.loads((tmp_path / "aligned.json").read_text())["lines"][2]["text"] == "my love!"
    assert [line[:3] for line in (tmp_path / "aligned.lrc").read_text().splitlines()] == ["[00", "", "[00"]


def test_mistakes_are_one_line(run_folder, tmp_path, monkeypatch, capsys):
    conf = ("--conf", run_folder / "tiny.yaml", "--separator", write_random_model(tmp_path / "separator"))
    audio, lyrics, empty, long = (tmp_path / name for name in ("song.wav", "song.txt", "empty.txt", "long.txt"))
    soundfile.write(audio, np.zeros(16000), 16000)
    lyrics.write_text("stay away\n")
    empty.write_text("\n[Chorus]\n")
    long.write_text("stay away tonight\n" * 10)
    for arguments, message in (
        ((audio, empty), "empty.txt: the lyrics are empty"),
        ((audio, long), "long.txt: the lyrics are too long for the audio"),
        ((audio, tmp_path / "gone.txt"), "gone.txt: the lyrics cannot be read: No such file"),
        ((tmp_path / "gone.wav", lyrics), "gone.wav: cannot be read as audio: no such file"),
        ((lyrics, lyrics), "song.txt: cannot be read as audio"),
        ((audio, lyrics, "--model", run_folder / "gone.pt"), "gone.pt: no such model"),
        ((audio, lyrics, "--model", run_folder / "exp/pitch_onset/model.pt"), "system pitch_onset cannot align"),
        (("--corpus", "dali"), "no songs of the corpus dali"),
    ):
        with pytest.raises(SystemExit) as stopped:
            run_align(monkeypatch, *arguments, *conf)
        assert message in stopped.value.code and "\n" not in stopped.value.code
    for arguments in ((audio, lyrics, "--output", "x.srt"), (audio,), (), (audio, lyrics, "--corpus", "dali")):
        with pytest.raises(SystemExit) as stopped:
            run_align(monkeypatch, *arguments, *conf)
        assert stopped.value.code == 2
        assert "error: --output" in (said := capsys.readouterr().err) or "AUDIO and LYRICS" in said
