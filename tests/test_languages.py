import pytest

from altpo_model.languages import language_code, language_name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("English", "en"),
        ("english", "en"),
        ("Englisch", "en"),
        ("Ingl\u00e9s", "en"),
        ("en", "en"),
        ("eng", "en"),
        ("en-US", "en"),
        ("English (UK)", "en"),
        ("English, Spanish", "en"),
        ("Deutsch / English", "de"),
        ("fran\u00e7ais", "fr"),
        ("Japanese", "ja"),
        ("", None),
        (None, None),
        ("xx yy zz", None),
        ("Multiple languages", None),
        ("zxx", None),
        ("\x00\ud83d", None),
    ],
)
def test_a_language_is_known_by_any_of_its_names(name, code):
    assert language_code(name) == code


def test_a_languages_name_is_english_and_an_unknown_one_stays():
    assert language_name("Deutsch") == "German"
    assert language_name("Elbisch von Gondor") == "Elbisch von Gondor"
    assert language_name(" ") is None
