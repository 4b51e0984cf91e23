"""Who answers: vLLM in process, transformers, or an OpenAI-compatible server."""

from .base import BACKENDS, Answer, BackendError, check_backend, load_backend

__all__ = ["BACKENDS", "Answer", "BackendError", "check_backend", "load_backend"]
