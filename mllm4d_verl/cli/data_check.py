"""`mllm4d data check`: estimated clips against true ones."""

from __future__ import annotations

import json as json_lines
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mllm4d_verl.cli.output import emit_json, open_console, progress_bar
from mllm4d_verl.terminal import say

if TYPE_CHECKING:
    from mllm4d_verl.data_tools.annotation.check import CheckReport


def check(
    clips: Annotated[Path, typer.Argument(help="Data root of estimated clips, as `mllm4d data annotate` writes it.")],
    truth: Annotated[Path, typer.Option(help="Data root of true clips, such as a world of `mllm4d data synth`.")],
    figures: Annotated[
        Path | None,
        typer.Option(help="Histograms over clips as .png, or one JSON line per clip as .jsonl.", show_default=False),
    ] = None,
    depth_range: Annotated[tuple[float, float], typer.Option(help="True depths that count, metres.")] = (2.0, 8.0),
    num_frames: Annotated[int, typer.Option(help="Frames sampled for questions, even.", min=2)] = 32,
    seed: Annotated[int, typer.Option(help="Of frame pairs and options of the questions.", min=0)] = 0,
    per_clip: Annotated[bool, typer.Option("--per-clip", help="Also a table with one line per clip.")] = False,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Compare estimated with true clips: depth, camera poses, moving objects, and the answers made from them."""
    from mllm4d_verl.data_tools.annotation.check import CheckConfig, check_clips, plot_report
    from mllm4d_verl.data_tools.atomic import atomic_path

    console = open_console()
    config = CheckConfig(depth_range_m=depth_range, num_frames=num_frames, seed=seed)
    with progress_bar(console, "clips") as progress:
        report = check_clips(clips, truth, config, progress)
    _print_report(report)
    if per_clip:
        _print_clips(report)
    if figures is not None and figures.suffix == ".jsonl":
        lines = [
            json_lines.dumps({"clip_id": name, **record}, sort_keys=True) for name, record in report.per_clip.items()
        ]
        with atomic_path(figures) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    elif figures is not None:
        plot_report(report, figures)
    if figures is not None:
        say(f"figures of each clip in {figures}")
    if json:
        emit_json(report.to_dict())


#: Lines about what the wrong answers are about; the JSON has every one.
_MOST_FAULTS = 5

#: Part, figure, its words, factor and unit. Figures that end in _median have a partner that ends in _p90.
_ROWS: tuple[tuple[str, str, str, float, str], ...] = (
    ("depth", "relative_error_median", "depth: relative error of pixels", 100, "%"),
    ("depth", "points_relative_error_median", "depth: relative error of object points", 100, "%"),
    ("depth", "valid_share", "depth: pixels that have one", 100, "%"),
    ("poses", "end_center_m", "camera: centre at the last frame", 100, "cm"),
    ("poses", "end_center_percent", "camera: the same, of its path", 1, "%"),
    ("poses", "center_within_limit", "camera: clips within 2% of the path or 2 cm", 100, "%"),
    ("poses", "rotation_within_limit", "camera: clips within 0.2 degrees", 100, "%"),
    ("poses", "ate_m", "camera: root mean square of centres", 100, "cm"),
    ("poses", "end_rotation_deg", "camera: rotation at the last frame", 1, "deg"),
    ("poses", "max_rotation_deg", "camera: largest rotation error", 1, "deg"),
    ("poses", "step_m", "camera: shift from frame to frame", 100, "cm"),
    ("poses", "step_deg", "camera: turn from frame to frame", 1, "deg"),
    ("objects", "recall", "objects: moving ones found", 100, "%"),
    ("objects", "frame_recall", "objects: frames of moving ones found", 100, "%"),
    ("objects", "precision", "objects: found ones that do move", 100, "%"),
    ("objects", "switch_share", "objects: identity switches per matched frame", 100, "%"),
    ("objects", "mota", "objects: MOTA", 100, "%"),
    ("objects", "center_m_median", "objects: centre", 100, "cm"),
    ("objects", "displacement_m_median", "objects: displacement of the centre", 100, "cm"),
    ("objects", "mask_iou_median", "objects: overlap of masks", 100, "%"),
)


def _print_report(report: CheckReport) -> None:
    from rich.table import Table

    console = open_console()
    table = Table()
    table.add_column("figure")
    for column in ("median or share", "p90", "unit"):
        table.add_column(column, justify="right")
    parts = {"depth": report.depth, "poses": report.poses, "objects": report.objects}
    for part, name, words, factor, unit in _ROWS:
        value, high = _figure(parts[part], name)
        if value is not None:
            table.add_row(words, f"{factor * value:.3g}", "" if high is None else f"{factor * high:.3g}", unit)
    table.add_row("clips: true ones that have an estimate", f"{100 * report.clips['kept_share']:.3g}", "", "%")
    console.print(table)
    answers = Table()
    for column in (
        "answers about",
        "questions",
        "agree",
        "no such object",
        "dead zone",
        "also asked",
        "agree",
        "close",
    ):
        answers.add_column(column, justify="left" if column == "answers about" else "right", overflow="fold")
    for task, record in {**report.answers["tasks"], "all": report.answers}.items():
        answers.add_row(
            task,
            str(record["questions"]),
            _percent(record["agreement"]),
            str(record["no_such_object"]),
            str(record["dead_zone"]),
            str(record["questions_asked"]),
            _percent(record["agreement_asked"]),
            _percent(record["distances_within"]),
        )
    console.print(answers)
    objects, counts = report.objects, report.clips
    say(
        f"objects: {objects['found']} of {objects['true_moving']} moving ones found, {objects['false_moving']} of "
        f"{objects['estimated_moving']} false, {objects['switches']} switches in {objects['matched_frames']} frames"
    )
    for pair, count in objects["moving"].items():
        say(f"  {pair}: {count}")
    faults = Counter((wrong["clip_id"], wrong["object"] or "the camera") for wrong in report.disagreements)
    if faults:
        kinds = ", ".join(f"{fault} {count}" for fault, count in report.answers["faults"].items())
        say(f"{len(report.disagreements)} answers disagree: {kinds}; most of them about")
    for (clip_id, about), count in faults.most_common(_MOST_FAULTS):
        say(f"  {clip_id}, {about}: {count}")
    for note in report.notes[:10]:
        say(f"left out: {note}", err=True)
    kept = _percent(counts["kept_share"])
    say(f"{counts['compared']} clips compared; of {counts['truth']} true clips {kept} are there")


def _print_clips(report: CheckReport) -> None:
    from rich.table import Table

    table = Table()
    columns = ("clip", "depth %", "camera cm", "rotation deg", "moving found", "false", "switches", "answers agree")
    for column in columns:
        table.add_column(column, justify="left" if column == "clip" else "right")
    for name, record in report.per_clip.items():
        depth, poses, objects = record["depth"], record["poses"], record["objects"]
        error, answers = depth.get("relative_error_median"), record.get("answers", {"questions": 0, "agreement": None})
        table.add_row(
            name,
            "" if error is None else f"{100 * error:.2f}",
            f"{100 * poses['end_center_m']:.2f}",
            f"{poses['max_rotation_deg']:.3f}",
            f"{objects['found']} of {objects['true_moving']}",
            f"{objects['false_moving']} of {objects['estimated_moving']}",
            str(objects["switches"]),
            f"{_percent(answers['agreement'])} of {answers['questions']}",
        )
    open_console().print(table)


def _figure(part: dict[str, Any], name: str) -> tuple[float | None, float | None]:
    value = part.get(name)
    if isinstance(value, dict):  # over clips
        return value["median"], value["p90"]
    stem = name.removesuffix("_median")
    return value, (part.get(f"{stem}_p90", part.get(f"{stem}_p10")) if stem != name else None)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"
