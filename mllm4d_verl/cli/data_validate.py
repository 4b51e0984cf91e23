"""`mllm4d data validate`: which rows of a question set are broken, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json
from mllm4d_verl.terminal import say

BROKEN_ROWS = 2  # exit code


def validate(
    path: Annotated[Path, typer.Argument(help="Question rows of any format: parquet, JSON, JSONL, dataset folder.")],
    origin: Annotated[str, typer.Option("--from", help="Format of PATH; auto looks into it.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="QARow parquet to write the sound rows to.", show_default="none")
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(help="JSONL to write broken rows to: file, row, field, problem, remedy.", show_default="none"),
    ] = None,
    media: Annotated[bool, typer.Option("--media/--no-media", help="Look for the videos.")] = True,
    probe: Annotated[bool, typer.Option("--probe", help="Also decode two frames of each, and count them.")] = False,
    media_root: Annotated[
        str | None, typer.Option(help="Folder that video paths start from.", show_default="that of PATH")
    ] = None,
    num_frames: Annotated[int, typer.Option(help="Frames sampled per video, where PATH does not say.")] = 32,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Check schema, options, answers, frames, numbers, videos, repeats and splits; exit code 2 if rows are broken."""
    from mllm4d_verl.data_tools.validation import validate_set

    def frames_of(video: str) -> int:
        from mllm4d_verl.video.probe import probe_video

        # The rate of a folder of images is the row's affair; only frames are counted here.
        return probe_video({"video": video, "raw_fps": 1.0}).num_frames

    report = validate_set(
        path,
        origin=origin,
        num_frames=num_frames,
        media=media,
        media_root=media_root,
        probe=frames_of if probe else None,
        out=out,
        rejects=rejects,
    )
    for error in report.shown:
        say(str(error), err=True)
    if report.broken > len(report.shown):
        say(f"... and {report.broken - len(report.shown)} more", err=True)
    fields = ", ".join(f"{name} {count}" for name, count in report.fields.most_common())
    splits = ", ".join(f"{name} {count}" for name, count in report.splits.items())
    say(f"{report.rows} rows ({report.format}), {report.broken} broken{f': {fields}' if fields else ''}")
    say(f"sound: {splits or 'none'}; videos {report.videos}, missing {report.missing_videos}")
    if report.shared_clips:
        say(f"{report.shared_clips} clips are in more than one split")
    if json:
        emit_json(report.to_dict())
    if report.broken:
        raise typer.Exit(BROKEN_ROWS)
