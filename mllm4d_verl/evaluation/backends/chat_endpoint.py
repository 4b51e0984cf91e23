"""Any OpenAI-compatible server: frames are sampled, resized and controlled here, and sent with the question.

Two forms, chosen by the option `media`:

* "frames" (default): every frame as an image (`image_url`, a data URL), a line with its number and time before it. Any
  server for images takes that.
* "video": all frames as one `video_url` with `media_io_kwargs` for vLLM servers (0.11 and later), which say when each
  frame was and that none may be sampled anew. A Qwen model then sees the timestamps of training, and, as the pictures
  are PNG, its pixels.

Options: `base_url` (required), `api_key_env`, `concurrency` (8), `timeout_s` (600), `max_retries` (4), `media`,
`image_format` ("jpeg" or "png"; JPEG at quality 95 for "frames", PNG for "video"), and `extra`, a JSON object added to
each request.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mllm4d_verl.data_tools.endpoint import ChatClient, Endpoint, GiveUp
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.video import QWEN3_VL, VideoGeometry, load_video

from ..controls import BLIND, control_frames
from ..job import GenerationJob
from ..questions import Question, Request
from .base import Answer, BackendError

_JPEG_QUALITY = 95
_PLACEHOLDER = "<video>"
# Questions in a row without an answer, after all retries of each, until the server counts as dead.
_DEAD_AFTER = 4


@dataclass(frozen=True)
class EndpointOptions:
    """How to reach the server and what to send it; see the module. Checked when made."""

    base_url: str = ""
    api_key_env: str = ""
    concurrency: int = 8
    timeout_s: float = 600.0
    max_retries: int = 4
    media: str = "frames"
    image_format: str = ""
    extra: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.base_url:
            raise InputError(
                "the backend openai needs the address of a server",
                field="--base-url",
                remedy="Give one like http://localhost:8000/v1",
            )
        for name, choices in (("media", ("frames", "video")), ("image_format", ("", "jpeg", "png"))):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{name} must be one of {', '.join(filter(None, choices))}, got {getattr(self, name)!r}",
                    field="--engine",
                )
        if not isinstance(self.concurrency, int) or self.concurrency < 1:
            raise InputError(f"concurrency must be at least 1, got {self.concurrency!r}", field="--engine")
        if self.extra is not None and not isinstance(self.extra, Mapping):
            raise InputError(f"extra must be a JSON object, got {self.extra!r}", field="--engine")

    @property
    def format(self) -> str:
        """Of the pictures, after the default."""
        return self.image_format or ("jpeg" if self.media == "frames" else "png")


def check_options(options: dict[str, Any]) -> None:
    """Raise InputError for an option that this backend does not take, or a value that cannot be."""
    made = _options(options)
    _endpoint(made, "model").check("--engine ")


def media_geometry(job: GenerationJob) -> VideoGeometry:
    """Frames are resized as for Qwen3-VL, to multiples of 32 pixels; what the server does then is its own affair."""
    return QWEN3_VL


def answer_requests(job: GenerationJob, requests: Sequence[Request], missing: Sequence[Request]) -> Iterator[Answer]:
    """See `base`. Raises BackendError when the server is dead, or when it left questions without an answer."""
    options = _options(job.engine)
    give_up = GiveUp(max(_DEAD_AFTER, options.concurrency))
    failures: list[str] = []
    # Questions about one clip side by side: its frames are decoded once.
    waiting = iter(sorted(missing, key=lambda request: request.question.clip_id))
    with (
        ChatClient(_endpoint(options, job.model)) as client,
        ThreadPoolExecutor(options.concurrency) as pool,
    ):

        def ask(request: Request) -> tuple[Answer | None, str]:
            if give_up.given_up:
                return None, give_up.given_up
            reply = client.ask(make_payload(job, options, request), read=str)
            give_up.count(reply.is_unanswered, reply.problem)
            if reply.value is None:
                return None, reply.problem
            return _answer(request, reply.value, reply.completion), ""

        running: set[Future[tuple[Answer | None, str]]] = set()
        while True:
            # No more at a time than threads: a request holds its frames.
            while len(running) < options.concurrency and not give_up.given_up:
                request = next(waiting, None)
                if request is None:
                    break
                running.add(pool.submit(ask, request))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                answer, problem = future.result()
                if answer is None:
                    failures.append(problem)
                else:
                    yield answer
    if give_up.given_up:
        raise BackendError(
            f"the server at {options.base_url} does not answer ({give_up.given_up}). Answers so far are kept: see to "
            "the server and run the same command again"
        )
    if failures:
        raise BackendError(
            f"{len(failures)} requests got no answer from {options.base_url}; the first: {failures[0]}. All others are "
            "kept: run the same command again to ask for these"
        )


def make_payload(job: GenerationJob, options: EndpointOptions, request: Request) -> dict[str, Any]:
    """The chat completion request: the turns of the template, the frames where `<video>` stands."""
    question = request.question
    payload: dict[str, Any] = {
        "model": job.model,
        "messages": [],
        "temperature": job.temperature,
        "max_tokens": job.max_tokens,
    }
    if job.temperature > 0:
        payload["seed"] = request.seed
    if job.control == BLIND:
        media: list[dict[str, Any]] = []
    else:
        frames, metadata = load_frames(job, question)
        if options.media == "video":
            media = [video_part(frames, options.format)]
            payload["media_io_kwargs"] = {"video": _timing(metadata)}
        else:
            media = frame_parts(frames, metadata, options.format)
    for message in question.messages:
        before, found, after = message["content"].partition(_PLACEHOLDER)
        if not found:
            payload["messages"].append({"role": message["role"], "content": message["content"]})
            continue
        texts = [{"type": "text", "text": text} if text else None for text in (before, after)]
        parts = [part for part in (texts[0], *media, texts[1]) if part is not None]
        payload["messages"].append({"role": message["role"], "content": parts})
    return payload | dict(options.extra or {})


def load_frames(job: GenerationJob, question: Question) -> tuple[np.ndarray, dict[str, Any]]:
    """(T, H, W, 3) uint8 frames as training samples and resizes them, under the job's control; and their metadata."""
    frames, metadata = load_video(question.video, QWEN3_VL.patch_size)
    frames = control_frames(frames, job.control, job.seed, question.id)
    return frames.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy(), metadata


