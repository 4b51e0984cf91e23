"""The keys of `data=mllm4d` that say how a row becomes a prompt."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import known_tasks
from mllm4d_verl.prompts import DATASET_TEMPLATE, load_template
from mllm4d_verl.video.element import check_pixel_limits, video_element

if TYPE_CHECKING:
    from mllm4d_verl.data_tools.schema import QARow

DEFAULT_TEMPLATE = "st_cot"


@dataclass(frozen=True)
class PromptOptions:
    """How rows become prompts; checked when made.

    Attributes:
        prompt_template: see `mllm4d_verl.prompts.load_template`.
        media_root: folder that the rows' video paths start from; None means the folder of the rows' file.
        num_frames: None takes each row's own; another number than the row's is refused.
        min_pixels, max_pixels: of a frame, before the model's processor; None takes the defaults of qwen_vl_utils.
        tasks: keep these tasks only; None keeps all.
    """

    prompt_template: str = DEFAULT_TEMPLATE
    media_root: str | None = None
    num_frames: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    tasks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.prompt_template != DATASET_TEMPLATE:
            load_template(self.prompt_template)
        check_pixel_limits(self.min_pixels, self.max_pixels)
        if self.tasks is not None:
            check_tasks(self.tasks)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PromptOptions:
        """From verl's `data` config; keys that are absent or null take their defaults."""
        tasks = config.get("tasks")
        if isinstance(tasks, str):
            tasks = [tasks]
        return cls(
            prompt_template=config.get("prompt_template") or DEFAULT_TEMPLATE,
            media_root=config.get("media_root"),
            num_frames=config.get("num_frames"),
            min_pixels=config.get("min_pixels"),
            max_pixels=config.get("max_pixels"),
            tasks=None if tasks is None else tuple(tasks),
        )

    def video_element(self, row: QARow, folder: str) -> dict[str, Any]:
        """The row's video as verl and qwen_vl_utils take it; `folder` holds the row's file."""
        return video_element(row, self.media_root, folder, self.min_pixels, self.max_pixels, self.num_frames)


def check_tasks(tasks: Iterable[str]) -> None:
    """Raise InputError, with the nearest name, where no rows can have a task of that name."""
    known = known_tasks()
    for task in tasks:
        if task not in known:
            near = difflib.get_close_matches(task, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise InputError(
                f"unknown task {task!r}", field="data.tasks", remedy=f"{hint}Choose from {', '.join(known)}"
            )
