"""What a GRPO step of the demo's model costs: seconds, and processor seconds by kind of process.

    python benchmarks/grpo_step.py                            # the recipe as it is
    python benchmarks/grpo_step.py --baseline                 # also with the settings it had before
    python benchmarks/grpo_step.py --set data.train_batch_size=64 --set actor_rollout_ref.rollout.n=4

It renders clips, asks about them, makes a model of the demo's size and runs verl's trainer as `mllm4d train grpo` does.
The weights are random, so that answers hardly ever end by themselves: they are cut at 64 tokens, while those of a
trained model have about 57. Step 1 warms up and is not counted. Processor time is that of the whole process tree (user
and system, all threads); other work on the machine changes wall times, and these much less.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil

from mllm4d_verl.training.command import TrainingJob
from mllm4d_verl.training.metrics import read_metrics
from mllm4d_verl.training.process_tree import ProcessTree
from mllm4d_verl.training.recipe import find_recipe
from mllm4d_verl.training.run import plan_training

POLL_SECONDS = 0.1
# The first pattern that a process's title or command line matches names its kind. Ray writes the actor's class there.
KINDS = (
    ("trainer worker", r"ray::.*(WorkerDict|ActorRolloutRef|actor_rollout)"),
    ("agent loop", r"ray::.*AgentLoop"),
    ("vLLM engine", r"EngineCore|VLLM::Worker"),
    ("vLLM server", r"ray::.*(vLLM|HttpServer)"),
    ("reward worker", r"ray::.*Reward"),
    ("TransferQueue", r"ray::.*(Storage|TransferQueue)"),
    ("load balancer", r"ray::.*Balancer"),
    ("driver", r"ray::.*(TaskRunner|main_task)|main_ppo"),
    ("idle Ray workers", r"ray::IDLE"),
    ("Ray daemons", r"gcs_server|raylet|ray/dashboard|ray/_private|log_monitor|default_worker"),
)
# What the recipe said before steps were made cheaper; `--baseline` runs with these too. What the code does since then
# (verl_compat/: log-probabilities at once, polls) stays: the whole difference shows in a checkout of an older commit.
BASELINE = (
    "algorithm.rollout_correction.bypass_mode=false",
    "actor_rollout_ref.model.lora.merge=false",
    "actor_rollout_ref.actor.policy_loss.loss_mode=vanilla",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=8192",
    "actor_rollout_ref.rollout.max_num_seqs=64",
    "actor_rollout_ref.rollout.max_num_batched_tokens=4096",
    "actor_rollout_ref.rollout.agent.agent_loop_manager_class=null",
    "actor_rollout_ref.rollout.enable_prefix_caching=false",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.block_size=null",
    "+actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend=mp",
    "reward.num_workers=1",
    "~ray_kwargs.ray_init.runtime_env.env_vars.OMP_NUM_THREADS",
    "~ray_kwargs.ray_init.runtime_env.env_vars.MALLOC_MMAP_THRESHOLD_",
    "~ray_kwargs.ray_init.runtime_env.env_vars.MALLOC_TRIM_THRESHOLD_",
)


def prepare(folder: Path, clips: int) -> tuple[Path, Path]:
    """The question folder and the model, made where they are not there yet."""
    from mllm4d_verl.data_tools.questions import QuestionConfig, write_questions
    from mllm4d_verl.data_tools.schema import read_qa
    from mllm4d_verl.data_tools.synthetic import write_world
    from mllm4d_verl.prompts import render_conversation
    from mllm4d_verl.recipes.tiny_cpu.corpus import default_corpus
    from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model

    world, questions, model = folder / "world", folder / "qa", folder / "model"
    if not (questions / "train.parquet").is_file():
        write_world(
            world, clips=clips, seed=0, width=128, height=128, num_frames=8, fps=8.0, config="tiny_stereo", dense=False
        )
        config = QuestionConfig(
            seed=0,
            num_frames=4,
            whole_clip_share=1.0,
            max_per_clip_task=1,
            val_fraction=0.2,
            test_fraction=0.1,
            cot_style="compact",
            cot_decimals=1,
        )
        write_questions(world, questions, config)
    if not (model / "config.json").is_file():
        rows = read_qa(questions / "cold_start.parquet")
        corpus = [message["content"] for row in rows for message in render_conversation(row, "st_cot_short")]
        build_tiny_model(
            model,
            corpus=[*corpus, *default_corpus()],
            hidden=128,
            layers=3,
            vision_hidden=96,
            vision_layers=2,
            max_frame_side=64,
            fan_in_init=True,
        )
    return questions, model


def kind_of(process: psutil.Process) -> str:
    words = process.cmdline()
    text = " ".join(words) if words else process.name()
    return next((kind for kind, pattern in KINDS if re.search(pattern, text)), f"other: {text[:60]}")


class ProcessorMeter:
    """Processor seconds of a process and all its descendants so far, those that ended included."""

    def __init__(self, leader: int) -> None:
        self._leader = psutil.Process(leader)
        self._seconds: dict[psutil.Process, float] = {}
        self._kinds: dict[psutil.Process, str] = {}

    def look(self) -> None:
        for process in [self._leader, *self._leader.children(recursive=True)]:
            try:
                times = process.cpu_times()
                self._seconds[process] = times.user + times.system
                kind = kind_of(process)
            except psutil.Error:
                continue
            if kind != "idle Ray workers" or process not in self._kinds:
                self._kinds[process] = kind

    def by_kind(self) -> dict[str, float]:
        totals: dict[str, float] = defaultdict(float)
        for process, seconds in self._seconds.items():
            totals[self._kinds.get(process, "other")] += seconds
        return dict(totals)


def run(
    name: str, folder: Path, questions: Path, model: Path, steps: int, overrides: list[str], limit_s: float
) -> dict:
    """Train for `steps` counted steps; what a step cost on average."""
    out = Path(tempfile.mkdtemp(prefix=f"{name}_", dir=folder))
    job = TrainingJob(
        "grpo",
        find_recipe("tiny_cpu"),
        out,
        model=str(model),
        data=questions,
        overrides=[
            "data.max_pixels=4096",
            "data.max_response_length=64",
            f"trainer.total_training_steps={steps + 2}",  # the last saves a checkpoint; the run ends before it
            "trainer.save_freq=-1",
            *overrides,
        ],
    )
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as ray_folder:
        plan = plan_training(job, {**os.environ})
        plan.log_file.parent.mkdir(parents=True, exist_ok=True)
        plan.metrics_file.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **plan.command.environment, "RAY_TMPDIR": ray_folder}
        environment.pop("RAY_ADDRESS", None)
        with plan.log_file.open("wb") as log:
            child = subprocess.Popen(
                plan.command.argv, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        tree, marks = ProcessTree(child), []
        try:
            meter, started, size = ProcessorMeter(child.pid), time.monotonic(), 0
            while len(marks) < steps + 1:
                if child.poll() is not None or time.monotonic() - started > limit_s:
                    sys.exit(f"no {steps + 1} steps after {time.monotonic() - started:.0f} s; see {plan.log_file}")
                now = plan.metrics_file.stat().st_size if plan.metrics_file.exists() else 0
                if now != size:
                    size = now
                    lines = plan.metrics_file.read_text().splitlines()
                    while len(marks) < len(lines):
                        meter.look()
                        marks.append((time.monotonic(), meter.by_kind()))
                        if len(marks) == 1:
                            setup_s = time.monotonic() - started
                            setup = sum(marks[0][1].values())
                else:
                    time.sleep(POLL_SECONDS)
        finally:
            tree.end()
    metrics = list(read_metrics(plan.metrics_file.parent).values())[1 : steps + 1]
    first, last = marks[0], marks[steps]
    kinds = {kind: (seconds - first[1].get(kind, 0.0)) / steps for kind, seconds in last[1].items()}
    tokens = sum(row["perf/total_num_tokens"] for row in metrics) / steps
    timing = {
        key: sum(row.get(key, 0.0) for row in metrics) / steps for key in metrics[0] if key.startswith("timing_s")
    }
    total = sum(kinds.values())
    sums = [sum(seconds.values()) for _, seconds in marks]
    return {
        "name": name,
        "overrides": overrides,
        "wall_s": (last[0] - first[0]) / steps,
        "processor_s": total,
        "processor_s_by_step": [after - before for before, after in itertools.pairwise(sums)],
        "tokens": tokens,
        "response_tokens": sum(row["response_length/mean"] for row in metrics) / steps,
        "processor_s_per_1000_tokens": total / tokens * 1000,
        "by_kind": dict(sorted(((kind, s) for kind, s in kinds.items() if s >= 0.005), key=lambda item: -item[1])),
        "timing_s": {key.removeprefix("timing_s/"): value for key, value in timing.items()},
        "k3_kl_max": max((row.get("rollout_corr/k3_kl", float("nan")) for row in metrics), default=None),
        "until_first_step": {"wall_s": setup_s, "processor_s": setup},
        "out": str(out),
    }


def show(result: dict) -> None:
    print(f"\n{result['name']}: {' '.join(result['overrides'])}")
    print(f"  {'wall seconds a step':34}{result['wall_s']:8.1f}")
    steps = ", ".join(f"{seconds:.1f}" for seconds in result["processor_s_by_step"])
    print(f"  {'processor seconds a step':34}{result['processor_s']:8.1f}  ({steps})")
    for kind, seconds in result["by_kind"].items():
        print(f"    {kind:32}{seconds:8.2f}")
    print(f"  {'tokens a step':34}{result['tokens']:8.0f}  (answers of {result['response_tokens']:.1f})")
    print(f"  {'processor seconds per 1,000 tokens':34}{result['processor_s_per_1000_tokens']:8.3f}")
    timings = "  ".join(f"{key} {value:.2f}" for key, value in result["timing_s"].items() if "/" not in key)
    print(f"  verl's timings: {timings}")
    print(f"  rollout_corr/k3_kl at most {result['k3_kl_max']:.1e}")
    start = result["until_first_step"]
    print(f"  start and first step: {start['wall_s']:.0f} s, {start['processor_s']:.0f} s of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="Number of counted steps.")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="Override of the recipe.")
    parser.add_argument("--baseline", action="store_true", help="Run with the recipe's former settings first.")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "mllm4d_grpo_step", help="Folder.")
    parser.add_argument("--data", type=Path, help="Question folder, in place of one that is made.")
    parser.add_argument("--model", type=Path, help="Model folder, in place of random weights.")
    parser.add_argument("--limit", type=float, default=600.0, help="Seconds that a run may take.")
    parser.add_argument("--name", default="recipe", help="Heading of the figures.")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    questions, model = args.data, args.model
    if questions is None or model is None:
        made = prepare(args.work, 150)
        questions, model = questions or made[0], model or made[1]
    results = []

    def measure(name: str, overrides: list[str]) -> None:
        results.append(run(name, args.work, questions, model, args.steps, overrides, args.limit))
        show(results[-1])

    if args.baseline:
        measure("baseline", [*BASELINE, *args.set])
    measure(args.name, args.set)
    if args.baseline:
        before, after = (result["processor_s_per_1000_tokens"] for result in results)
        print(f"\n{before:.3f} -> {after:.3f} processor seconds per 1,000 tokens: {before / after:.2f} times cheaper")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
