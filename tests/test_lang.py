"""Lang directories: SentencePiece tokens, the stage that makes them, and the reader of all kinds."""

import itertools
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece
from lhotse import CutSet, MonoCut, SupervisionSegment

import prepare_lang
from altpo_model.errors import UserError
from altpo_model.lang import SentencePieceTokens, read_lang, write_lang
from altpo_model.tokens import CharTokens

ROOT = Path(__file__).resolve().parents[1]
LYRICS = [
    "hold the golden river, hold the moon",
    "the river sings, and i don't know why!",
    "oh-oh, sing again",
    "golden moon? silver moon.",
    "we hold on to the golden morning",
] * 4
WORDS = ["the", "river", "golden", "moon", "don't", "zebra", "i", "singing"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data directory for which the stage has run, with 45 pieces."""
    data = tmp_path_factory.mktemp("lang")
    cuts = [
        MonoCut(
            id=f"segment-{i}",
            start=0,
            duration=2,
            channel=0,
            supervisions=[SupervisionSegment(id=f"segment-{i}", recording_id="song", start=0, duration=2, text=text)],
        )
        for i, text in enumerate(LYRICS)
    ]
    (data / "cuts").mkdir()
    CutSet.from_cuts(cuts).to_file(data / "cuts" / "dali_train.jsonl.gz")
    (data / "lm").mkdir()
    (data / "lm" / "words.txt").write_text("\n".join(WORDS) + "\n")
    for lang, summary in (("bpe_45", "45 tokens; 8 words of "), ("char", "34 tokens; 8 words of 5.50 tokens")):
        done = prepare(data, lang)
        assert done.returncode == 0, done.stderr
        assert summary in done.stdout
    return data


def prepare(data, lang):
    command = [sys.executable, ROOT / "local/prepare_lang.py", "--conf", ROOT / "conf/mini.yaml"]
    return subprocess.run(
        [*command, "--set", f"data_dir={data}", "--set", f"lang={lang}"], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def package(prepared):
    """The model as the sentencepiece package reads it."""
    return sentencepiece.SentencePieceProcessor(model_file=str(prepared / "lang_bpe_45" / "bpe.model"))


def table(path):
    return [line.split(" ") for line in path.read_text(encoding="utf-8").splitlines()]


def error_of(done):
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_the_pieces_directory_has_icefalls_layout(prepared, package):
    lang = prepared / "lang_bpe_45"
    assert table(lang / "tokens.txt") == [[package.id_to_piece(i), str(i)] for i in range(45)]
    assert [symbol for symbol, _ in table(lang / "tokens.txt")][:3] == ["<blk>", "<sos/eos>", "<unk>"]
    expected = ["<eps>", *sorted(WORDS), "<UNK>", "#0", "<s>", "</s>"]
    assert table(lang / "words.txt") == [[word, str(i)] for i, word in enumerate(expected)]
    assert table(lang / "lexicon.txt") == [[word, *package.encode(word, out_type=str)] for word in sorted(WORDS)]


def test_ids_are_those_of_the_sentencepiece_package(prepared, package):
    tokens = SentencePieceTokens.from_file(prepared / "lang_bpe_45" / "bpe.model")
    assert len(tokens) == package.vocab_size() == 45
    for text in [*LYRICS, *WORDS, "", "a text with a z, and - dashes -"]:
        if "oh-oh" not in text:
            assert tokens.encode(text) == package.encode(text)
            assert tokens.decode(tokens.encode(text)) == text
    assert tokens.decode([0, *tokens.encode("golden"), 0]) == "golden"
    assert [tokens.symbol(i) for i in range(45)] == [package.id_to_piece(i) for i in range(45)]


def test_marks_are_pieces_of_their_own_and_a_dash_ends_a_word(prepared):
    tokens = SentencePieceTokens.from_file(prepared / "lang_bpe_45" / "bpe.model")
    words, marks = tokens.encode("oh oh river"), tokens.encode("oh-oh, river!")
    assert [i for i in marks if tokens.symbol(i) not in ",!-"] == words
    assert tokens.decode(marks) == "oh- oh, river!"
    for index in range(3, 45):
        assert len(tokens.symbol(index)) == 1 or not set(tokens.symbol(index)) & set(",.?!-")


def test_every_letter_has_a_piece_even_if_no_song_has_it(prepared):
    assert not any("z" in text or "x" in text for text in LYRICS)
    tokens = SentencePieceTokens.from_file(prepared / "lang_bpe_45" / "bpe.model")
    assert tokens.decode(tokens.spelling("zax's")) == "zax's"
    with pytest.raises(ValueError, match="'café'"):
        tokens.spelling("café")


def test_the_lexicon_makes_a_round_trip(prepared):
    for directory in ("lang_bpe_45", "lang_char"):
        path = prepared / directory
        if directory == "lang_char":
            assert "don't d o n ' t ▁" in (path / "lexicon.txt").read_text(encoding="utf-8").splitlines()
        lang = read_lang(path)
        assert [word for word, _ in lang.lexicon] == sorted(WORDS)
        for word, spelling in lang.lexicon:
            assert lang.tokens.decode(spelling).strip() == word
            assert list(spelling) == lang.tokens.spelling(word)
            assert table(path / "words.txt")[lang.words[word]][0] == word


def test_tokens_survive_pickling(prepared):
    tokens = SentencePieceTokens.from_file(prepared / "lang_bpe_45" / "bpe.model")
    copy = pickle.loads(pickle.dumps(tokens))
    assert copy.encode("golden river") == tokens.encode("golden river")
    assert copy.model == tokens.model


def test_the_same_texts_give_the_same_pieces(prepared):
    tokens = prepare_lang.train_pieces(prepare_lang.training_texts(prepared / "cuts"), 45)
    assert tokens.model == (prepared / "lang_bpe_45" / "bpe.model").read_bytes()


@pytest.fixture
def icefalls(prepared, tmp_path):
    """A lang directory as icefall's prepare_lang_bpe.py leaves it."""
    lang = tmp_path / "lang_bpe_45"
    shutil.copytree(prepared / "lang_bpe_45", lang)
    pieces = [symbol for symbol, _ in table(lang / "tokens.txt")]
    symbols = [*pieces, "#0", "#1"]
    (lang / "tokens.txt").write_text("".join(f"{symbol} {i}\n" for i, symbol in enumerate(symbols)), encoding="utf-8")
    words = ["<eps>", "!SIL", "<SPOKEN_NOISE>", "<UNK>", *sorted(WORDS), "#0", "<s>", "</s>"]
    (lang / "words.txt").write_text("".join(f"{word} {i}\n" for i, word in enumerate(words)), encoding="utf-8")
    with open(lang / "lexicon.txt", "a", encoding="utf-8") as out:
        out.write("<UNK> ▁ <unk>\n")
    (lang / "lexicon_disambig.txt").write_text("the ▁the #1\n", encoding="utf-8")
    (lang / "L_disambig.pt").write_bytes(b"not read")
    return lang


def test_icefalls_own_lang_directory_is_read_as_it_is(prepared, icefalls):
    ours, theirs = read_lang(prepared / "lang_bpe_45"), read_lang(icefalls)
    assert len(theirs.tokens) == 45  # the disambiguation symbols are no classes of the network
    assert theirs.lexicon == ours.lexicon
    assert theirs.words["<UNK>"] == 3
    assert theirs.words["the"] == 4 + sorted(WORDS).index("the")


def test_icefalls_capitals_without_punctuation_are_lower_case_here(tmp_path):
    texts = [text.upper().replace("-", " ").translate(str.maketrans("", "", ",.?!")) for text in LYRICS]
    with open(tmp_path / "bpe.model", "wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=33,
            user_defined_symbols=["<blk>", "<sos/eos>"],
            unk_id=2,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    package = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe.model"))
    symbols = [*(package.id_to_piece(i) for i in range(33)), "#0"]
    words = ["<eps>", "!SIL", "<SPOKEN_NOISE>", "<UNK>", "HOLD", "MOON", "#0", "<s>", "</s>"]
    for name, table in (("tokens.txt", symbols), ("words.txt", words)):
        (tmp_path / name).write_text("".join(f"{symbol} {i}\n" for i, symbol in enumerate(table)), encoding="utf-8")
    spelt = [f"{word} {' '.join(package.encode(word, out_type=str))}\n" for word in ("HOLD", "MOON")]
    (tmp_path / "lexicon.txt").write_text("<UNK> <unk>\n" + "".join(spelt), encoding="utf-8")
    lang = read_lang(tmp_path)
    assert lang.lexicon == [("hold", tuple(package.encode("HOLD"))), ("moon", tuple(package.encode("MOON")))]
    assert lang.words["moon"] == 5 and lang.words["<UNK>"] == 3
    assert lang.tokens.encode("hold, the moon-river!") == package.encode("HOLD THE MOON RIVER")
    assert lang.tokens.decode(package.encode("HOLD THE MOON")) == "hold the moon"
    assert lang.tokens.spelling("moon") == package.encode("MOON")


def test_two_hundred_thousand_words_make_a_round_trip(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(word) for word in itertools.islice(itertools.product(letters, repeat=4), 200_000)]
    write_lang(tmp_path, CharTokens(), words)
    lang = read_lang(tmp_path)
    assert list(lang.spellings) == words
    assert all(CharTokens().decode(spelling) == f"{word} " for word, spelling in lang.lexicon)


def test_character_tables_with_disambiguation_symbols_are_read(tmp_path):
    write_lang(tmp_path, CharTokens(), WORDS)
    with open(tmp_path / "tokens.txt", "a", encoding="utf-8") as out:
        out.write("#0 34\n")
    assert read_lang(tmp_path).tokens.characters == CharTokens().characters


def test_several_spellings_of_a_word_are_kept(tmp_path):
    write_lang(tmp_path, CharTokens(), ["a", "the"])
    with open(tmp_path / "lexicon.txt", "a", encoding="utf-8") as out:
        out.write("the\tt h i  ▁\n\n")
    lexicon = read_lang(tmp_path).lexicon
    assert lexicon[1:] == [("the", tuple(CharTokens().encode("the "))), ("the", tuple(CharTokens().encode("thi ")))]


@pytest.mark.parametrize("name", ["tokens.txt", "words.txt", "lexicon.txt"])
def test_a_missing_file_is_named(tmp_path, name):
    write_lang(tmp_path, CharTokens(), WORDS)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: no such file of a lang directory"):
        read_lang(tmp_path)


@pytest.mark.parametrize(
    "name, line, fault",
    [
        ("tokens.txt", "ab 34", r"`ab` is no character, and no bpe\.model"),
        ("tokens.txt", "é 36", "must run from 0"),
        ("tokens.txt", "é", "line 35 is 'é', not a new symbol and its id"),
        ("tokens.txt", "a 34", "line 35 is 'a 34'"),
        ("words.txt", "extra 1", "two symbols have the same id"),
        ("lexicon.txt", "moon", "line 9: 'moon' has no tokens"),
        ("lexicon.txt", "moon m ö n ▁", "line 9: 'moon' is spelt with a token that"),
        ("lexicon.txt", "moon <blk>", "line 9: 'moon' is spelt with a token that"),
        ("lexicon.txt", "mond m o n d ▁", r"line 9: 'mond' is not in the words\.txt"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, name, line, fault):
    write_lang(tmp_path, CharTokens(), WORDS)
    with open(tmp_path / name, "a", encoding="utf-8") as out:
        out.write(line + "\n")
    with pytest.raises(UserError, match=rf"{name}: .*{fault}"):
        read_lang(tmp_path)


def test_a_lexicon_without_words_and_a_binary_table_are_refused(tmp_path):
    write_lang(tmp_path, CharTokens(), WORDS)
    (tmp_path / "lexicon.txt").write_text("<UNK> ▁\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"lexicon\.txt: no word in it"):
        read_lang(tmp_path)
    (tmp_path / "tokens.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"tokens\.txt: not a UTF-8 text file"):
        read_lang(tmp_path)


def test_tokens_of_another_network_are_refused(prepared, tmp_path):
    write_lang(tmp_path, CharTokens(), WORDS)
    assert read_lang(tmp_path, CharTokens()).tokens.characters == CharTokens().characters
    with pytest.raises(UserError, match=r"tokens\.txt: other tokens than the network has \(34 against 33\)"):
        read_lang(tmp_path, CharTokens(CharTokens().characters[:-1]))
    with pytest.raises(UserError, match="the first that differs is 2"):
        read_lang(tmp_path, CharTokens(" ba" + CharTokens().characters[3:]))
    with pytest.raises(UserError, match="other tokens than the network has"):
        read_lang(prepared / "lang_bpe_45", CharTokens())


def test_pieces_and_table_must_be_of_one_model(prepared, tmp_path):
    shutil.copytree(prepared / "lang_bpe_45", tmp_path / "lang")
    symbols = [symbol for symbol, _ in table(tmp_path / "lang/tokens.txt")]
    symbols[20], symbols[21] = symbols[21], symbols[20]
    lines = "".join(f"{symbol} {i}\n" for i, symbol in enumerate(symbols))
    (tmp_path / "lang/tokens.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(UserError, match=r"not the pieces of the bpe\.model"):
        read_lang(tmp_path / "lang")


def test_missing_broken_and_blankless_models_are_refused(tmp_path):
    path = tmp_path / "bpe.model"
    with pytest.raises(UserError, match=r"bpe\.model: no such SentencePiece model"):
        SentencePieceTokens.from_file(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"bpe\.model: no SentencePiece model of a CTC network"):
        SentencePieceTokens.from_file(path)
    with open(path, "wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(LYRICS), model_writer=model, vocab_size=40, minloglevel=2
        )
    with pytest.raises(UserError, match="its piece 0 is '<unk>', not the CTC blank '<blk>'"):
        SentencePieceTokens.from_file(path)


def test_the_stage_says_what_is_missing_or_impossible(prepared, tmp_path):
    assert f"{tmp_path}/lm/words.txt: no such word list" in error_of(prepare(tmp_path, "bpe_45"))
    assert "`lang` is 'words'; it must be char, bpe_<number of pieces> or the path" in error_of(
        prepare(tmp_path, "words")
    )
    assert f"{tmp_path}/gone/tokens.txt: no such file of a lang directory" in error_of(
        prepare(tmp_path, tmp_path / "gone")
    )
    with pytest.raises(UserError, match="cuts: no training segments"):
        next(prepare_lang.training_texts(tmp_path / "cuts"))
    with pytest.raises(UserError, match="no SentencePiece model of 9000 pieces: Vocabulary size too high"):
        prepare_lang.train_pieces(LYRICS, 9000)
    with pytest.raises(UserError, match="no SentencePiece model of 9 pieces: Vocabulary size is smaller"):
        prepare_lang.train_pieces(LYRICS, 9)
