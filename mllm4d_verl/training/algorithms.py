"""`mllm4d train grpo --algorithm NAME`: settings of published algorithms, as a Hydra group of this package.

Each is a file of `mllm4d_verl/config/mllm4d_algorithm`; `+mllm4d_algorithm=NAME` selects it on any command of verl's
PPO trainer. It is merged after the recipe; single overrides of the command line come after it and win.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from mllm4d_verl.data_tools.errors import InputError

GROUP = "mllm4d_algorithm"
_FOLDER = Path(__file__).parents[1] / "config" / GROUP


def algorithms() -> dict[str, str]:
    """What each algorithm is, in one line, by name: the second line of its file."""
    return {
        file.stem: file.read_text(encoding="utf-8").splitlines()[1].lstrip("# ")
        for file in sorted(_FOLDER.glob("*.yaml"))
    }


def algorithm_override(name: str) -> str:
    """The Hydra override that selects an algorithm.

    Raises:
        InputError: there is none of this name.
    """
    known = algorithms()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"Did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"unknown algorithm {name!r}", field="--algorithm", remedy=f"{remedy}Known: {', '.join(known)}"
        )
    return f"+{GROUP}={name}"
