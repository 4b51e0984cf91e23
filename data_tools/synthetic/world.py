"""Write a folder of synthetic stereo clips: what a user would have, and the exact truth apart from it."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_path
from ..errors import InputError
from ..schema import write_clip, write_clip_index
from .config import WorldConfig, world_preset
from .mp4 import write_mp4
from .render import StereoRender, exact_clip, render_stereo
from .scene import Scene, sample_scene

#: Raised when the same seed starts to give other pixels, so that a half-written folder is not finished with them.
WORLD_VERSION = 1


@dataclass(frozen=True)
class _Job:
    """What a worker needs to write any clip of a world."""

    root: Path
    seed: int
    width: int
    height: int
    num_frames: int
    fps: float
    config: WorldConfig
    dense: bool


def write_world(
    out: str | os.PathLike[str],
    clips: int,
    seed: int = 0,
    width: int = 96,
    height: int = 96,
    num_frames: int = 32,
    fps: float = 8.0,
    config: WorldConfig | str = "default",
    dense: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write `clips` stereo clips under `out` and return their ids.

    Layout: `<clip>/{left.mp4,right.mp4,calibration.json}`, `truth/<clip>.npz` (Clip4D), `truth/dense/<clip>.npz`
    (depth and instance masks), `truth/clips.parquet` (index), `truth/world.json` (what made it).

    A clip depends on seed and number alone, so neither the number of workers nor that of clips changes it. A clip
    appears whole or not at all; clips that are there are kept, so a killed run resumes.

    Args:
        out: folder; created.
        clips: number of clips.
        seed: any non-negative integer.
        width, height: pixels, even.
        num_frames: frames per clip.
        fps: frames per second.
        config: a WorldConfig or the name of a preset.
        dense: also write depth and masks, the larger part of the disk space.
        workers: processes; with more than one they are spawned, so the caller's script needs a `__main__` guard.
        progress: called as progress(done, total) after each clip, first with the clips found.

    Raises:
        InputError: bad numbers, or `out` holds a world made with other settings.
    """
    _check(clips, seed, width, height, num_frames, fps)
    settings = world_preset(config) if isinstance(config, str) else config
    root = Path(out)
    job = _Job(root, seed, width, height, num_frames, fps, settings, dense)
    _claim(job)
    names = [f"clip_{number:05d}" for number in range(clips)]
    missing = [number for number, name in enumerate(names) if not _is_complete(job, name)]
    kept = clips - len(missing)
    report = progress or (lambda done, total: None)
    report(kept, clips)
    write = partial(_write_clip, job)
    if workers > 1 and len(missing) > 1:
        # Spawned, not forked: the caller may hold threads of OpenCV, Arrow or torch, which do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(missing)), context) as pool:
            for done, _ in enumerate(pool.map(write, missing, chunksize=4), start=kept + 1):
                report(done, clips)
    else:
        for done, number in enumerate(missing, start=kept + 1):
            write(number)
            report(done, clips)
    if missing or not (root / "truth" / "clips.parquet").is_file():
        write_clip_index(root / "truth")
    return names


def clip_scene(seed: int, number: int, num_frames: int, aspect: float, config: WorldConfig) -> Scene:
    """The scene of clip `number` of the world `seed`, without rendering it."""
    return sample_scene(config, num_frames, aspect, np.random.default_rng([seed, number]))


def _write_clip(job: _Job, number: int) -> None:
    name = f"clip_{number:05d}"
    scene = clip_scene(job.seed, number, job.num_frames, job.height / job.width, job.config)
    render = render_stereo(scene, job.config, job.width, job.height)
    _write_user_files(job, name, render)
    if job.dense:
        with atomic_path(_dense_path(job, name)) as temporary:
            np.savez_compressed(temporary, depth=render.depth, mask=render.mask)
    # Last: the record is what marks the clip as complete.
    video = f"{name}/left.mp4"
    clip = exact_clip(scene, render, clip_id=name, video=video, fps=job.fps, baseline_m=job.config.baseline_m)
    write_clip(job.root / "truth", clip)


def _write_user_files(job: _Job, name: str, render: StereoRender) -> None:
    final, partial_folder = job.root / name, job.root / f".{name}.partial"
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    write_mp4(partial_folder / "left.mp4", render.left, job.fps)
    write_mp4(partial_folder / "right.mp4", render.right, job.fps)
    calibration = {
        "model": "rectified pinhole",
        "width": job.width,
        "height": job.height,
        "fps": job.fps,
        "intrinsics": render.intrinsics.tolist(),
        "baseline_m": job.config.baseline_m,
    }
    (partial_folder / "calibration.json").write_text(json.dumps(calibration, indent=2) + "\n")
    shutil.rmtree(final, ignore_errors=True)
    partial_folder.rename(final)


def _dense_path(job: _Job, name: str) -> Path:
    return job.root / "truth" / "dense" / f"{name}.npz"


def _is_complete(job: _Job, name: str) -> bool:
    files = [job.root / "truth" / f"{name}.npz", job.root / name / "left.mp4"]
    if job.dense:
        files.append(_dense_path(job, name))
    return all(file.is_file() for file in files)


def _claim(job: _Job) -> None:
    """Note what makes this world, or refuse a folder that was made otherwise."""
    note: dict[str, Any] = {
        "version": WORLD_VERSION,
        "seed": job.seed,
        "width": job.width,
        "height": job.height,
        "num_frames": job.num_frames,
        "fps": job.fps,
        "config": job.config.to_dict(),
    }
    note = json.loads(json.dumps(note))
    file = job.root / "truth" / "world.json"
    if file.is_file():
        try:
            found = json.loads(file.read_text())
        except json.JSONDecodeError as error:
            raise InputError(f"not JSON ({error})", file=file, remedy="Delete the folder and start again") from None
        if found != note:
            different = sorted(key for key in note.keys() | found.keys() if found.get(key) != note.get(key))
            raise InputError(
                f"the folder holds a world with another {', '.join(different)}",
                file=file,
                remedy="Choose another folder, or delete this one",
            )
        return
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(note, indent=2) + "\n")


def _check(clips: int, seed: int, width: int, height: int, num_frames: int, fps: float) -> None:
    if clips < 1:
        raise InputError(f"{clips} clips asked for", field="clips", remedy="Ask for at least one")
    if seed < 0:
        raise InputError(f"seed is {seed}", field="seed", remedy="Use a non-negative integer")
    for field, size in (("width", width), ("height", height)):
        if size < 16 or size % 2:
            raise InputError(f"{size} pixels", field=field, remedy="Use an even number of at least 16")
    if num_frames < 2:
        raise InputError(f"{num_frames} frames", field="num_frames", remedy="Ask for at least two")
    if not 0 < fps <= 240:
        raise InputError(f"{fps} frames per second", field="fps", remedy="Use a rate within 0 and 240")
