"""`mllm4d data calibrate`: chessboard pictures to a calibration file."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mllm4d_verl.cli.output import emit_json, open_console
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.terminal import say

if TYPE_CHECKING:
    from mllm4d_verl.data_tools.stereo.calibrate import View

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp"}


def calibrate(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="LEFT [RIGHT]",
            help="Folders of chessboard pictures, or quoted patterns such as 'pics/left*.jpg'. One calibrates one "
            "camera, two a stereo pair; pairs are found by the number in the names.",
        ),
    ],
    out: Annotated[Path, typer.Argument(help="JSON to write.")],
    board: Annotated[
        str, typer.Option(help="Inner corners of the board, COLUMNSxROWS: one less than squares each way.")
    ],
    square: Annotated[float, typer.Option(help="Side of a square, metres. The baseline scales with it.")],
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Calibrate a camera or a stereo pair from pictures of a chessboard."""
    from mllm4d_verl.data_tools.stereo.calibrate import (
        calibrate_camera,
        calibrate_stereo,
        calibration_record,
        pair_pictures,
        write_calibration,
    )

    if len(pictures) > 2:
        raise InputError(
            f"{len(pictures)} sources of pictures given, one or two are expected",
            field="LEFT [RIGHT]",
            remedy="Quote patterns, so that the shell does not list the files itself",
        )
    pattern = _parse_board(board)
    if out.suffix != ".json":
        raise InputError("calibrations are written as JSON", file=out, field="OUT", remedy="Let the name end in .json")
    files = [_list_pictures(source) for source in pictures]
    report: dict[str, Any]
    if len(files) == 1:
        camera = calibrate_camera(files[0], pattern, square)
        _print_views(camera.views, ("camera",))
        say(
            f"RMS {camera.rms_px:.3f} px; focal length {camera.matrix[0, 0]:.1f} px "
            f"(std {camera.focal_std_px:.2f}); corners cover {camera.coverage:.0%} of the picture"
        )
        warnings, views, alone = camera.warnings(), camera.views, []
        record = calibration_record(camera)
        report = {"rms_px": camera.rms_px, "coverage": [camera.coverage]}
        write_calibration(out, camera)
    else:
        pairs, alone = pair_pictures(files[0], files[1])
        stereo = calibrate_stereo(pairs, pattern, square)
        rectified = stereo.raw.rectify().camera
        _print_views(stereo.views, ("left", "right"))
        say(
            f"RMS: left {stereo.left.rms_px:.3f} px, right {stereo.right.rms_px:.3f} px, "
            f"stereo {stereo.rms_px:.3f} px; baseline {rectified.baseline:.4f} m, rectified focal length "
            f"{rectified.focal_px:.1f} px; corners cover {stereo.left.coverage:.0%} and {stereo.right.coverage:.0%}"
        )
        warnings, views = stereo.warnings(), stereo.views
        record = calibration_record(stereo.raw)
        report = {
            "rms_px": stereo.rms_px,
            "left_rms_px": stereo.left.rms_px,
            "right_rms_px": stereo.right.rms_px,
            "coverage": [stereo.left.coverage, stereo.right.coverage],
            "baseline_m": rectified.baseline,
        }
        write_calibration(out, stereo.raw)
    for path in alone:
        say(f"left out: {path}: no partner in the other eye", err=True)
    for warning in warnings:
        say(f"warning: {warning}", err=True)
    say(f"calibration in {out}")
    if json:
        report |= {
            "out": str(out),
            "board": list(pattern),
            "square_m": square,
            "views": [_view_record(view) for view in views],
            "without_partner": [str(path) for path in alone],
            "warnings": warnings,
            "calibration": record,
        }
        emit_json(report)


def _parse_board(board: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)[xX](\d+)", board)
    if not match:
        raise InputError(f"board {board!r} is not COLUMNSxROWS", field="--board", remedy="For example --board 9x6")
    return int(match.group(1)), int(match.group(2))


def _list_pictures(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        files = [file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")]
    else:
        files = [Path(name) for name in glob.glob(source)]
    if not files:
        raise InputError("no pictures found", file=source, remedy="Name a folder of pictures or a quoted pattern")
    return sorted(files)


def _print_views(views: list[View], cameras: tuple[str, ...]) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("view", overflow="fold")
    for camera in cameras:
        table.add_column(f"{camera} error, px", justify="right")
    table.add_column("left out because", overflow="fold")
    for view in views:
        errors = [f"{error:.3f}" if error == error else "" for error in view.errors_px]
        table.add_row(view.name, *errors, view.left_out or "")
    open_console().print(table)


def _view_record(view: View) -> dict[str, Any]:
    errors = [error if error == error else None for error in view.errors_px]  # JSON has no NaN
    return {"view": view.name, "errors_px": errors, "left_out": view.left_out}
