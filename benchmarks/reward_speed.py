"""How fast is the reward? Completions per second by length, and seconds for one megabyte of hostile text.

    python benchmarks/reward_speed.py [--seconds 1.0]

Seconds are CPU seconds of this process, so that other work on the machine disturbs less. Lengths are those of tiny
models (0.25k characters), of a released ST-CoT response (1.7k), and of the longest completions (8k, 16k). The ratio
beside the hostile texts is time(1 MB) / time(0.5 MB): 2 is linear, 4 quadratic.
"""

from __future__ import annotations

import argparse
import time

from mllm4d_verl.reward import PRESETS, STReward

LENGTHS = (250, 1_700, 8_000, 16_000)
TRUTH = {
    "answer": "B",
    "options": ["left", "right", "up", "down"],
    "answer_text": "right",
    "camera_center": [[0.01, 0.0, 0.0], [0.52, 0.0, 0.2]],
    "object_center": [[-0.24, 0.25, 3.55], [-0.44, 0.25, 3.15]],
}
PROSE = "The camera glides to the right, so near things slide left against far ones; the object keeps its size. "
HOSTILE = ("[", "<answer>", "9", "Camera Center: [", "Spatial State (", " ", "Camera Center: [1, 2, ", "]")


def completion(num_chars: int) -> str:
    """An ST-CoT response of about that many characters; what is not grammar is prose between the states."""
    states = [
        "<thinking>",
        "**Spatial State (Initial Frame):**\n- Camera Center: [0.0123, -0.0022, 0.0011]\n"
        "- Object Center: [-0.2448, 0.2527, 3.5453]\n",
        "**Spatial State (Final Frame):**\n- Camera Center: [0.5123, -0.0022, 0.2011]\n"
        "- Object Center: [-0.4448, 0.2527, 3.1453]\n",
        "</thinking>\n<answer>B</answer>",
    ]
    room = max(0, num_chars - sum(map(len, states))) // 3
    prose = (PROSE * (room // len(PROSE) + 1))[:room]
    return prose.join(states)


def per_second(reward: STReward, text: str, seconds: float) -> float:
    """Best of three: whatever disturbs only ever slows it down."""
    best = 0.0
    for _ in range(3):
        count, start = 0, time.process_time()
        while (elapsed := time.process_time() - start) < seconds / 3:
            for _ in range(20):
                reward(text, TRUTH)
            count += 20
        best = max(best, count / elapsed)
    return best


def seconds_for(reward: STReward, text: str) -> float:
    start = time.process_time()
    reward(text, TRUTH)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds per figure (default 1.0)")
    seconds = parser.parse_args().seconds

    print("completions per second" + "".join(f"{length:>10}" for length in LENGTHS) + "  characters")
    for preset in PRESETS:
        reward = STReward(preset)
        figures = [per_second(reward, completion(length), seconds) for length in LENGTHS]
        print(f"{preset:22}" + "".join(f"{figure:10.0f}" for figure in figures))

    print("\nseconds for 1 MB of       " + "".join(f"{preset:>22}" for preset in PRESETS))
    for unit in HOSTILE:
        texts = [
            "<thinking>Spatial State (Initial Frame): " + unit * (size // len(unit)) for size in (500_000, 1_000_000)
        ]
        cells = []
        for preset in PRESETS:
            reward = STReward(preset)
            half, whole = (min(seconds_for(reward, text) for _ in range(3)) for text in texts)
            cells.append(f"{whole:12.4f} (x{whole / half:4.1f})".rjust(22))
        print(f"{unit!r:26}" + "".join(cells))


if __name__ == "__main__":
    main()
