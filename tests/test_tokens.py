"""Character tokens and their table."""

import pytest

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


def test_the_table_has_a_symbol_and_its_id_a_line(tmp_path):
    path = tmp_path / "lang_char/tokens.txt"
    CharTokens().write(path)
    assert path.read_text(encoding="utf-8").splitlines()[:3] == ["<blk> 0", "▁ 1", "a 2"]


@pytest.mark.parametrize(("characters", "fault"), [("ab", "a space"), (" aba", "each character once")])
def test_characters_that_are_no_table_are_refused(characters, fault):
    with pytest.raises(ValueError, match=fault):
        CharTokens(characters)
