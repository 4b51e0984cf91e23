"""How long a large question set takes to open for training, to validate and to convert, and the memory it takes.

    python benchmarks/open_dataset.py --rows 2000000 --folder /tmp/open_dataset

Rows are the question engine's own, about random tracks. Prints one line per step. Each step runs in a process of its
own; memory is the growth of its peak over what the imports took. Fails where opening takes more than 5 s or 500 MiB, or
where validation does not find exactly the broken rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mllm4d_verl.data_tools.schema import QA_SCHEMA, write_clip_index

MAX_SECONDS, MAX_MIB = 5.0, 500.0
CLIPS, PER_CLIP = 1_050, 100  # the engine is asked about these once; their rows repeat under other names


def engine_rows(folder: Path) -> Path:
    """A hundred thousand rows as the question engine writes them, about random tracks."""
    from questions_speed import random_clip_config, write_random_clips

    from mllm4d_verl.data_tools.questions import write_questions

    rows = folder / "engine" / "train.parquet"
    if not rows.exists():
        write_random_clips(folder / "clips", range(CLIPS), num_frames=32, num_objects=3, num_points=64)
        write_clip_index(folder / "clips")
        write_questions(folder / "clips", rows.parent, random_clip_config(32, PER_CLIP))
    return rows


def write_set(path: Path, source: Path, rows: int, broken_share: float) -> int:
    """Write so many rows of the engine's, some of them broken; returns how many are."""
    rng = np.random.default_rng(0)
    written = broken = 0
    with pq.ParquetFile(source) as file, pq.ParquetWriter(path, QA_SCHEMA) as writer:
        groups = ((turn, group) for turn in itertools.count() for group in range(file.num_row_groups))
        while written < rows:
            turn, group = next(groups)
            table = file.read_row_group(group).slice(0, rows - written)
            for name in ("id", "clip_id"):
                table = _with(table, name, pc.binary_join_element_wise(f"{turn:03d}", table[name], "_"))
            if broken_share:
                bad = rng.random(len(table)) < broken_share
                table = _with(table, "answer", pc.if_else(pa.array(bad), "J", table["answer"]))
                broken += int(bad.sum())
            writer.write_table(table)
            written += len(table)
    return broken


def _with(table: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    return table.set_column(QA_SCHEMA.get_field_index(name), QA_SCHEMA.field(name), values)


def peak_mib() -> float:
    """Peak memory of this process. Not ru_maxrss: that begins with the peak of the parent, which wrote the sets."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def step_open_rl(path: str) -> dict:
    from omegaconf import OmegaConf

    from mllm4d_verl.datasets import MLLM4DDataset

    config = OmegaConf.create({"filter_overlong_prompts": False, "prompt_template": "st_cot"})
    before, start = peak_mib(), time.perf_counter()
    used = time.process_time()
    dataset = MLLM4DDataset(path, None, config, _Processor())
    seconds, mib, used = time.perf_counter() - start, peak_mib() - before, time.process_time() - used
    items = np.random.default_rng(0).integers(0, len(dataset), 2000)
    start = time.perf_counter()
    for item in items:
        dataset[int(item)]
    reads = (time.perf_counter() - start) / len(items)
    return {"rows": len(dataset), "seconds": seconds, "cpu_seconds": used, "mib": mib, "us_per_random_row": 1e6 * reads}


def step_open_sft(path: str) -> dict:
    from omegaconf import OmegaConf

    from mllm4d_verl.datasets import MLLM4DSFTDataset

    config = OmegaConf.create({"prompt_template": "direct"})
    before, start = peak_mib(), time.perf_counter()
    dataset = MLLM4DSFTDataset(path, None, config, _Processor())
    seconds, mib = time.perf_counter() - start, peak_mib() - before
    return {"rows": len(dataset), "seconds": seconds, "mib": mib}


def step_validate(path: str) -> dict:
    from mllm4d_verl.data_tools.validation import validate_set

    before, start, used = peak_mib(), time.perf_counter(), time.process_time()
    report = validate_set(path, media=False, out=f"{path}.good.parquet", rejects=f"{path}.rejects.jsonl")
    return {
        "rows": report.rows,
        "broken": report.broken,
        "kept": pq.read_metadata(f"{path}.good.parquet").num_rows,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - used,
        "mib": peak_mib() - before,
    }


class _Processor:
    """Only opening is measured: no model is needed for it."""


STEPS = {"open_rl": step_open_rl, "open_sft": step_open_sft, "validate": step_validate}


def run(step: str, path: Path, cache: Path) -> dict:
    command = [sys.executable, __file__, "--step", step, "--path", str(path)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def show(name: str, figures: dict) -> None:
    print(name, ", ".join(f"{key} {value:,.1f}" for key, value in figures.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the set that is opened")
    parser.add_argument("--validated-rows", type=int, default=1_000_000, help="rows of the set with broken ones")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/open_dataset"), help="scratch; about 4 GB")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(STEPS[arguments.step](arguments.path)))
        return
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    sound = folder / f"sound-{arguments.rows}.parquet"
    if not sound.exists():
        write_set(sound, engine_rows(folder), arguments.rows, 0)
    cache = folder / "cache"
    for copy in cache.rglob("*.arrow"):
        copy.unlink()
    failed = False
    for name, step in (("first open, RL", "open_rl"), ("open again, RL", "open_rl"), ("open again, SFT", "open_sft")):
        figures = run(step, sound, cache)
        show(name, figures)
        failed |= figures["seconds"] > MAX_SECONDS or figures["mib"] > MAX_MIB
    mixed = folder / f"broken-{arguments.validated_rows}.parquet"
    broken = write_set(mixed, engine_rows(folder), arguments.validated_rows, 0.01)
    figures = run("validate", mixed, cache)
    show("validate, 1 % broken", figures)
    failed |= figures["broken"] != broken or figures["kept"] != arguments.validated_rows - broken
    if failed:
        raise SystemExit(f"above {MAX_SECONDS} s or {MAX_MIB} MiB, or the broken rows are not the {broken} expected")


if __name__ == "__main__":
    main()
