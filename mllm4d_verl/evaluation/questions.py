"""The questions of a job and the requests they make: one per question and sample, in the order of the file."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.datasets.options import PromptOptions
from mllm4d_verl.datasets.reader import at, ground_truth, read_rows
from mllm4d_verl.video import VideoGeometry, probe_video

from .controls import BLIND, derived_seed
from .job import GenerationJob


@dataclass(frozen=True)
class Question:
    """One question, ready to be asked.

    Attributes:
        index: of its row in the file, and in the training dataset over that file.
        id, clip_id: of the row.
        task: of the row; a benchmark's own name of it where the row came from a benchmark.
        truth: what STReward takes.
        messages: chat turns with `<video>` for the clip.
        video: see `video.video_element`.
    """

    index: int
    id: str
    clip_id: str
    task: str
    truth: dict[str, Any]
    messages: list[dict[str, str]]
    video: dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One response that is wanted.

    Attributes:
        question: what is asked.
        sample: which of the question's responses, 0-based.
        seed: of its sampling; other for every question and sample, and the same in every rerun.
    """

    question: Question
    sample: int
    seed: int

    @property
    def key(self) -> tuple[str, int]:
        """As `ResponseRecord.key`."""
        return self.question.id, self.sample


def load_questions(job: GenerationJob) -> list[Question]:
    """All questions of the job's file, in order.

    Raises:
        InputError: a row, the template or a video element that does not fit, naming file and row.
    """
    options = PromptOptions.from_config({**job.dataset, "prompt_template": job.template})
    questions = []
    for index, source in enumerate(read_rows([job.data], options)):
        row = source.row
        try:
            messages, video = options.messages(row), options.video_element(row, source.folder)
        except InputError as error:
            raise at(source, error) from error
        task = str(row.meta.get("benchmark_task") or row.task)
        questions.append(Question(index, row.id, row.clip_id, task, ground_truth(row), messages, video))
    return questions


def requests_of(job: GenerationJob, questions: Sequence[Question]) -> list[Request]:
    """Every sample of the questions that the job's limit chooses, in the order of the questions."""
    chosen = select_questions([question.task for question in questions], job.limit)
    return [
        Request(questions[index], sample, derived_seed(job.seed, questions[index].id, sample))
        for index in chosen
        for sample in range(job.samples)
    ]


def select_questions(tasks: Sequence[str], limit: int | None) -> list[int]:
    """Indices of all questions, or of `limit`: one of every task in turn, so that a short run covers all tasks."""
    if limit is None or limit >= len(tasks):
        return list(range(len(tasks)))
    by_task: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        by_task.setdefault(task, []).append(index)
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*by_task.values()))
    return sorted(itertools.islice((index for index in in_turn if index is not None), limit))


def describe_media(job: GenerationJob, requests: Sequence[Request], geometry: VideoGeometry) -> dict[str, Any]:
    """What the model sees of the videos: how many frames, how dense in time, how large; counts are of questions.

    Args:
        job: with the control.
        requests: of the job.
        geometry: of the processor that resizes the frames.

    Returns:
        num_frames, frame_size ("HxW" pixels), and sampled_fps {min, max}: frames per second of video, after sampling.
    """
    frames: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    densities = []
    if job.control == BLIND:
        return {"num_frames": {}, "frame_size": {}, "sampled_fps": None}
    for video in (request.question.video for request in requests if request.sample == 0):
        info, count = probe_video(video), video["nframes"]
        _, rows, columns = geometry.grid(
            count, info.height, info.width, video.get("min_pixels"), video.get("max_pixels")
        )
        frames[str(count)] += 1
        sizes[f"{rows * geometry.patch_size}x{columns * geometry.patch_size}"] += 1
        whole_s = info.duration_s
        start_s, end_s = video.get("video_start") or 0.0, min(video.get("video_end") or whole_s, whole_s)
        densities.append(round(count / (end_s - start_s), 4))
    return {
        "num_frames": dict(frames),
        "frame_size": dict(sizes),
        "sampled_fps": {"min": min(densities), "max": max(densities)},
    }
