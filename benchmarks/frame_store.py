"""What the store of decoded frames costs: opening it, finding a clip, putting one, looking at its size.

    python benchmarks/frame_store.py [--entries 100000]

Seconds are CPU seconds of this process; the peer of a found clip is decoding it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4
from mllm4d_verl.video import FrameCache, load_video
from mllm4d_verl.video.store import FrameStore, key_of

ELEMENT = {"type": "video", "nframes": 32, "min_pixels": 784, "max_pixels": 602112}


def cpu_ms(call: Callable[[], object], repeats: int = 5) -> float:
    """Median processor time of a call, in milliseconds."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        taken.append(1e3 * (time.process_time() - start))
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "store")
        store = FrameStore(root, 2**40)
        small = np.zeros((2, 3, 4, 4), np.uint8)
        start = time.process_time()
        for number in range(options.entries):
            store.put(key_of(number), small, {"fps": 1.0})
        print(f"put of a small entry: {1e3 * (time.process_time() - start) / options.entries:.3f} ms")

        before = psutil.Process().memory_info().rss
        opened = cpu_ms(lambda: FrameStore(root, 2**40).get(key_of(0)))
        grown = (psutil.Process().memory_info().rss - before) / 2**20
        print(f"open a store of {options.entries:,} entries and find one: {opened:.2f} ms, {grown:.1f} MiB more memory")
        print(f"count them, as a writer does now and then: {cpu_ms(lambda: store.size(), 3):.0f} ms")

        video = Path(folder, "clip.mp4")
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        write_mp4(video, (np.roll(noise, shift, 1) for shift in range(150)), 10.0)
        element = {**ELEMENT, "video": str(video)}
        decoded = cpu_ms(lambda: load_video(element, 16, FrameCache()))
        load_video(element, 16, FrameCache(store=store))
        found = cpu_ms(lambda: load_video(element, 16, FrameCache(store=store)))
        (path,) = (path for path in root.glob("??/*.frames") if path.stat().st_size > 10**6)
        key = path.parent.name + path.stem
        print(f"find a stored clip of 32 frames of 512x512: {cpu_ms(lambda: store.get(key)):.2f} ms")
        print(f"  as float tensors: {found:.0f} ms; decoded: {decoded:.0f} ms; ratio {decoded / found:.1f}")


if __name__ == "__main__":
    main()
