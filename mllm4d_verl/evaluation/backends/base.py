"""What a backend is: a function that answers requests, in any order, and yields each answer as it is finished.

    answer_requests(job, requests, missing) -> Iterator[Answer]

`requests` are all of the job, `missing` those that have no answer yet; only these are to be yielded. A backend whose
answers depend on what stands beside them in a batch gets to see all, so that it can make the batches of a clean run.
The caller writes an answer down before it asks for the next, so nothing that was yielded is lost.

A backend's module also has `media_geometry(job) -> VideoGeometry`, what resizes its frames, and
`check_options(options)`, which raises InputError for options that it does not take.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType

from mllm4d_verl.data_tools.errors import InputError

from ..job import GenerationJob
from ..questions import Request

#: Name -> module of it in this folder.
BACKENDS = {"vllm": "vllm_engine", "transformers": "hugging_face", "openai": "chat_endpoint"}


class BackendError(RuntimeError):
    """A backend cannot go on, for a reason that one sentence tells; answers so far are kept."""


class PromptMismatchError(RuntimeError):
    """A backend expanded a prompt into other tokens than the trainer does."""


@dataclass(frozen=True)
class Answer:
    """What came back for a request.

    Attributes:
        request: which one.
        text: decoded, special tokens left out.
        prompt_tokens, response_tokens: counts; None where the backend does not tell.
        finish_reason: "stop" or "length"; None where the backend does not tell.
    """

    request: Request
    text: str
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    finish_reason: str | None = None


AnswerRequests = Callable[[GenerationJob, Sequence[Request], Sequence[Request]], Iterator[Answer]]


def default_backend() -> str:
    """vLLM where it is installed, else transformers."""
    return "vllm" if find_spec("vllm") is not None else "transformers"


def check_backend(name: str) -> None:
    """Raise InputError where there is no such backend, or what it needs is not installed."""
    if name not in BACKENDS:
        raise InputError(f"no backend {name!r}", field="--backend", remedy=f"Choose from {', '.join(BACKENDS)}")
    if name == "vllm" and find_spec("vllm") is None:
        raise InputError("vLLM is not installed", field="--backend", remedy="Choose transformers or openai")


def load_backend(name: str) -> ModuleType:
    """The module of a backend. Importing it is cheap; engines are imported when it is asked."""
    return importlib.import_module(f"{__package__}.{BACKENDS[name]}")


def check_prompt(question: str, token_ids: list[int], seen: list[int]) -> None:
    """Raise PromptMismatchError unless the backend saw the tokens that the trainer would.

    Args:
        question: id.
        token_ids: of the trainer.
        seen: by the backend.
    """
    if list(seen) != list(token_ids):
        raise PromptMismatchError(
            f"question {question}: the model saw another prompt ({len(seen)} tokens) than the trainer would "
            f"({len(token_ids)} tokens). `mllm4d doctor` shows whether the adaptations are active"
        )
