"""What an adaptation of another package's code is: a change, the callable it replaces, and a proof of the fault."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from mllm4d_verl.import_hook import after_import

_MARK = "__mllm4d_adaptation__"

# What an examination can find. `mllm4d doctor` prints these words.
GONE = "fault reproduced, gone with the adaptation"
ABSENT = "not there in this version, not applied"
BROKEN = "the fault is still there with the adaptation"
MISSING = "the target does not exist"
UNTOLD = "only a run can tell"


class ChangedUpstreamError(RuntimeError):
    """A function that an adaptation replaces is no longer where it was."""


@dataclass(frozen=True)
class Examination:
    """What running the stock code and the adapted code showed.

    Attributes:
        status: GONE, ABSENT, BROKEN, MISSING or UNTOLD.
        detail: more about it for a reader; "" where the status says all.
    """

    status: str
    detail: str = ""


@dataclass
class Adaptation:
    """One change to one module of another package.

    Attributes:
        name: the function's name.
        module: the change is applied right after this module is imported.
        target: what is replaced, "attribute" or "Class.attribute" of that module.
        change: takes the stock callable and returns the one to use.
        where: tells whether this adaptation concerns this process at all.
        proof: takes the stock callable and tells whether the fault is still there; None if only a run can tell.
        may_be_missing: whether a version without the target is one without the fault.
    """

    name: str
    module: str
    target: str
    change: Callable[[Callable], Callable]
    where: Callable[[], bool]
    proof: Callable[[Callable], bool] | None = None
    may_be_missing: bool = False

    def install(self) -> None:
        if self.where():
            after_import(self.module, self._apply)

    def _apply(self, module: ModuleType) -> None:
        if self.may_be_missing and not self._present(module):
            return
        owner, name = self._owner(module)
        stock = inspect.getattr_static(owner, name)
        if getattr(stock, _MARK, None):
            return
        adapted = self.change(stock)
        functools.update_wrapper(adapted, stock)
        setattr(adapted, _MARK, self.name)
        setattr(owner, name, adapted)

    def concerns(self) -> bool:
        """Whether there is something to adapt in this process. Imports the module."""
        return self.where() and (not self.may_be_missing or self._present(importlib.import_module(self.module)))

    def _present(self, module: ModuleType) -> bool:
        try:
            self._owner(module)
        except ChangedUpstreamError:
            return False
        return True

    def _owner(self, module: ModuleType) -> tuple[Any, str]:
        *path, name = self.target.split(".")
        owner: Any = module
        try:
            for step in path:
                owner = getattr(owner, step)
            getattr(owner, name)
        except AttributeError as error:
            raise ChangedUpstreamError(
                f"{self.module} has no {self.target} any more, which {self.name} adapts ({error}). "
                "Install versions that were tried together: `mllm4d doctor` lists them"
            ) from None
        return owner, name

    def current(self) -> Callable:
        """The callable in use now. Imports the module."""
        owner, name = self._owner(importlib.import_module(self.module))
        return getattr(owner, name)

    def active(self) -> bool:
        """Whether this process runs the adapted callable. Imports the module."""
        return getattr(self.current(), _MARK, None) == self.name

    def still_needed(self) -> bool | None:
        """Whether the code as it came still has the fault; None where that cannot be told without a run."""
        if self.proof is None:
            return None
        current = self.current()
        return self.proof(getattr(current, "__wrapped__", current))

    def examine(self) -> Examination:
        """Runs the stock callable and the one in use, and tells whether each has the fault. Imports the module."""
        try:
            self.current()
        except (ImportError, ChangedUpstreamError) as error:
            return Examination(MISSING, str(error))
        needed = self.still_needed()
        if not self.active():
            detail = f"{self.module}.{self.target} is not adapted"
            return Examination(ABSENT) if needed is False else Examination(BROKEN, detail)
        return Examination({True: GONE, False: ABSENT, None: UNTOLD}[needed])


ADAPTATIONS: dict[str, Adaptation] = {}


def _everywhere() -> bool:
    return True


def adapts(
    module: str, target: str, where: Callable[[], bool] = _everywhere, may_be_missing: bool = False
) -> Callable[[Callable], Adaptation]:
    """Decorator: the function takes the stock callable `target` of `module` and returns its replacement."""

    def register(change: Callable[[Callable], Callable]) -> Adaptation:
        adaptation = Adaptation(change.__name__, module, target, change, where, may_be_missing=may_be_missing)
        ADAPTATIONS[adaptation.name] = adaptation
        return adaptation

    return register


def proves(adaptation: Adaptation) -> Callable[[Callable[[Callable], bool]], Callable[[Callable], bool]]:
    """Decorator: the function takes the stock callable and tells whether the fault is still there."""

    def register(proof: Callable[[Callable], bool]) -> Callable[[Callable], bool]:
        adaptation.proof = proof
        return proof

    return register
