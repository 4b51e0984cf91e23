"""The process that holds the model: `python -m mllm4d_verl.evaluation.worker JOB.json PARENT`; see `generate.py`.

A process of its own, because vLLM and verl configure themselves from the environment at import, print hundreds of
lines, and give their memory back only by exiting.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError

from .backends import Answer, BackendError, load_backend
from .generate import Plan, lock_file, plan_file
from .job import GenerationJob
from .questions import describe_media, load_questions, requests_of
from .responses import ResponseRecord, drop_torn_line, read_unfinished
from .writer import only_writer

_PARENT_LOOKED_FOR_EVERY_S = 0.2
_EXIT_FAULT = 1


def main(job_file: str, parent: int) -> None:
    """Generate what the job still lacks, appending one line per response to `job.unfinished`.

    Args:
        job_file: a GenerationJob as JSON.
        parent: id of the process that started this one.
    """
    job = GenerationJob(**json.loads(Path(job_file).read_text(encoding="utf-8")))
    _exit_with_parent(parent)
    if job.backend != "openai":
        import verl  # noqa: F401  before vLLM: the plugin prepares the environment of the CPU lane

    with only_writer(lock_file(job), wait=True):
        generate(job)


def generate(job: GenerationJob) -> None:
    """Write the plan, then ask the backend for what is missing. Each answer is in the file before the next is taken.

    Raises:
        BackendError: the backend cannot go on. What was answered stays.
    """
    backend = load_backend(job.backend)
    requests = requests_of(job, load_questions(job))
    media = describe_media(job, requests, backend.media_geometry(job))
    with atomic_path(plan_file(job)) as temporary:
        temporary.write_text(Plan([request.key for request in requests], media).to_json(), encoding="utf-8")
    drop_torn_line(job.unfinished)
    done = {record.key for record in read_unfinished(job.unfinished)}
    missing = [request for request in requests if request.key not in done]
    if not missing:
        return
    with open(job.unfinished, "a", encoding="utf-8") as file:
        for answer in backend.answer_requests(job, requests, missing):
            file.write(to_record(answer).to_json() + "\n")
            file.flush()


def to_record(answer: Answer) -> ResponseRecord:
    """The record of an answer."""
    question = answer.request.question
    return ResponseRecord(
        id=question.id,
        clip_id=question.clip_id,
        task=question.task,
        truth=question.truth,
        response=answer.text,
        sample=answer.request.sample,
        prompt_tokens=answer.prompt_tokens,
        response_tokens=answer.response_tokens,
        finish_reason=answer.finish_reason,
    )


def _exit_with_parent(parent: int) -> None:
    """End this process when the one that started it is gone, however it went, and be it before this line."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_LOOKED_FOR_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]))
    except (BackendError, InputError) as error:  # one sentence for people; anything else is a fault with its traceback
        print(f"{error}", file=sys.stderr, flush=True)
        sys.exit(_EXIT_FAULT)
