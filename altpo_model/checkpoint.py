"""Trained models as single files: weights, tokens and the configuration that they need.

The file is a plain dictionary of tensors, numbers and text, so that it loads with ``weights_only=True``: nothing in it
can name code to import.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from altpo_model.config import Config, Features, Model, section_from
from altpo_model.errors import UserError
from altpo_model.files import write_atomically
from altpo_model.lang import SentencePieceTokens, Tokens
from altpo_model.model import JointModel
from altpo_model.tokens import CharTokens

FORMAT = "altpo 1"


def save_model(path: str | Path, model: JointModel, config: Config, tokens: Tokens) -> None:
    """Write the model whole, or not at all."""
    content = {
        "format": FORMAT,
        "system": model.system,
        "model": asdict(config.model),
        "features": asdict(config.features),
        "tokens": tokens.characters if isinstance(tokens, CharTokens) else tokens.model,
        "weights": model.state_dict(),
    }
    with write_atomically(path) as temporary:
        torch.save(content, temporary)


def load_model(path: str | Path) -> tuple[JointModel, Tokens, Features]:
    """The model in evaluation mode on the CPU, its tokens and its features.

    Raises UserError for a file that is missing, broken or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such model; train it first (stages 6 and 7)")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        known = content["format"] == FORMAT
    except Exception as error:  # torch raises many kinds, by where the file is broken
        raise UserError(f"{path}: not a model of this project ({type(error).__name__}); train it again") from None
    if not known:
        raise UserError(f"{path}: a model of format {content['format']!r}, but this version reads {FORMAT!r}")
    tokens = content["tokens"]
    tokens = CharTokens(tokens) if isinstance(tokens, str) else SentencePieceTokens(tokens)
    features = section_from(Features, content["features"], str(path))
    model = JointModel(section_from(Model, content["model"], str(path)), features, len(tokens), content["system"])
    model.load_state_dict(content["weights"])
    return model.eval(), tokens, features


def mean_weights(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor over state dictionaries of one model; of whole numbers, the last one's."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(last.dtype)
        if last.is_floating_point()
        else last
        for name, last in states[-1].items()
    }
