"""Kills `mllm4d eval run` at random moments, runs it again each time, and compares the file with that of a clean run.

    python benchmarks/kill_eval_run.py --backend openai --kills 10
    python benchmarks/kill_eval_run.py --backend vllm --kills 10 --questions 12 --max-tokens 512

`--backend openai` asks a local HTTP server whose answer depends on the request alone (in tests/evaluation);
`transformers` and `vllm` answer with the tiny random model, two responses at a time; ask for long ones, so that they do
not end before a kill lands. SIGKILL goes to the command only: its worker has to notice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mllm4d_verl.data_tools.schema import QARow, write_qa

_CLIPS, _FRAMES = 4, 4
_TIME_LIMIT_S = 900.0


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        kills: how many runs were killed before their end.
        answers_at_kill: whole lines that each killed run left.
        doubled: answers that were written twice, in any of the files left behind.
        same: the last run's responses are those of the clean run, byte by byte.
        responses: in the file.
        clean_s, all_s: how long the clean run and the whole thing took.
    """

    kills: int
    answers_at_kill: list[int]
    doubled: int
    same: bool
    responses: int
    clean_s: float
    all_s: float


def kill_and_rerun(
    folder: Path, backend: str, kills: int, seed: int = 0, questions: int = 24, samples: int = 2, max_tokens: int = 32
) -> Outcome:
    """Make questions in `folder`, run them once without and once with kills.

    Args:
        folder: empty.
        backend: openai, transformers or vllm.
        kills: SIGKILLs. Every third comes at a random time while the run starts; the others after a random number of
            answers that the run has not reached yet, and up to 0.1 s.
        seed: of the moments.
        questions, samples: what is asked.
        max_tokens: longest response.
    """
    started = time.monotonic()
    moments = random.Random(seed)
    data = write_questions(folder, questions)
    total = questions * samples
    with command_for(folder, backend, data, samples, max_tokens) as command:
        begun = time.monotonic()
        process = start([*command, "--out", str(folder / "clean")], folder)
        wait_until(process, folder / "clean", lines=1)
        first_s = time.monotonic() - begun
        finish(process)
        clean_s = time.monotonic() - begun
        out, answers, done, killed = folder / "killed", [], 0, 0
        doubled = 0
        for number in range(kills):
            process = start([*command, "--out", str(out)], folder)
            if number % 3 == 2 or done >= total:
                wait_until(process, after_s=moments.uniform(0.0, first_s))
            else:
                # small steps, so that there is something left for the last kill
                step = max(1, (total - done) // (kills - number + 1))
                wait_until(process, out, lines=done + moments.randint(1, step))
                time.sleep(moments.uniform(0.0, 0.1))
            killed += process.poll() is None
            process.kill()
            process.wait()
            keys = left_behind(out)
            doubled += len(keys) - len(set(keys))
            done = len(keys)
            answers.append(done)
        finish(start([*command, "--out", str(out)], folder))
    clean, resumed = (path.joinpath("responses.jsonl").read_bytes() for path in (folder / "clean", out))
    return Outcome(
        killed, answers, doubled, clean == resumed, resumed.count(b"\n"), clean_s, time.monotonic() - started
    )


def write_questions(folder: Path, count: int) -> Path:
    """`count` questions about four small clips of noise."""
    noise = np.random.default_rng(0)
    for clip in range(_CLIPS):
        writer = cv2.VideoWriter(str(folder / f"clip{clip}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 4.0, (64, 64))
        for _ in range(_FRAMES):
            writer.write(cv2.resize(noise.integers(0, 256, (8, 8, 3), np.uint8), (64, 64)))
        writer.release()
    options = ["left", "right", "up", "down"]
    rows = [
        QARow(
            id=f"q{number}",
            clip_id=f"clip{number % _CLIPS}",
            video=f"clip{number % _CLIPS}.mp4",
            num_frames=_FRAMES,
            task="camera_relative_direction",
            start_frame=0,
            end_frame=_FRAMES - 1,
            question=f"Where does the camera go, for question {number}?",
            options=options,
            answer="ABCD"[number % 4],
        )
        for number in range(count)
    ]
    return write_qa(folder / "questions.parquet", rows)


@contextlib.contextmanager
def command_for(folder: Path, backend: str, data: Path, samples: int, max_tokens: int) -> Iterator[list[str]]:
    """The command without `--out`, and the server that it asks, if any."""
    command = [
        *(sys.executable, "-m", "mllm4d_verl.cli.main", "eval", "run"),
        *("--data", str(data), "--backend", backend, "--template", "direct"),
        *("--samples", str(samples), "--temperature", "0.7", "--max-tokens", str(max_tokens)),
        *("--set", "min_pixels=784", "--set", "max_pixels=4096"),
    ]
    if backend == "openai":
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "evaluation"))
        from chat_server import serving

        with serving(delay_s=0.2) as server:
            yield [*command, "--model", "m", "--base-url", server.url, "--engine", "concurrency=3"]
        return
    from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model

    model = build_tiny_model(folder / "model", "qwen3_vl", hidden=64, layers=2, head_std=0.3)
    options = (
        ["--dtype", "float32", "--engine", "max_num_seqs=2"] if backend == "vllm" else ["--engine", "batch_size=2"]
    )
    yield [*command, "--model", str(model), *options]


def start(command: list[str], folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "VERL_PLATFORM": "cpu", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    with open(folder / "console.log", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)


def finish(process: subprocess.Popen) -> None:
    """Wait for the end; raise when it is no good one."""
    if process.wait(_TIME_LIMIT_S) != 0:
        raise RuntimeError(f"exit code {process.returncode} of {process.args}")


def wait_until(process: subprocess.Popen, out: Path | None = None, lines: int = 0, after_s: float = 0.0) -> None:
    """Return `after_s` later, or when `out` has `lines` answers; when the process ends in any case."""
    end = time.monotonic() + (after_s if out is None else _TIME_LIMIT_S)
    while time.monotonic() < end and process.poll() is None:
        if out is not None and len(left_behind(out)) >= lines:
            return
        time.sleep(0.01)


def left_behind(out: Path) -> list[tuple[str, int]]:
    """Keys of the whole lines in the unfinished file, or in the finished one."""
    for file in [*out.glob("*.unfinished.jsonl"), out / "responses.jsonl"]:
        with contextlib.suppress(FileNotFoundError):
            lines = file.read_bytes().split(b"\n")[:-1]
            return [(record["id"], record["sample"]) for record in map(json.loads, lines)]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="openai", choices=("openai", "transformers", "vllm"))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--max-tokens", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill_and_rerun(Path(folder), **vars(arguments))
    print(json.dumps({"backend": arguments.backend, **outcome.__dict__}, indent=2))
    sys.exit(0 if outcome.same and not outcome.doubled else 1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the folder and the server go as well
    main()
