"""Teach video language models to reason in 4D with stock verl.

Importing this package is cheap: no torch, no verl. `mllm4d_verl.reward` and `mllm4d_verl.data_tools` stand alone.
"""

__version__ = "0.1.0"
