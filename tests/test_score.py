"""The result tables."""

from recipe.score import tables


def rate(corpus: float) -> dict[str, float]:
    return {"corpus": corpus, "segments": corpus + 1}


def test_systems_that_were_decoded_by_different_methods_stand_in_one_table():
    wer = {
        "speech": {"speech": {"ctc-greedy-search": rate(14.0), "1best": rate(0.5)}},
        "baseline": {"dali": {"ctc-greedy-search": rate(25.0), "nbest": rate(1.25)}},
    }
    lines = tables({"wer": wer, "notes": {}, "songs": {}}).splitlines()
    assert "| system | test set | ctc-greedy-search | 1best | nbest | paper |" in lines
    assert "| speech | speech | 14.00 (15.00) | 0.50 (1.50) |  | 6.56 |" in lines
    assert "| baseline | songs (DALI) | 25.00 (26.00) |  | 1.25 (2.25) | 69.22 |" in lines
