"""Tuning of the weights of the searches."""

import json

import numpy as np
import pytest

from altpo_model.config import Config, Decoding
from altpo_model.errors import UserError
from recipe.tune import best_place, tuned


def test_lowest_rate_is_taken_and_of_equal_ones_that_with_the_better_neighbours():
    assert best_place(np.array([[5.0, 4.0], [3.0, 6.0]])) == (1, 0)
    rates = np.full((5, 5), 9.0)
    rates[2:5, 2:5] = 2.0
    rates[0, 0] = rates[3, 3] = 1.0
    assert best_place(rates) == (3, 3)


def test_stated_weights_are_not_tuned_and_the_others_come_from_the_systems_file(tmp_path):
    config = Config(exp_dir=str(tmp_path), decoding=Decoding(lm_scale=0.5, word_score=2.0))
    assert tuned(config, "baseline", "1best") == config.decoding
    config.decoding = Decoding(word_score=2.0)
    with pytest.raises(UserError, match="no weights of 1best; run python -m recipe.tune --system baseline"):
        tuned(config, "baseline", "1best")
    (tmp_path / "baseline").mkdir()
    weights = {"1best": {"lm_scale": 1.5, "word_score": 0.0}, "ctc-beam-search": {"lm_scale": 0.3, "word_score": 1.0}}
    (tmp_path / "baseline" / "weights.json").write_text(json.dumps(weights))
    assert tuned(config, "baseline", "1best") == Decoding(lm_scale=1.5, word_score=2.0)
    assert tuned(config, "baseline", "nbest-oracle") == Decoding(lm_scale=1.5, word_score=2.0)
    assert tuned(config, "baseline", "ctc-beam-search") == Decoding(lm_scale=0.3, word_score=2.0)
    assert tuned(config, "baseline", "ctc-greedy-search") == config.decoding
    with pytest.raises(UserError, match="no weights of nbest-rescoring"):
        tuned(config, "baseline", "nbest-rescoring")
