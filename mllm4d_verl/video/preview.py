"""A question as a model sees it: sampled frames with their numbers and times, prompt, options, truth, tokens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.sampling import sample_frame_indices
from mllm4d_verl.prompts import render_messages
from mllm4d_verl.video.budget import QWEN3_VL, VideoGeometry, video_tokens
from mllm4d_verl.video.element import video_element
from mllm4d_verl.video.probe import check_video
from mllm4d_verl.video.reading import open_element

if TYPE_CHECKING:
    from mllm4d_verl.data_tools.schema import QARow

_COLUMNS = 8  # frames side by side
_PIXELS_A_LINE = 18


@dataclass(frozen=True)
class Preview:
    """What is known of a question before a model is run.

    Attributes:
        messages: turns of the prompt.
        frame_indices: (N,) frames of the file that are sampled; `times_s` when they were taken.
        width, height: pixels of a frame after resizing; `file_width`, `file_height` before.
        video_tokens, text_tokens: of the prompt; text_tokens None without a processor.
        model: whose sizes they are.
    """

    messages: list[dict[str, str]]
    frame_indices: list[int]
    times_s: list[float]
    file_width: int
    file_height: int
    width: int
    height: int
    video_tokens: int
    text_tokens: int | None
    model: str


def preview_row(
    row: QARow,
    folder: str | os.PathLike[str],
    template: str,
    media_root: str | os.PathLike[str] | None = None,
    processor: Any = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> Preview:
    """Render the prompt of a row and measure its video.

    Args:
        folder: of the row's file.
        processor: of Qwen3-VL or Qwen2.5-VL; None takes Qwen3-VL's sizes and leaves the text uncounted.
        min_pixels, max_pixels: of a frame, as in the training config.

    Raises:
        InputError: the template, or the video.
    """
    messages = render_messages(row, template)
    info = check_video(video_element(row, media_root, folder), row.num_frames)
    indices = sample_frame_indices(info.num_frames, row.num_frames)
    geometry = QWEN3_VL if processor is None else VideoGeometry.from_processor(processor)
    _, rows, columns = geometry.grid(row.num_frames, info.height, info.width, min_pixels, max_pixels)

    def count(text: str) -> int:
        return len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    tokens = video_tokens(
        geometry,
        row.num_frames,
        info.height,
        info.width,
        min_pixels,
        max_pixels,
        total_frames=info.num_frames,
        fps=info.fps,
        irregular_times_s=info.irregular_times_s,
        # without a tokenizer: "<12.3 seconds>" is 6 to 8 tokens of Qwen's
        count_text_tokens=count if processor is not None else lambda stamp: len(stamp) // 2,
    )
    text_tokens = None
    if processor is not None:
        chat = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        text_tokens = count(chat.replace("<video>", ""))
    return Preview(
        messages=messages,
        frame_indices=indices,
        times_s=[info.time_s(index) for index in indices],
        file_width=info.width,
        file_height=info.height,
        width=columns * geometry.patch_size,
        height=rows * geometry.patch_size,
        video_tokens=tokens,
        text_tokens=text_tokens,
        model=type(processor).__name__.removesuffix("Processor") if processor is not None else "Qwen3VL",
    )


def describe(row: QARow, preview: Preview) -> list[str]:
    """Lines of text: sizes, prompt, options, truth."""
    times = preview.times_s
    text = "not counted (give --model)" if preview.text_tokens is None else str(preview.text_tokens)
    lines = [
        f"{row.id}: {row.task}, clip {row.clip_id}, split {row.split}",
        f"{row.num_frames} frames from {times[0]:.2f} s to {times[-1]:.2f} s, asked about frame {row.start_frame} "
        f"({times[row.start_frame]:.2f} s) and {row.end_frame} ({times[row.end_frame]:.2f} s)",
        f"a frame is {preview.file_width}x{preview.file_height} pixels, {preview.width}x{preview.height} for "
        f"{preview.model}; video tokens {preview.video_tokens}, text tokens {text}",
    ]
    for message in preview.messages:
        lines += [f"[{message['role']}]", *message["content"].splitlines()]
    truth = f"[truth] {row.answer}" + (f" ({row.answer_text})" if row.answer_text != row.answer else "")
    if row.value is not None:
        truth += f", value {row.value:g} {row.unit or ''}".rstrip()
    lines.append(truth)
    for name in ("camera_center", "object_center"):
        if getattr(row, name) is not None:
            lines.append(f"[truth] {name} {getattr(row, name)}")
    return lines


def draw_preview(path: Path, row: QARow, preview: Preview, element: Mapping[str, Any]) -> None:
    """Write a PNG: the sampled frames as the model gets them, numbered and timed, ends marked, the text below."""
    import textwrap

    import cv2
    from matplotlib.figure import Figure

    size = (preview.width, preview.height)
    frames = open_element(element).frames_at(preview.frame_indices)
    pictures = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    columns = min(_COLUMNS, len(pictures))
    lines = [part for line in describe(row, preview) for part in textwrap.wrap(line, 150) or [""]]
    count = -(-len(pictures) // columns)
    tall = 2.0 * preview.height / preview.width + 0.25
    text_tall = (len(lines) + 1) * _PIXELS_A_LINE / 100
    figure = Figure(figsize=(2.0 * columns, count * tall + text_tall))
    grid = figure.add_gridspec(
        count, columns, left=0.005, right=0.995, top=0.99, bottom=text_tall / (count * tall + text_tall), hspace=0.25
    )
    for number, picture in enumerate(pictures):
        axis = figure.add_subplot(grid[number // columns, number % columns])
        axis.imshow(picture, interpolation="nearest")
        ends = {row.start_frame: "start", row.end_frame: "end"}
        label = f"{number} ({preview.times_s[number]:.2f} s) {ends.get(number, '')}"
        axis.set_title(label, fontsize=8, color="crimson" if number in ends else "black", pad=2)
        axis.set(xticks=[], yticks=[])
    height = text_tall / (count * tall + text_tall)
    # "$" would start a formula
    text = "\n".join(lines).replace("$", r"\$")
    figure.text(0.01, height - 0.01, text, fontsize=8, family="monospace", verticalalignment="top")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
