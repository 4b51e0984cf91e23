"""The `vllm.general_plugins` entry point: vLLM's adaptations, in processes that verl or this package drives.

vLLM calls `register` in each of its processes before a model is built, in every environment that has this package. It
does something only where the variable `ADAPT_VLLM` is set: the plugin of verl sets it when verl's vLLM server is
imported, and the evaluation sets it before it starts an engine. vLLM's engine and worker processes inherit it. A plain
`vllm serve` or `import vllm` changes nothing.
"""

from __future__ import annotations

import os

ADAPT_VLLM = "MLLM4D_ADAPT_VLLM"


def register() -> None:
    """Called by vLLM."""
    if os.environ.get(ADAPT_VLLM) == "1":
        adapt_vllm()


def adapt_vllm() -> None:
    """Adapt vLLM in this process and in those that it will start. Imports no part of vLLM."""
    from mllm4d_verl import verl_compat

    os.environ[ADAPT_VLLM] = "1"
    verl_compat.install("vllm")
