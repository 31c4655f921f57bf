"""Character tokens and their table."""

import pytest

from altpo_model.errors import UserError
from altpo_model.tokens import CharTokens


def test_the_classes_are_the_33_characters_and_the_blank():
    tokens = CharTokens()
    assert len(tokens) == 34
    assert tokens.blank == 0
    assert [tokens.symbol(index) for index in range(34)] == ["<blk>", "▁", *"abcdefghijklmnopqrstuvwxyz", *",.?!-'"]


def test_text_and_ids_are_each_other():
    tokens = CharTokens()
    assert tokens.encode("a z,'") == [2, 1, 27, 28, 33]
    assert tokens.decode([2, 0, 1, 27, 28, 33]) == "a z,'"
    assert tokens.decode([]) == ""
    assert tokens.encode("") == []


def test_a_word_is_spelt_with_the_space_after_it():
    assert CharTokens().spelling("ab") == [2, 3, 1]


def test_a_character_that_has_no_token_is_named():
    with pytest.raises(ValueError, match="'é'"):
        CharTokens().encode("café")


def test_the_table_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "lang_char/tokens.txt"
    CharTokens().write(path)
    assert path.read_text(encoding="utf-8").splitlines()[:3] == ["<blk> 0", "▁ 1", "a 2"]
    assert CharTokens.from_file(path).characters == CharTokens().characters


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/tokens\.txt: no such token table"):
        CharTokens.from_file(tmp_path / "nowhere/tokens.txt")


@pytest.mark.parametrize(
    "table, fault",
    [
        ("<blk> 0\n▁ 1\na 3\n", "line 3 is 'a 3'"),
        ("<blk> 0\n▁ 1\nab 2\n", "line 3 is 'ab 2'"),
        ("▁ 0\na 1\n", "line 1 is '▁ 0'"),
        ("<blk> 0\na 1\n", "a space"),
        ("<blk> 0\n▁ 1\na 2\na 3\n", "each character once"),
    ],
)
def test_a_table_with_a_fault_is_refused_with_its_place(tmp_path, table, fault):
    path = tmp_path / "tokens.txt"
    path.write_text(table, encoding="utf-8")
    with pytest.raises(UserError, match=fault):
        CharTokens.from_file(path)
