"""Stage 8, before decoding: the weights of the beam search, tuned on the validation set.

Every pair of decoding.tune_lm_weights and decoding.tune_word_scores decodes the validation set. The pair with the
lowest word error rate is taken; of equal ones, that whose neighbours in the grid are best on average. Written to
exp/<conf name>/<system>/weights.json with the whole grid. A weight that the conf states is not tuned.
"""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from tqdm import tqdm

from altpo_model.config import LYRICS_CORPORA, Config, Decoding, argument_parser, config_from
from altpo_model.decoding.beam import BeamSearch
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from recipe.data import joined_cuts
from recipe.inference import System, trained_data, trained_systems
from recipe.measures import word_error_rate

SYSTEMS = ("speech", "baseline", "oracle", "multitask")
KEYS = ("lm_weight", "word_score")


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--system", choices=SYSTEMS, action="append", help="only this one (default: all)")
    arguments = parser.parse_args()
    config = config_from(arguments)
    if config.threads:
        torch.set_num_threads(config.threads)
    for name in arguments.system or SYSTEMS:
        if all(getattr(config.decoding, key) is not None for key in KEYS):
            print(f"{name}: the conf states the weights of the beam search; nothing to tune")
        else:
            tune(config, name)


def tune(config: Config, name: str) -> None:
    """Find the weights of one system and write them."""
    system = System(config, name)
    corpora = ("librispeech",) if name == "speech" else LYRICS_CORPORA
    validation = system.outputs(joined_cuts(config, corpora, "validation"), f"{name}, validation")
    texts = [cut.supervisions[0].text or "" for cut in validation.cuts]
    grid = [_values(config.decoding, key) for key in KEYS]
    search, rates = None, np.zeros([len(values) for values in grid])
    for place, pair in zip(np.ndindex(*rates.shape), tqdm(list(product(*grid)), desc=f"{name}, weights"), strict=True):
        options = replace(config.decoding, **dict(zip(KEYS, pair, strict=True)))
        search = search.with_options(options) if search else load_beam_search(config, system.tokens, options)
        found = search.decode_batch(validation.log_probs, config.jobs)
        rates[place] = word_error_rate([(text, h.text) for text, h in zip(texts, found, strict=True)])["corpus"]
    best = best_place(rates)
    weights = {key: values[i] for key, values, i in zip(KEYS, grid, best, strict=True)}
    path = trained_systems(config) / name / "weights.json"
    with write_atomically(path) as temporary:
        content = {**weights, "WER": rates[best], **{f"{k}s": v for k, v in zip(KEYS, grid, strict=True)}}
        temporary.write_text(json.dumps({**content, "WERs": rates.tolist()}, indent=2) + "\n")
    print(
        f"{name}: lm_weight {weights['lm_weight']:g}, word_score {weights['word_score']:g} (WER {rates[best]:.2f} % on "
        f"the validation set; {rates.min():.2f} to {rates.max():.2f} % over the grid)"
    )


def best_place(rates: np.ndarray) -> tuple[int, int]:
    """The place of the lowest rate; of equal ones, that with the lowest mean over it and its neighbours."""

    def around(place: tuple[int, int]) -> float:
        return float(rates[tuple(slice(max(0, i - 1), i + 2) for i in place)].mean())

    return min((tuple(place) for place in np.argwhere(rates == rates.min()).tolist()), key=around)


def tuned(config: Config, name: str) -> Decoding:
    """The conf's decoding section with the weights that were tuned for a system. Raises UserError without them."""
    if all(getattr(config.decoding, key) is not None for key in KEYS):
        return config.decoding
    path = trained_systems(config) / name / "weights.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run python -m recipe.tune --system {name}, or state decoding.lm_weight")
    weights = json.loads(path.read_text())
    return replace(config.decoding, **{key: weights[key] for key in KEYS if getattr(config.decoding, key) is None})


def load_beam_search(config: Config, tokens, options: Decoding) -> BeamSearch:
    """The beam search with the run's lexicon and language model."""
    folder = trained_data(config)
    return BeamSearch.from_files(tokens, folder / "lang_char" / "lexicon.txt", folder / "lm" / "lm.bin", options)


def _values(decoding: Decoding, key: str) -> list[float]:
    stated = getattr(decoding, key)
    return getattr(decoding, f"tune_{key}s") if stated is None else [stated]


if __name__ == "__main__":
    main()
