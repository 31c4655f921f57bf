"""Importing k2, which is optional: it is built for one version of torch, so pip alone would install one that fails."""

from types import ModuleType

import torch

from altpo_model.errors import UserError


def problem_of_k2() -> str | None:
    """Why k2 cannot be used; None where it can."""
    try:
        import k2  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "k2":
            return "it is not installed"
        return f"it cannot be loaded ({error})"
    except (ImportError, OSError) as error:
        return f"it cannot be loaded ({' '.join(str(error).split())})"
    return None


def import_k2(needed_by: str) -> ModuleType:
    """The package. Raises UserError, which says how to get the wheel that fits the torch that is installed.

    needed_by: the beginning of that message, such as "`decoding.backend` is k2".
    """
    problem = problem_of_k2()
    if problem is not None:
        raise UserError(f"{needed_by}, but {problem}; {_how_to_get_k2()}")
    import k2

    return k2


def _how_to_get_k2() -> str:
    torch_version, cuda = torch.__version__.partition("+")[0], torch.version.cuda
    page = f"https://k2-fsa.github.io/k2/{'cuda' if cuda else 'cpu'}.html"
    build = f"{f'cuda{cuda}' if cuda else 'cpu'}.torch{torch_version}"
    return (
        f"look up the version for torch {torch_version} on {page} and install it: "
        f"pip install k2==VERSION+{build} -f {page}"
    )
