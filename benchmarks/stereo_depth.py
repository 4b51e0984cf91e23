"""Error, coverage and time of estimated depth, against bare OpenCV SGBM on the same frames in the same run.

    python benchmarks/stereo_depth.py [--clips 8] [--frames 4] [--size 512] [--seed 1000] [--aloe FOLDER] [--json]

Clips of the synthetic world's default preset are written as compressed video, as a user has them, and read back; depth
is compared with the exact one at 2 to 8 m. `--aloe` takes a folder with aloeL.jpg, aloeR.jpg and aloeGT.png (disparity
in pixels, 0 unknown). Methods take turns on every frame, so that other work on the machine falls on all alike.
Milliseconds are medians: of the clock, and of the processor over all threads.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np

from mllm4d_verl.data_tools.estimation.disparity import DisparityConfig, gray_image, make_disparity_estimator
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.stereo.clip import StereoPair
from mllm4d_verl.data_tools.synthetic import write_world

BARE = "OpenCV SGBM 3WAY, 64 disparities"
METHODS = {
    "sgbm (default)": DisparityConfig(),
    "sgbm, refine=false": DisparityConfig(refine=False),
    "sgbm, halve_rows=true": DisparityConfig(halve_rows=True),
    "sgbm, halve=true": DisparityConfig(halve=True),
    "sgbm, paths=8": DisparityConfig(paths=8),
    "bm": DisparityConfig(method="bm"),
    "bm, halve=true": DisparityConfig(method="bm", halve=True),
}
NEAR_M, FAR_M = 2.0, 8.0


class Figures:
    """What one method gives, frame after frame."""

    def __init__(self) -> None:
        self.relative: list[np.ndarray] = []
        self.pixels: list[np.ndarray] = []
        self.known: list[float] = []
        self.milliseconds: list[float] = []
        self.cpu_milliseconds: list[float] = []
        self.clip_medians: dict[int, list[np.ndarray]] = defaultdict(list)

    def add(self, clip: int, disparity: np.ndarray, camera: StereoCamera, truth_m: np.ndarray) -> None:
        depth = camera.depth(disparity)
        wanted = (truth_m >= NEAR_M) & (truth_m <= FAR_M)
        known = wanted & np.isfinite(depth)
        relative = np.abs(depth - truth_m)[known] / truth_m[known]
        self.relative.append(relative)
        self.clip_medians[clip].append(relative)
        self.pixels.append(np.abs(disparity - camera.disparity(truth_m))[known])
        self.known.append(known.sum() / wanted.sum())

    def summary(self) -> dict[str, float]:
        relative, pixels = np.concatenate(self.relative), np.concatenate(self.pixels)
        return {
            "median_error": float(np.median(relative)),
            "worst_clip_median_error": max(float(np.median(np.concatenate(m))) for m in self.clip_medians.values()),
            "p90_error": float(np.percentile(relative, 90)),
            "median_error_px": float(np.median(pixels)),
            "share_above_1px": float((pixels > 1).mean()),
            "valid_share": float(np.mean(self.known)),
            "ms": float(np.median(self.milliseconds)),
            "cpu_ms": float(np.median(self.cpu_milliseconds)),
        }


def timed(figures: Figures, call: Callable[[], np.ndarray]) -> np.ndarray:
    clock, cpu = time.perf_counter(), time.process_time()
    result = call()
    figures.milliseconds.append((time.perf_counter() - clock) * 1e3)
    figures.cpu_milliseconds.append((time.process_time() - cpu) * 1e3)
    return result


class BareSgbm:
    """OpenCV as its samples use it: what it finds, NaN elsewhere."""

    def __init__(self, minimum: int = 0, length: int = 64) -> None:
        self.minimum = minimum
        self.matcher = cv2.StereoSGBM.create(
            minimum, length, 5, 8 * 25, 32 * 25, 1, 31, 10, 100, 2, cv2.STEREO_SGBM_MODE_SGBM_3WAY
        )

    def compute(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (left, right)]
        disparity = self.matcher.compute(*gray).astype(np.float32) / 16
        disparity[disparity < self.minimum] = np.nan
        return disparity


def read_frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def measure_world(clips: int, frames: int, size: int, seed: int) -> tuple[dict[str, Figures], dict[str, float]]:
    figures = {name: Figures() for name in (BARE, *METHODS)}
    parts: dict[str, list[float]] = defaultdict(list)
    bare = BareSgbm()
    with tempfile.TemporaryDirectory() as folder:
        names = write_world(folder, clips, seed, size, size, frames, 8.0, "default", dense=True)
        for clip, name in enumerate(names):
            calibration = json.loads((Path(folder) / name / "calibration.json").read_text())
            camera = StereoCamera(size, size, np.array(calibration["intrinsics"]), calibration["baseline_m"])
            left, right = (read_frames(Path(folder) / name / f"{eye}.mp4") for eye in ("left", "right"))
            truth = np.load(Path(folder) / "truth" / "dense" / f"{name}.npz")["depth"]
            pairs = [StereoPair(frame, left[frame], right[frame]) for frame in range(frames)]
            holder = SimpleNamespace(camera=camera)
            start = time.perf_counter()
            estimators = {name: make_disparity_estimator(config, holder, pairs) for name, config in METHODS.items()}
            parts["find the range, per pair"].append((time.perf_counter() - start) * 1e3 / len(METHODS) / len(pairs))
            for pair, depth in zip(pairs, truth, strict=True):
                found = timed(figures[BARE], lambda pair=pair: bare.compute(pair.left, pair.right))
                figures[BARE].add(clip, found, camera, depth)
                for method, estimator in estimators.items():
                    found = timed(
                        figures[method],
                        lambda pair=pair, estimator=estimator: estimator.compute(*pair[1:], pair.frame).pixels,
                    )
                    figures[method].add(clip, found, camera, depth)
                measure_parts(estimators["sgbm (default)"], pair, parts)
    return figures, {name: float(np.median(values)) for name, values in parts.items()}


def measure_parts(estimator, pair: StereoPair, parts: dict[str, list[float]]) -> None:
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        parts[name].append((time.perf_counter() - clock) * 1e3)
        clock = time.perf_counter()

    gray = gray_image(pair.left), gray_image(pair.right)
    lap("grey")
    raw, found = estimator._matcher.match(*gray)
    lap("match")
    estimator._refine(*gray, raw, found)
    lap("refine")


def measure_aloe(folder: Path) -> dict[str, dict[str, float]]:
    left, right = (cv2.imread(str(folder / name))[..., ::-1].copy() for name in ("aloeL.jpg", "aloeR.jpg"))
    truth = cv2.imread(str(folder / "aloeGT.png"), cv2.IMREAD_GRAYSCALE).astype(np.float32)
    height, width = truth.shape
    # Depth does not matter here, and no disparity depends on the focal length.
    intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    clip = SimpleNamespace(camera=StereoCamera(width, height, intrinsics, 0.16))
    pair = StereoPair(0, left, right)
    results = {}
    found = {f"{BARE.partition(',')[0]}, 16 to 240": lambda: BareSgbm(16, 224).compute(left, right)}
    for name, config in METHODS.items():
        estimator = make_disparity_estimator(config, clip, [pair])
        found[name] = lambda estimator=estimator: estimator.compute(left, right, 0).pixels
    for name, compute in found.items():
        start = time.perf_counter()
        disparity = compute()
        seconds = time.perf_counter() - start
        known = (truth > 0) & np.isfinite(disparity)
        errors = np.abs(disparity - truth)[known]
        results[name] = {
            "within_2px": float((errors < 2).mean()),
            "within_1px": float((errors < 1).mean()),
            "valid_share": float(known.sum() / (truth > 0).sum()),
            "ms": seconds * 1e3,
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--aloe", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    figures, parts = measure_world(arguments.clips, arguments.frames, arguments.size, arguments.seed)
    world = {name: figure.summary() for name, figure in figures.items()}
    print(
        f"synthetic world, {arguments.clips} clips of {arguments.frames} frames, {arguments.size}x{arguments.size}, "
        f"seed {arguments.seed}; depth {NEAR_M:g} to {FAR_M:g} m; {cv2.getNumThreads()} threads"
    )
    print(f"{'':34} median   worst     p90   median    off      with    ms       CPU ms")
    print(f"{'':34} error    clip      error px       >1 px    answer  per frame")
    for name, row in world.items():
        print(
            f"{name:34} {row['median_error']:7.2%}  {row['worst_clip_median_error']:7.2%}  {row['p90_error']:6.2%}  "
            f"{row['median_error_px']:6.3f}  {row['share_above_1px']:6.2%}   {row['valid_share']:6.1%}  "
            f"{row['ms']:6.1f}   {row['cpu_ms']:6.1f}"
        )
    print("parts of the default, ms: " + ", ".join(f"{name} {value:.1f}" for name, value in parts.items()))
    aloe = measure_aloe(arguments.aloe) if arguments.aloe else {}
    if aloe:
        print("aloe: share of answered ground truth within 2 px, 1 px; share answered; ms")
    for name, row in aloe.items():
        print(
            f"{name:34} {row['within_2px']:6.2%}  {row['within_1px']:6.2%}  {row['valid_share']:6.1%}  {row['ms']:7.0f}"
        )
    if arguments.json:
        print(json.dumps({"world": world, "parts_ms": parts, "aloe": aloe}))


if __name__ == "__main__":
    main()
