"""The keys of `data=mllm4d` that say how a row becomes a prompt."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mllm4d_verl.data_tools.control_tokens import MODES, REFUSE, special_tokens_of
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import known_tasks
from mllm4d_verl.prompts import DATASET_TEMPLATE, load_template, render_conversation, render_messages
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
        special_tokens: what becomes of a control token (`<|im_end|>`) in a text of a row: `refuse`, or `plain` text.
        vocabulary: special tokens of the tokenizer in use, which are looked for as well.
    """

    prompt_template: str = DEFAULT_TEMPLATE
    media_root: str | None = None
    num_frames: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    tasks: tuple[str, ...] | None = None
    special_tokens: str = REFUSE
    vocabulary: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.prompt_template != DATASET_TEMPLATE:
            load_template(self.prompt_template)
        check_pixel_limits(self.min_pixels, self.max_pixels)
        if self.special_tokens not in MODES:
            raise InputError(
                f"unknown treatment {self.special_tokens!r}",
                field="data.special_tokens",
                remedy=f"Choose from {', '.join(MODES)}",
            )
        if self.tasks is not None:
            check_tasks(self.tasks)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tokenizer: Any = None) -> PromptOptions:
        """From verl's `data` config; keys that are absent or null take their defaults.

        Args:
            tokenizer: whose special tokens may not come out of a row; None knows control tokens by their form only.
        """
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
            special_tokens=config.get("special_tokens") or REFUSE,
            vocabulary=special_tokens_of(tokenizer) if tokenizer is not None else frozenset(),
        )

    def messages(self, row: QARow) -> list[dict[str, str]]:
        """The row's prompt; see `render_messages`."""
        return render_messages(row, self.prompt_template, self.special_tokens, self.vocabulary)

    def conversation(self, row: QARow) -> list[dict[str, str]]:
        """The row's prompt and target; see `render_conversation`."""
        return render_conversation(row, self.prompt_template, self.special_tokens, self.vocabulary)

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
