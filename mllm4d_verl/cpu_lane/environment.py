"""The environment that verl, vLLM and Ray need on a CPU, so that the user sets VERL_PLATFORM=cpu and nothing else."""

from __future__ import annotations

import os


def cpu_lane_environment() -> dict[str, str]:
    """Variables of the CPU lane, each with its reason. The plugin sets those that the user has not set."""
    return {
        # verl's FSDP engines are registered for cuda and npu only; this selects the class, the device stays the CPU.
        "VERL_ENGINE_DEVICE": "cuda",
        # GiB of key-value cache; vLLM would take a share of the machine's memory that the trainer needs too.
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # Trainer and engine share the cores. vLLM would pin its threads to one each.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # Both fork after the tokenizers' threads have started, which they warn about at every step.
        "TOKENIZERS_PARALLELISM": "false",
        # Ray starts its workers at niceness 15: beside one other busy process they would get a thirtieth of a core.
        "RAY_worker_niceness": "0",
        # Ray would start workers ahead that nobody uses, as verl's have an environment of their own.
        "RAY_prestart_worker_first_driver": "0",
        # Nobody looks at Ray's dashboard: no events of tasks, and metrics once a minute.
        "RAY_task_events_report_interval_ms": "0",
        "RAY_metrics_report_interval_ms": "60000",
        # Neither needs to reach the network from a laptop or from CI.
        "VLLM_NO_USAGE_STATS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def cpu_platform_selected() -> bool:
    """Whether the user asked for the CPU lane. verl reads the same variable the same way."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"


def set_cpu_lane_environment() -> None:
    for name, value in cpu_lane_environment().items():
        os.environ.setdefault(name, value)
