"""Stage 8, before decoding: the language model's scale and the word score of each method, tuned on the validation set.

Every pair of decoding.tune_lm_scales and decoding.tune_word_scores decodes the validation set. The pair with the
lowest word error rate is taken; of equal ones, that whose neighbours in the grid are best on average. Written to
exp/<conf name>/<system>/weights.json, by method, with the whole grid. A weight that the conf states is not tuned.
"""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from altpo_model.config import LYRICS_CORPORA, Config, Decoding, argument_parser, config_from
from altpo_model.decoding.search import LEXICON_FREE, WITHOUT_LANGUAGE_MODEL, Search, check_methods, make_search
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.lang import Tokens
from recipe.data import joined_cuts
from recipe.inference import Outputs, System, trained_data, trained_lang, trained_systems
from recipe.measures import word_error_rate

SYSTEMS = ("speech", "baseline", "oracle", "multitask")
KEYS = ("lm_scale", "word_score")
# Methods that take their words from the same lattice and score them in the same way.
_TUNED_AS = {"nbest": "1best", "nbest-oracle": "1best"}


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--system", choices=SYSTEMS, action="append", help="only this one (default: all)")
    arguments = parser.parse_args()
    config = config_from(arguments)
    if config.threads:
        torch.set_num_threads(config.threads)
    check_methods(config.decoding.methods)
    is_stated = all(getattr(config.decoding, key) is not None for key in KEYS)
    methods = dict.fromkeys(tuned_as(method) for method in config.decoding.methods if not is_stated)
    methods = [method for method in methods if method]
    for name in arguments.system or SYSTEMS:
        if methods:
            tune(config, name, methods)
        else:
            print(f"{name}: nothing to tune; the conf states the weights, or no method has a language model")


def tune(config: Config, name: str, methods: list[str]) -> None:
    """Find the weights of one system and write them."""
    system = System(config, name)
    corpora = ("librispeech",) if name == "speech" else LYRICS_CORPORA
    validation = system.outputs(joined_cuts(config, corpora, "validation"), f"{name}, validation")
    weights = {method: _tune_method(config, system, method, validation) for method in methods}
    with write_atomically(_weights_path(config, name)) as temporary:
        temporary.write_text(json.dumps(weights, indent=2) + "\n")
    for method, row in weights.items():
        print(
            f"{name}, {method}: lm_scale {row['lm_scale']:g}, word_score {row['word_score']:g} (WER {row['WER']:.2f} % "
            f"on the validation set; {np.min(row['WERs']):.2f} to {np.max(row['WERs']):.2f} % over the grid)"
        )


def _tune_method(config: Config, system: System, method: str, validation: Outputs) -> dict:
    texts = [cut.supervisions[0].text or "" for cut in validation.cuts]
    grid = _grid_of(config.decoding, method)
    search, rates = None, {}
    for pair in tqdm(grid, desc=f"{system.name}, {method}", mininterval=5):
        options = replace(config.decoding, **dict(zip(KEYS, pair, strict=True)))
        search = search.with_options(options) if search else load_search(config, method, system.tokens, options)
        found = search.decode_batch(validation.log_probs, config.jobs)
        rates[pair] = word_error_rate([(text, h.text) for text, h in zip(texts, found, strict=True)])["corpus"]
    axes = [sorted({pair[axis] for pair in grid}) for axis in range(len(KEYS))]
    table = np.array([[rates[scale, score] for score in axes[1]] for scale in axes[0]])
    best = best_place(table)
    weights = {key: values[i] for key, values, i in zip(KEYS, axes, best, strict=True)}
    named = {f"{key}s": values for key, values in zip(KEYS, axes, strict=True)}
    return {**weights, "WER": table[best], **named, "WERs": table.tolist()}


def best_place(rates: np.ndarray) -> tuple[int, int]:
    """The place of the lowest rate; of equal ones, that with the lowest mean over it and its neighbours."""

    def around(place: tuple[int, int]) -> float:
        return float(rates[tuple(slice(max(0, i - 1), i + 2) for i in place)].mean())

    return min((tuple(place) for place in np.argwhere(rates == rates.min()).tolist()), key=around)


def tuned_as(method: str) -> str | None:
    """The method whose weights a method takes; None where it has no weights."""
    return None if method in WITHOUT_LANGUAGE_MODEL else _TUNED_AS.get(method, method)


def tuned(config: Config, name: str, method: str) -> Decoding:
    """The conf's decoding section with the weights that were tuned for a system and method.

    Raises UserError where they are neither tuned nor in the conf.
    """
    stated = config.decoding
    missing = [key for key in KEYS if getattr(stated, key) is None]
    if tuned_as(method) is None or not missing:
        return stated
    path = _weights_path(config, name)
    weights = json.loads(path.read_text()) if path.is_file() else {}
    if tuned_as(method) not in weights:
        raise UserError(
            f"{path}: no weights of {method}; run python -m recipe.tune --system {name}, or state decoding.lm_scale "
            "and decoding.word_score"
        )
    return replace(stated, **{key: weights[tuned_as(method)][key] for key in missing})


def load_search(config: Config, method: str, tokens: Tokens, options: Decoding) -> Search:
    """The search with the run's lexicon and language models."""
    return make_search(method, tokens, trained_lang(config), trained_data(config) / "lm", options)


def _weights_path(config: Config, name: str) -> Path:
    return trained_systems(config) / name / "weights.json"


def _grid_of(decoding: Decoding, method: str) -> list[tuple[float, float]]:
    values = []
    for key in KEYS:
        stated = getattr(decoding, key)
        values.append(getattr(decoding, f"tune_{key}s") if stated is None else [stated])
    if method == LEXICON_FREE:
        values[1] = [0.0]  # it knows no words
    return list(product(*values))


if __name__ == "__main__":
    main()
