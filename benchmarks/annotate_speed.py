"""Frames per second of annotating a clip in one process and one thread, against bare OpenCV on the same frames.

    python benchmarks/annotate_speed.py [--clips FOLDER] [--num-clips 2] [--repeats 1] [--json]

The bare chain: StereoSGBM 3WAY with 64 disparities, 1000 corners of `goodFeaturesToTrack`, followed by
`calcOpticalFlowPyrLK`, and `solvePnPRansac` on their metric points, anew for every frame. It is given decoded frames;
what is annotated is decoded by itself, so the ratio is shown with and without decoding. Both take turns on every clip.
Times are of the processor, over all threads of this process; wall time, which other work on the machine lengthens,
stands beside them. Stages are timed by wrapping the calls that `annotate_clip` makes; one that runs within another is
taken out of it. Without --clips, clips of the synthetic world's default preset are rendered.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

# Before numpy is there: as in the processes of `annotate`, since idle threads of BLAS spin on the processor's time.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import cv2
import numpy as np

from mllm4d_verl.data_tools.annotation import clip as clip_module
from mllm4d_verl.data_tools.annotation.config import load_config
from mllm4d_verl.data_tools.annotation.objects import FoundByMotion, SourceObjects
from mllm4d_verl.data_tools.annotation.quality import FrameMeter
from mllm4d_verl.data_tools.annotation.run import find_source
from mllm4d_verl.data_tools.estimation import odometry as odometry_module
from mllm4d_verl.data_tools.estimation.disparity import MatchedDisparity, SourceDisparity, gray_image
from mllm4d_verl.data_tools.estimation.odometry import StereoOdometry
from mllm4d_verl.data_tools.readers import open_clip
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.stereo.clip import StereoClip, StereoPair
from mllm4d_verl.data_tools.synthetic import write_world

DECODE, QUALITY, RANGE, DISPARITY = "decode", "quality and alignment", "disparity range", "disparity"
TRACK, REFINE, OBJECTS, WRITE, REST = "odometry", "odometry: refinement", "objects", "writing", "everything else"
STAGES = (DECODE, QUALITY, RANGE, DISPARITY, TRACK, REFINE, OBJECTS, WRITE, REST)


@dataclass
class Span:
    """Seconds of the processor and of the clock."""

    cpu: float = 0.0
    wall: float = 0.0

    def add(self, cpu: float, wall: float) -> None:
        self.cpu += cpu
        self.wall += wall


class Stages:
    """Time by stage; the innermost one that is running gets it."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = defaultdict(Span)
        self._running: list[str] = []
        self._since = (0.0, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.stage(name):
                return call(*arguments, **named)

        return timed

    def wrap_iterator(self, name: str, call: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def timed(*arguments: Any, **named: Any) -> Iterator[Any]:
            items = call(*arguments, **named)
            while True:
                with self.stage(name):
                    item = next(items, None)
                if item is None:
                    return
                yield item

        return timed

    def _charge(self) -> None:
        now = time.process_time(), time.perf_counter()
        if self._running:
            self.spans[self._running[-1]].add(now[0] - self._since[0], now[1] - self._since[1])
        self._since = now


def annotate_timed(clip: StereoClip, stages: Stages, out: Path) -> bool:
    """Annotate a clip with default settings; whether all of it was kept."""
    calls: list[tuple[Any, str, str]] = [
        (FrameMeter, "see", QUALITY),
        (clip_module, "measure_alignment", QUALITY),
        (clip_module, "make_disparity_estimator", RANGE),
        (MatchedDisparity, "compute", DISPARITY),
        (SourceDisparity, "compute", DISPARITY),
        (StereoOdometry, "add", TRACK),
        (StereoOdometry, "finish", TRACK),
        (StereoOdometry, "fitted_offset", TRACK),
        (odometry_module, "refine_window", REFINE),
        (clip_module, "objects_of", OBJECTS),
        (FoundByMotion, "add", OBJECTS),
        (FoundByMotion, "finish", OBJECTS),
        (SourceObjects, "add", OBJECTS),
        (SourceObjects, "finish", OBJECTS),
        (clip_module, "write_clip", WRITE),
        (clip_module, "write_mp4", WRITE),
    ]
    with ExitStack() as stack:
        for owner, name, stage in calls:
            stack.enter_context(patch.object(owner, name, stages.wrap(stage, getattr(owner, name))))
        stack.enter_context(patch.object(clip, "pairs", stages.wrap_iterator(DECODE, clip.pairs)))
        with stages.stage(REST):
            outcomes = clip_module.annotate_clip(clip, load_config(None, {}), out)
    return all(outcome.is_kept for outcome in outcomes)


class BareChain:
    """Depth and camera motion as OpenCV's samples have them, frame after frame."""

    def __init__(self, camera: StereoCamera) -> None:
        self.camera = camera
        self.matcher = cv2.StereoSGBM.create(
            0, 64, 5, 8 * 25, 32 * 25, 1, 31, 10, 100, 2, cv2.STEREO_SGBM_MODE_SGBM_3WAY
        )
        self.before: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, pair: StereoPair) -> None:
        left, right = gray_image(pair.left), gray_image(pair.right)
        disparity = self.matcher.compute(left, right).astype(np.float32) / 16
        if self.before is not None:
            self._follow(left)
        self.before = left, disparity

    def _follow(self, left: np.ndarray) -> None:
        old_left, old_disparity = self.before
        corners = cv2.goodFeaturesToTrack(old_left, 1000, 0.01, 5)
        if corners is None:
            return
        moved, found, _ = cv2.calcOpticalFlowPyrLK(old_left, left, corners, None)
        corners, moved = corners.reshape(-1, 2), moved.reshape(-1, 2)
        depth = self.camera.depth(old_disparity[corners[:, 1].astype(int), corners[:, 0].astype(int)])
        known = (found[:, 0] == 1) & np.isfinite(depth)
        if known.sum() >= 6:
            points = self.camera.lift(corners[known], depth[known])
            cv2.solvePnPRansac(points, moved[known].astype(np.float64), self.camera.intrinsics, None)


def measure(folder: Path, num_clips: int, repeats: int) -> dict[str, Any]:
    stages, bare = Stages(), Stages()
    frames, kept = 0, 0
    refs = find_source(folder).refs[:num_clips]
    with tempfile.TemporaryDirectory() as out:
        for repeat in range(repeats):
            for ref in refs:
                clip = open_clip(ref)
                kept += annotate_timed(clip, stages, Path(out) / str(repeat))
                chain = BareChain(clip.camera)
                for pair in clip.pairs():
                    with bare.stage("bare"):
                        chain.add(pair)
                frames += clip.num_frames
                size = (clip.camera.width, clip.camera.height)
    return {
        "clips": len(refs),
        "kept": kept / max(1, repeats * len(refs)),
        "frames": frames,
        "size": list(size),
        "annotate": summary(list(stages.spans.values()), frames),
        "annotate_without_decoding": summary([s for name, s in stages.spans.items() if name != DECODE], frames),
        "bare": summary(list(bare.spans.values()), frames),
        "stages_cpu_ms": {name: 1e3 * stages.spans[name].cpu / frames for name in STAGES},
        "stages_wall_ms": {name: 1e3 * stages.spans[name].wall / frames for name in STAGES},
    }


def summary(spans: list[Span], frames: int) -> dict[str, float]:
    cpu, wall = sum(span.cpu for span in spans), sum(span.wall for span in spans)
    return {"cpu_fps": frames / cpu, "wall_fps": frames / wall, "cpu_ms": 1e3 * cpu / frames}


def print_report(report: dict[str, Any]) -> None:
    width, height = report["size"]
    print(
        f"{report['clips']} clips, {report['frames']} frames, {width}x{height}, one process, OpenCV in one thread; "
        f"{report['kept']:.0%} of the clips kept"
    )
    print(f"\n{'':32} frames/s of CPU   frames/s of wall   to bare (CPU)")
    for name in ("bare", "annotate_without_decoding", "annotate"):
        row = report[name]
        ratio = row["cpu_fps"] / report["bare"]["cpu_fps"]
        print(f"{name.replace('_', ' '):32} {row['cpu_fps']:15.2f} {row['wall_fps']:18.2f} {ratio:15.2f}")
    print(f"\n{'stage':32} {'CPU ms/frame':>15} {'share':>8} {'wall ms/frame':>15}")
    total = sum(report["stages_cpu_ms"].values())
    for name in STAGES:
        cpu, wall = report["stages_cpu_ms"][name], report["stages_wall_ms"][name]
        print(f"{name:32} {cpu:15.2f} {cpu / total:8.1%} {wall:15.2f}")
    print(f"{'all':32} {total:15.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="stereo clips of any layout; default: a rendered world")
    parser.add_argument("--num-clips", type=int, default=2)
    parser.add_argument("--frames", type=int, default=32, help="of rendered clips")
    parser.add_argument("--size", type=int, default=512, help="of rendered clips, pixels")
    parser.add_argument("--seed", type=int, default=7, help="of the rendered world")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as rendered:
        folder = arguments.clips
        if folder is None:
            folder = Path(rendered)
            size = arguments.size
            write_world(
                folder, arguments.num_clips, arguments.seed, size, size, arguments.frames, 8.0, "default", dense=False
            )
        report = measure(folder, arguments.num_clips, arguments.repeats)
    print_report(report)
    if arguments.json:
        print(json.dumps(report, sort_keys=True))


if __name__ == "__main__":
    main()
