"""Jobs of a plan as if they had run: answers of made-up models, rollouts and metrics of made-up trainings."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from typing import Any

from mllm4d_verl.evaluation import ResponseRecord, write_responses
from mllm4d_verl.study.jobs import Job, stamp_name
from mllm4d_verl.study.planning import StudyPlan
from mllm4d_verl.training.stages import StageLog

TASKS = ("camera_relative_direction", "object_camera_relative_direction_lateral")
OBJECT = [[-0.5, 0.2, 4.0], [0.5, 0.2, 3.0]]
TRUTH = {
    "answer": "B",
    "options": ["left", "right", "not moving"],
    "camera_center": [None, None],
    "object_center": OBJECT,
    "task": TASKS[1],
    "start_rotation": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "tau_m": 0.1,
}
STEPS = 9


def st_cot(answer: str = "B", shift: float = 0.0, more: str = "") -> str:
    """A response whose final object centre is `shift` metres off."""
    x, y, z = OBJECT[1]
    return (
        "<thinking>\n**Spatial State (Initial Frame):**\n- Camera Center: null\n"
        f"- Object Center: {OBJECT[0]}\n"
        f"{more}**Spatial State (Final Frame):**\n- Camera Center: null\n"
        f"- Object Center: [{x + shift}, {y}, {z}]\n</thinking>\n<answer>{answer}</answer>"
    )


def answers(share: float, seed: int = 0, questions: int = 40, **text: Any) -> list[ResponseRecord]:
    """Answers to two questions about each clip, `share` of them right; different models are right on others."""
    rng = random.Random(seed)
    records = []
    for number in range(questions):
        response = st_cot("B" if rng.random() < share else "A", shift=round(rng.uniform(0, 0.2), 3), **text)
        records.append(
            ResponseRecord(
                id=f"q{number}",
                clip_id=f"clip{number // 2}",
                task=TASKS[number % 2],
                truth=TRUTH,
                response=response,
                response_tokens=len(response.split()),
                finish_reason="stop",
            )
        )
    return records


def finish(job: Job, figures: dict[str, Any], make_product: Callable[[], Any]) -> None:
    """Leave a job's product and stamp."""

    def work() -> dict[str, Any]:
        make_product()
        return figures

    StageLog(job.path).run(stamp_name(), job.key, (), job.path / job.product, work)


def finish_evaluations(plan: StudyPlan, arm: str, evaluation: str, by_seed: Iterable[list[ResponseRecord]]) -> None:
    """Answers of an arm, seed by seed."""
    runs = [run for run in plan.runs if run.arm == arm]
    for run, records in zip(runs, by_seed, strict=False):
        job = plan.jobs[run.evaluations[evaluation]]
        finish(job, {}, lambda job=job, records=records: write_responses(job.path / "responses.jsonl", records))


def finish_trainings(plan: StudyPlan, arm: str, rise: float = 0.0) -> None:
    """Trainings of an arm whose rollouts are right more often by `rise` at the end than at the beginning."""
    for run in plan.runs:
        if run.arm == arm:
            job = plan.jobs[run.trainings[-1]]
            figures = {
                "steps": STEPS,
                "seconds": 10.0 + run.seed,
                "processor_seconds": 20.0,
                "launches": 1,
                "matched": None,
                "versions": {"verl": "0.9.1"},
            }
            finish(job, figures, lambda job=job, seed=run.seed: _write_training(job, rise, seed))


def _write_training(job: Job, rise: float, seed: int) -> None:
    rng = random.Random(seed)
    for name in ("hf", "rollouts", "validation", "metrics"):
        (job.path / name).mkdir(parents=True)
    with open(job.path / "metrics" / "launch_000.jsonl", "w") as metrics:
        for step in range(1, STEPS + 1):
            print(json.dumps({"step": step, "data": {"response_length/mean": 50.0 + step}}), file=metrics)
            share = 0.3 + rise * step / STEPS
            rollouts = []
            for question in range(8):
                for number in range(4):
                    # The rollouts of the first two questions are all right: no gradient.
                    right = question < 2 or rng.random() < share
                    rollouts.append(_dump(f"s{question}_{number}_0", step, st_cot("B" if right else "A"), float(right)))
            _write_lines(job.path / "rollouts" / f"{step}.jsonl", rollouts)
            if step % 3 == 0:
                held_out = [_dump(f"v{n}_0_0", step, st_cot("B" if n % 2 else "A"), 0.0) for n in range(4)]
                _write_lines(job.path / "validation" / f"{step}.jsonl", held_out)


def _dump(uid: str, step: int, text: str, score: float) -> dict[str, Any]:
    return {"input": "?", "output": text, "gts": json.dumps(TRUTH), "score": score, "step": step, "uid": uid}


def _write_lines(path: Any, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