def frame_parts(frames: np.ndarray, metadata: Mapping[str, Any], image_format: str) -> list[dict[str, Any]]:
    """Content parts: before each picture a line with the number that questions call the frame by, and its time."""
    parts: list[dict[str, Any]] = []
    for number, (frame, source) in enumerate(zip(frames, metadata["frames_indices"], strict=True)):
        time_s = float(source) / float(metadata["fps"])
        parts.append({"type": "text", "text": f"Frame {number} of 0 to {len(frames) - 1}, {time_s:.1f} seconds:"})
        url = f"data:image/{image_format};base64,{encode_picture(frame, image_format)}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def video_part(frames: np.ndarray, image_format: str) -> dict[str, Any]:
    """One content part with all frames: the picture sequence that vLLM knows as video/jpeg, whatever the pictures are.

    vLLM (multimodal/media/video.py) opens each with PIL, which tells the format from the bytes.
    """
    pictures = ",".join(encode_picture(frame, image_format) for frame in frames)
    return {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{pictures}"}}


def encode_picture(frame: np.ndarray, image_format: str) -> str:
    """A (H, W, 3) uint8 frame as a PNG or JPEG file in base64."""
    from PIL import Image

    file = io.BytesIO()
    settings: dict[str, Any] = {"quality": _JPEG_QUALITY} if image_format == "jpeg" else {"compress_level": 1}
    Image.fromarray(frame).save(file, format=image_format.upper(), **settings)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _timing(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """media_io_kwargs: take all frames, as those of the source video that they are."""
    return {
        "num_frames": -1,
        "fps": float(metadata["fps"]),
        "frames_indices": [int(index) for index in metadata["frames_indices"]],
        "total_num_frames": int(metadata["total_num_frames"]),
        "do_sample_frames": False,
    }


def _answer(request: Request, text: str, completion: Mapping[str, Any]) -> Answer:
    usage = completion.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    finish = completion["choices"][0].get("finish_reason")
    return Answer(request, text, usage.get("prompt_tokens"), usage.get("completion_tokens"), finish)


def _options(options: Mapping[str, Any]) -> EndpointOptions:
    known = [field.name for field in fields(EndpointOptions)]
    unknown = set(options) - set(known)
    if unknown:
        raise InputError(
            f"the backend openai has no option {', '.join(sorted(unknown))}",
            field="--engine",
            remedy=f"Choose from {', '.join(known)}",
        )
    return EndpointOptions(**options)


def _endpoint(options: EndpointOptions, model: str) -> Endpoint:
    return Endpoint(options.base_url, model, options.api_key_env, options.timeout_s, options.max_retries)
