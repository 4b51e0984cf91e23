"""The checks of one process, in an actor on every node of the Ray at RAY_ADDRESS, or in one local actor."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from mllm4d_verl.doctor.check import ACTOR, DRIVER, FAILED, OK, Check
from mllm4d_verl.doctor.engine import examine_engine, verls_environment
from mllm4d_verl.doctor.process import FLASH, examine_process
from mllm4d_verl.doctor.versions import compare_versions, versions_here

TIME_LIMIT_S = 600  # for all nodes together: each imports verl and vLLM from its own disk, at the same time


def examine_nodes(*, vllm: bool = True, attention: str = FLASH) -> list[Check]:
    """Run the checks of one process in an actor on each node, and compare its versions with the driver's.

    RAY_ADDRESS names the Ray whose nodes are asked; without it a Ray of one process is started and stopped.
    """
    try:
        import ray

        started = not ray.is_initialized()
        if started:
            own = {"address": "local", "num_cpus": 1, "include_dashboard": False}
            ray.init(**({} if os.environ.get("RAY_ADDRESS") else own), log_to_driver=False, configure_logging=False)
        try:
            return _ask_all(node_names(ray.nodes()), vllm, attention)
        finally:
            if started:
                ray.shutdown()
    except Exception as error:
        return [Check(ACTOR, "start", FAILED, f"{type(error).__name__}: {error}")]


def node_names(nodes: list[Mapping[str, Any]]) -> dict[str, str]:
    """Names of the alive nodes by their id: as `ray status` has them, with the id where two have the same name."""
    alive = {node["NodeID"]: node["NodeName"] for node in nodes if node["Alive"]}
    times = Counter(alive.values())
    return {id_: name if times[name] == 1 else f"{name} ({id_[:8]})" for id_, name in alive.items()}


def _ask_all(names: dict[str, str], vllm: bool, attention: str) -> list[Check]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    environment = verls_environment()
    answers, actors = {}, []
    for node_id in names:
        actor = (
            ray.remote(_Examiner)
            .options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
                runtime_env={"env_vars": environment},
            )
            .remote()
        )
        actors.append(actor)  # an actor ends with its last handle
        answers[node_id] = actor.examine.remote(vllm, attention)
    # A Ray that the command started is on this machine, which needs no name.
    shown = names if os.environ.get("RAY_ADDRESS") else dict.fromkeys(names, "")
    checks = []
    if os.environ.get("RAY_ADDRESS"):
        checks.append(Check(DRIVER, "ray nodes", OK, f"{len(names)} alive: {', '.join(names.values())}"))
    here, deadline = versions_here(), time.monotonic() + TIME_LIMIT_S
    for node_id, answer in answers.items():
        found = _answer_of(answer, deadline, here, shown[node_id])
        checks += [replace(check, node=shown[node_id]) for check in found]
    return checks


def _answer_of(answer: Any, deadline: float, driver: Mapping[str, str], node: str) -> list[Check]:
    import ray

    try:
        versions, checks = ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
    except ray.exceptions.GetTimeoutError:
        return [Check(ACTOR, "start", FAILED, f"no answer within {TIME_LIMIT_S} s", "Look at `ray status` and its log")]
    except Exception as error:  # of the actor: most often a package that this node lacks
        last = str(error).strip().splitlines()[-1]
        return [Check(ACTOR, "start", FAILED, f"{type(error).__name__}: {last}", "Install the same on every node")]
    same = compare_versions(ACTOR, versions, driver, node or "this machine")
    return [same, *(Check(**check) for check in checks)]


class _Examiner:
    """Runs in a worker of Ray, with the environment that verl gives its rollout servers."""

    def examine(self, vllm: bool, attention: str) -> tuple[dict[str, str], list[dict[str, str]]]:
        checks = examine_process(ACTOR, vllm=vllm, attention=attention)
        if vllm:
            checks += examine_engine()
        return versions_here(), [asdict(check) for check in checks]
