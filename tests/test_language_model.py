"""Stage 5: word list and KenLM model from a text."""

import gzip
import subprocess
import sys
from pathlib import Path

import kenlm
import numpy as np
import pytest
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary

ROOT = Path(__file__).resolve().parents[1]
SENTENCES = [
    "I hold the golden river",
    "you hold the river, tonight!",
    "we - don't - hold the moon",
    "THE RIVER SINGS",
    "",
    "...",
    "café \u266a",
]


def train(folder, text, *settings):
    """Run the stage on ``text`` (the name of a file in ``folder``)."""
    conf = folder / "trial.yaml"
    conf.write_text(f"data_dir: {folder}/data\nlm: {{text: {folder / text}, memory: 64M, prune: [0], order: 3}}\n")
    options = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, ROOT / "local/train_lm.py", "--conf", conf, *options]
    return subprocess.run(command, capture_output=True, text=True)


def error_of(done):
    """The one line that a failed run says, its progress bars aside."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def unigrams(arpa):
    section = arpa.read_text().split("\\1-grams:\n")[1].split("\n\n")[0]
    return {line.split("\t")[1] for line in section.splitlines()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of a few sentences: its folder."""
    folder = tmp_path_factory.mktemp("language_model")
    (folder / "text.txt").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    done = train(folder, "text.txt")
    assert done.returncode == 0, done.stderr
    assert "5 sentences, 19 words" in done.stdout
    assert "fallback discounts" in done.stdout
    return folder / "data"


def test_words_are_normalised_and_the_most_frequent_come_first(trained):
    words = (trained / "lm/words.txt").read_text().split()
    assert words == ["the", "hold", "river", "cafe", "don't", "golden", "i", "moon", "sings", "tonight", "we", "you"]


def test_probabilities_sum_to_one_after_any_context(trained):
    model = kenlm.Model(str(trained / "lm/lm.bin"))
    words = [*(trained / "lm/words.txt").read_text().split(), "<unk>", "</s>"]
    for context in ([], ["hold"], ["hold", "the"], ["moon", "moon"]):
        state, after = kenlm.State(), kenlm.State()
        model.BeginSentenceWrite(state)
        for word in context:
            model.BaseScore(state, word, after)
            state, after = after, kenlm.State()
        total = sum(10 ** model.BaseScore(state, word, after) for word in words)
        assert total == pytest.approx(1, abs=1e-5)


def test_flashlight_scores_as_kenlm_does(trained):
    words = (trained / "lm/words.txt").read_text().split()
    dictionary = Dictionary([*words, "<unk>"])
    ours = KenLM(str(trained / "lm/lm.bin"), dictionary)
    theirs, random = kenlm.Model(str(trained / "lm/lm.bin")), np.random.default_rng(0)
    for length in random.integers(1, 12, size=1000):
        sentence = random.choice([*words, "<unk>"], size=length)
        state, total = ours.start(False), 0.0
        for word in sentence:
            state, score = ours.score(state, dictionary.get_index(word))
            total += score
        total += ours.finish(state)[1]
        assert total == pytest.approx(theirs.score(" ".join(sentence)), abs=1e-4)


def test_a_quantised_model_is_smaller_and_nearly_the_same(tmp_path):
    random = np.random.default_rng(1)
    made = [f"{a}{b}{c}" for a in "bdfgk" for b in ("an", "el", "or") for c in ("ta", "si", "mo", "nu")]
    lines = [" ".join(random.choice(made, size=8)) for _ in range(3000)]
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n")
    models = []
    for bits in ("null", "8"):
        assert train(tmp_path, "text.txt", f"lm.quantize={bits}").returncode == 0
        path = tmp_path / "data/lm/lm.bin"
        models.append((path.stat().st_size, kenlm.Model(str(path)).score(lines[0])))
    assert models[1][0] < 0.8 * models[0][0]
    assert models[1][1] == pytest.approx(models[0][1], rel=0.05)


def test_binary_and_arpa_are_one_model(trained):
    binary, arpa = (kenlm.Model(str(trained / "lm" / name)) for name in ("lm.bin", "lm.arpa"))
    assert binary.order == arpa.order == 3
    assert binary.score("you hold the golden moon") == pytest.approx(arpa.score("you hold the golden moon"), abs=1e-5)


def test_a_gzipped_text_gives_the_same_model(trained, tmp_path):
    with gzip.open(tmp_path / "text.txt.gz", "wt", encoding="utf-8") as out:
        out.write("\n".join(SENTENCES) + "\n")
    assert train(tmp_path, "text.txt.gz").returncode == 0
    for name in ("lm/words.txt", "lm/lm.arpa", "lm/lm.bin"):
        assert (tmp_path / "data" / name).read_bytes() == (trained / name).read_bytes()


def test_only_the_most_frequent_words_are_in_the_model(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    assert train(tmp_path, "text.txt", "lm.max_words=3").returncode == 0
    assert (tmp_path / "data/lm/words.txt").read_text().split() == ["the", "hold", "river"]
    assert unigrams(tmp_path / "data/lm/lm.arpa") == {"<unk>", "<s>", "</s>", "the", "hold", "river"}
    model = kenlm.Model(str(tmp_path / "data/lm/lm.bin"))
    assert "river" in model
    assert "moon" not in model


def test_a_text_of_natural_frequencies_needs_no_fallback(tmp_path):
    random = np.random.default_rng(1)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, size=6)) for _ in range(3000)]
    share = 1 / np.arange(1, 3001)  # Zipf's law
    draws = random.choice(words, p=share / share.sum(), size=(4000, 8))
    (tmp_path / "text.txt").write_text("\n".join(map(" ".join, draws)))
    done = train(tmp_path, "text.txt")
    assert done.returncode == 0, done.stderr
    assert "estimated discounts" in done.stdout


def test_a_missing_text_is_named_with_its_key(tmp_path):
    said = error_of(train(tmp_path, "nowhere.txt"))
    assert str(tmp_path / "nowhere.txt") in said
    assert "lm.text" in said


def test_a_text_without_words_is_refused(tmp_path):
    (tmp_path / "text.txt").write_text("... ♪\n\n")
    assert "no word in it" in error_of(train(tmp_path, "text.txt"))


def test_a_broken_gzip_file_is_named_and_leaves_nothing_behind(tmp_path):
    whole = gzip.compress("".join(f"line {i % 26 * 'a'}\n" for i in range(20000)).encode())
    (tmp_path / "text.txt.gz").write_bytes(whole[: len(whole) // 2])
    assert "text.txt.gz: broken gzip file" in error_of(train(tmp_path, "text.txt.gz"))
    assert list((tmp_path / "data/lm").iterdir()) == []


@pytest.mark.parametrize(
    "setting, fault",
    [
        ("lm.token_order=7", "`lm.token_order` is 7; it must be from 2 to 6"),
        ("lm.quantize=1", "`lm.quantize` is 1; it must be from 2 to 25 bits, or null"),
        ("lm.order=9", "`lm.order` is 9"),
        ("lm.prune=[0, 0, 0, 1]", "`lm.prune` has 4 counts for a model of order 3"),
        ("lm.max_words=0", "`lm.max_words` is 0"),
        ("lm.memory=plenty", "lmplz failed"),
        ("lm.prune=[2, 1]", "lmplz failed"),
    ],
)
def test_settings_that_make_no_model_are_refused(tmp_path, setting, fault):
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    assert fault in error_of(train(tmp_path, "text.txt", setting))
