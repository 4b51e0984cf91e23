"""`mllm4d train`: run a stage of a recipe with verl's own trainers, and show the exact command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Run a recipe: sft, cold-start, grpo (prints the verl command).",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RecipeOption = Annotated[str, typer.Option("--recipe", "-r", help="A packaged recipe, or a folder of your own.")]
_ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Checkpoint folder or hub name to start from.")]
_DataOption = Annotated[Path | None, typer.Option("--data", "-d", help="Question folder, or one parquet/JSONL file.")]
_OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints, logs, metrics and hf/.")]
_ResumeOption = Annotated[bool, typer.Option(help="Go on from the last checkpoint in --out.")]
_LoraOption = Annotated[
    int | None,
    typer.Option(help="LoRA of this rank, alpha twice the rank; 0 trains all weights. Default: the recipe's."),
]
_AlgorithmOption = Annotated[
    str | None,
    typer.Option(help="grpo only: settings of an algorithm, `mllm4d train algorithms` lists them. Overrides win."),
]
_StallOption = Annotated[float, typer.Option(help="Give up when log and metrics stand still for so many minutes.")]
_LimitOption = Annotated[float | None, typer.Option(help="Give up after so many minutes altogether.")]
_DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the command and stop.")]
_CheckOption = Annotated[bool, typer.Option("--check-data/--no-check-data", help="Check every row before starting.")]
_MachineCheckOption = Annotated[
    bool,
    typer.Option("--check/--no-check", help="Refuse to start what does not fit this machine's GPUs, memory and disk."),
]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")]
_OverridesArgument = Annotated[list[str] | None, typer.Argument(help="Hydra overrides, as on verl's command line.")]


def _stage_command(stage: str, help_text: str) -> None:
    def command(
        out: _OutOption,
        overrides: _OverridesArgument = None,
        recipe: _RecipeOption = "tiny_cpu",
        model: _ModelOption = None,
        data: _DataOption = None,
        resume: _ResumeOption = True,
        lora_rank: _LoraOption = None,
        algorithm: _AlgorithmOption = None,
        stall_minutes: _StallOption = 30.0,
        limit_minutes: _LimitOption = None,
        check_data: _CheckOption = True,
        check: _MachineCheckOption = True,
        dry_run: _DryRunOption = False,
        json_line: _JsonOption = False,
    ) -> None:
        from mllm4d_verl.training.command import TrainingJob
        from mllm4d_verl.training.recipe import find_recipe

        job = TrainingJob(
            stage=stage,
            recipe=find_recipe(recipe),
            out=out,
            model=model,
            data=data,
            resume=resume,
            lora_rank=lora_rank,
            algorithm=algorithm,
            overrides=tuple(overrides or ()),
        )
        _run(job, stall_minutes, limit_minutes, check_data, check, dry_run, json_line)

    app.command(stage, help=help_text, context_settings={"ignore_unknown_options": True})(command)


_stage_command("sft", "Supervised fine-tuning on direct answers (a question folder's train.parquet).")
_stage_command("cold-start", "Supervised fine-tuning on ST-CoT texts (a question folder's cold_start.parquet).")
_stage_command("grpo", "Reinforcement learning with ST-CoT prompts and the ST-reward (train.parquet).")


def _run(
    job: Any,
    stall_minutes: float,
    limit: float | None,
    check_data: bool,
    check_machine: bool,
    dry_run: bool,
    json_line: bool,
) -> None:
    from mllm4d_verl.cli.output import emit_json
    from mllm4d_verl.training.console import StepProgress, console
    from mllm4d_verl.training.run import TrainingError, plan_training, run_training

    plan = plan_training(job)
    console.print(str(plan.log_file.parent), style="dim", highlight=False)
    print(plan.command, flush=True)
    if dry_run:
        if json_line:
            emit_json(
                {"command": plan.command.argv, "environment": plan.command.environment, "steps": plan.total_steps}
            )
        return
    if check_data:
        from mllm4d_verl.training.validation import check_inputs

        summary = check_inputs(plan)
        console.print(f"{summary.num_rows} rows and {summary.num_videos} videos checked")
    if check_machine:
        from mllm4d_verl.training.budget.plan_check import check_plan

        if plan.config.trainer.get("device") != "cpu":  # vLLM is imported for it, which may take a minute
            console.print("checking that the run fits this machine", style="dim", highlight=False)
        for line in check_plan(plan):
            console.print(line, style="yellow", highlight=False, soft_wrap=True)
    try:
        with StepProgress(job.stage, plan.total_steps) as progress:
            result = run_training(plan, stall_minutes=stall_minutes, limit_minutes=limit, on_step=progress.on_step)
    except TrainingError as error:
        console.print(f"mllm4d: {error}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    console.print(f"step {result.step} done; the model is {result.model}", highlight=False)
    if json_line:
        emit_json(
            {
                "stage": job.stage,
                "model": result.model,
                "step": result.step,
                "seconds": round(result.seconds, 1),
                "merge_seconds": round(result.merge_seconds, 1),
                "peak_memory_bytes": result.peak_memory_bytes,
                "metrics": result.metrics.get(result.step, {}),
            }
        )


@app.command("algorithms")
def algorithms() -> None:
    """The algorithms that `train grpo --algorithm` sets up, one a line; docs/algorithms.md has what each sets."""
    from mllm4d_verl.training import algorithms as known

    for name, summary in known.algorithms().items():
        print(f"{name:8} {summary}")


@app.command("budget")
def budget(
    recipe: _RecipeOption = "qwen3_vl_8b",
    stage: Annotated[str, typer.Option(help="sft, cold-start or grpo.")] = "grpo",
    frame_size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the source videos, in pixels.")] = "512x512",
    val_rows: Annotated[int | None, typer.Option(help="Rows of the held-out set that validation reads.")] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(help="GiB of one GPU (nvidia-smi's MiB / 1024). Default: the recipe's machine."),
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of a node. Default: the recipe's machine.")] = None,
    host_memory: Annotated[
        float | None, typer.Option(help="GiB of main memory of a node. Default: the recipe's machine.")
    ] = None,
    shm: Annotated[
        float | None, typer.Option(help="GiB of /dev/shm (docker's --shm-size). Default: the recipe's machine.")
    ] = None,
    disk: Annotated[
        float | None, typer.Option(help="GiB that are free for checkpoints. Default: the recipe's machine.")
    ] = None,
    vllm: Annotated[
        bool, typer.Option(help="Ask vLLM itself about its KV cache, which imports it: up to a minute. Else estimate.")
    ] = True,
    overrides: _OverridesArgument = None,
    json_line: _JsonOption = False,
) -> None:
    """What a recipe needs and whether a machine has it: GPU, KV cache, host memory, /dev/shm, disk. Downloads nothing.

    Exit code 1: it does not fit, and the lines below the table say which setting to change.
    """
    from mllm4d_verl.cli.output import emit_json
    from mllm4d_verl.data_tools.errors import InputError
    from mllm4d_verl.training.budget import ask_vllm_outside, recipe_budget, recipe_machine
    from mllm4d_verl.training.console import console
    from mllm4d_verl.training.recipe import find_recipe

    try:
        width, height = (int(side) for side in frame_size.lower().split("x"))
    except ValueError as error:
        raise InputError(f"not a size: {frame_size!r}", field="--frame-size", remedy="Write 512x512") from error
    chosen = find_recipe(recipe)
    machine = recipe_machine(chosen).with_options(
        gpu_memory=gpu_memory, gpus=gpus, host_memory=host_memory, shm=shm, disk=disk
    )
    report = recipe_budget(
        chosen,
        stage,
        (width, height),
        tuple(overrides or ()),
        machine=machine,
        val_rows=val_rows,
        ask=ask_vllm_outside if vllm else None,
    )
    console.print(report.table())
    for finding in report.findings:
        console.print(str(finding), style="red" if finding.stops else "yellow", soft_wrap=True)
    if report.fits:
        console.print("the recipe fits this machine")
    if json_line:
        emit_json(report.record())
    if not report.fits:
        raise typer.Exit(1)


@app.command("merge")
def merge(
    checkpoint: Annotated[Path, typer.Argument(help="A global_step_N folder, or the folder that holds them.")],
    out: Annotated[Path, typer.Argument(help="Hugging Face folder to write.")],
    base: Annotated[
        str | None,
        typer.Option(help="Model that the run started from. Needed for a checkpoint of a LoRA adapter alone."),
    ] = None,
) -> None:
    """Turn a verl checkpoint into a Hugging Face folder, LoRA merged in."""
    from mllm4d_verl.training.merge import latest_checkpoint, merge_checkpoint

    print(merge_checkpoint(latest_checkpoint(checkpoint) or checkpoint, out, base))
