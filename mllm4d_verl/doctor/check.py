"""What a check of the doctor is, and how a function becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"

# Kinds of process that checks run in. ENGINE has vLLM's plugins and nothing of verl's loaded, as vLLM's own processes.
DRIVER, ACTOR, ENGINE = "driver", "ray actor", "vllm engine"

# The input processing of verl and of vLLM, side by side in the driver.
PROMPTS = "verl and vllm"


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        where: the kind of process it ran in.
        name: what was checked.
        status: "ok", "warning" (training can work), "failed" (it cannot, or not rightly) or "skipped".
        detail: what was found.
        remedy: what to do about a warning or a failure.
        node: name of the Ray node the process ran on; "" on the machine of the command.
    """

    where: str
    name: str
    status: str
    detail: str
    remedy: str = ""
    node: str = ""


class Finding(Exception):  # noqa: N818 - a warning is no error
    """Raised by the function of a check that has something to tell other than that all is well.

    Attributes:
        remedy: what to do about it.
        status: FAILED or WARNING.
    """

    def __init__(self, detail: str, remedy: str = "", status: str = FAILED) -> None:
        super().__init__(detail)
        self.remedy = remedy
        self.status = status


def guarded(where: str, name: str, check: Callable[[], str]) -> Check:
    """Run a check that returns what it found and raises where something is wrong."""
    try:
        return Check(where, name, OK, check())
    except Finding as finding:
        return Check(where, name, finding.status, str(finding), finding.remedy)
    except Exception as error:  # whatever is broken must become a line of the table
        return Check(where, name, FAILED, f"{type(error).__name__}: {error}")


def healthy(checks: Iterable[Check]) -> bool:
    return all(check.status != FAILED for check in checks)


def folded(checks: Iterable[Check]) -> list[tuple[list[Check], Check]]:
    """Join checks that found the same in several processes.

    Returns:
        For each distinct result, in order of first appearance, the checks that found it and one of them.
    """
    groups: dict[Check, list[Check]] = {}
    for check in checks:
        groups.setdefault(replace(check, where="", node=""), []).append(check)
    return [(group, group[0]) for group in groups.values()]


def places(checks: Iterable[Check]) -> str:
    """The processes of some checks for a reader: "driver; ray actor on node-a, node-b"."""
    nodes: dict[str, list[str]] = {}
    for check in checks:
        of_process = nodes.setdefault(check.where, [])
        if check.node and check.node not in of_process:
            of_process.append(check.node)
    return "; ".join(f"{where} on {', '.join(names)}" if names else where for where, names in nodes.items())
