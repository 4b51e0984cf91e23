"""What an adaptation of another package is: the callable it replaces, the change, and a proof that runs both."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from packaging.specifiers import SpecifierSet

from mllm4d_verl.import_hook import after_import
from mllm4d_verl.verl_compat.versions import inside, running_version

# Attribute of an adapted callable: the name of its adaptation.
_MARK = "__mllm4d_adaptation__"
# Attribute of a callable that is adapted at its first call if need be: the function that decides.
_DECIDE = "__mllm4d_decide__"
_ADVICE = "Run `mllm4d doctor` to see which adaptations fit these versions"

# What an examination can find. `mllm4d doctor` prints these words.
GONE = "fault reproduced, gone with the adaptation"
ABSENT = "not there in this version, not applied"
BROKEN = "the fault is still there with the adaptation"
MISSING = "the target does not exist"
UNTOLD = "only a run can tell"


class ChangedUpstreamError(RuntimeError):
    """A callable that an adaptation replaces is not where it was."""


@dataclass(frozen=True)
class Examination:
    """What running the stock callable and the callable in use showed.

    Attributes:
        status: GONE, ABSENT, BROKEN, MISSING or UNTOLD.
        detail: what the status leaves open, for a reader; "" where it says all.
    """

    status: str
    detail: str = ""


@dataclass
class Adaptation:
    """One change to one callable of another package.

    Attributes:
        name: the name of the function that makes the change.
        module: the change is made right after this module is imported.
        target: what is replaced, "attribute" or "Class.attribute" of that module.
        change: takes the stock callable and returns the one to use.
        where: tells whether this adaptation concerns this process at all. It must not import the module.
        known: versions of packages in which the fault is known to be. Inside them the adapted callable is used without
            a trial. Outside them the first call runs the proof, and the adapted callable is used where the fault shows
            with the stock callable and not with the adapted one.
        may_be_missing: whether the fault lies in the target itself, so that a version without it has no fault.
        proof: takes a callable in place of the target, runs it, and tells whether the fault shows. It may raise where
            it does not fit the version.
        stock: the callable that was replaced in this process, None as long as none was.
    """

    name: str
    module: str
    target: str
    change: Callable[[Callable], Callable]
    where: Callable[[], bool]
    known: Mapping[str, SpecifierSet] = field(default_factory=dict)
    may_be_missing: bool = False
    proof: Callable[[Callable], bool] | None = None
    stock: Callable | None = None

    def install(self) -> None:
        """Arrange for the change to be made when the module is imported, or make it where it is imported already."""
        if self.where():
            after_import(self.module, self._apply)

    def concerns(self) -> bool:
        """Whether this process can have the fault. Imports the module where the target may be missing."""
        return self.where() and (not self.may_be_missing or self._present())

    def current(self) -> Callable:
        """The callable in use. Imports the module."""
        owner, name = self._owner(importlib.import_module(self.module))
        return getattr(owner, name)

    def active(self) -> bool:
        """Whether the callable in use is, or wraps, the adapted one. Imports the module."""
        marked = self._marked(self.current())
        return marked is not None and (not hasattr(marked, _DECIDE) or getattr(marked, _DECIDE)() is not self.stock)

    def adapted(self) -> Callable:
        """A new adapted callable around the stock one. Imports the module."""
        return self._adapt(self.stock or self.current())

    @contextlib.contextmanager
    def trying(self, tried: Callable) -> Iterator[None]:
        """Put `tried` in the place of the target for as long as the context lasts. Imports the module."""
        owner, name = self._owner(importlib.import_module(self.module))
        own = name in vars(owner)
        before = inspect.getattr_static(owner, name)
        setattr(owner, name, tried)
        try:
            yield
        finally:
            if own:
                setattr(owner, name, before)
            else:
                delattr(owner, name)

    def examine(self) -> Examination:
        """Run the stock callable and the one in use, and tell whether each has the fault. Imports the module."""
        try:
            current = self.current()
        except (ImportError, ChangedUpstreamError) as error:
            return Examination(ABSENT if self.may_be_missing else MISSING, str(error))
        if self.proof is None:
            return Examination(UNTOLD)
        try:
            faulty = self.proof(self.stock or current)
        except Exception as error:
            return Examination(UNTOLD, f"the proof does not run here ({_text(error)}); applied: {self.active()}")
        if not faulty:
            return Examination(ABSENT, "applied all the same" if self.active() else "")
        if not self.active():
            return Examination(BROKEN, f"{self.module}.{self.target} is the stock one")
        try:
            still_faulty = self.proof(current)
        except Exception as error:
            return Examination(BROKEN, f"the adapted {self.target} fails: {_text(error)}")
        return Examination(BROKEN, f"{self.module}.{self.target} is adapted") if still_faulty else Examination(GONE)

    def _apply(self, module: ModuleType) -> None:
        try:
            owner, name = self._owner(module)
        except ChangedUpstreamError as error:
            if not self.may_be_missing:
                warnings.warn(f"{error}. {_ADVICE}", stacklevel=2)
            return
        stock = inspect.getattr_static(owner, name)
        if self._marked(stock) is not None:
            return
        self.stock, adapted = stock, self._adapt(stock)
        setattr(owner, name, adapted if inside(self.known) else self._decide_when_called(stock, adapted))

    def _adapt(self, stock: Callable) -> Callable:
        return self._mark(self.change(stock), stock)

    def _mark(self, replacement: Callable, stock: Callable) -> Callable:
        functools.update_wrapper(replacement, stock)
        setattr(replacement, _MARK, self.name)
        return replacement

    def _decide_when_called(self, stock: Callable, adapted: Callable) -> Callable:
        """A callable that becomes the stock or the adapted one when it is first called.

        The module is still being imported when it is put in place, too early to run a proof.
        """
        lock, chosen = threading.RLock(), []

        def decide() -> Callable:
            with lock:
                if not chosen:
                    chosen.append(stock)  # for calls that the proof itself makes
                    chosen[0] = adapted if self._helps(stock, adapted) else stock
                return chosen[0]

        if inspect.iscoroutinefunction(stock):  # Ray looks at this

            async def undecided(*args, **kwargs):
                return await decide()(*args, **kwargs)
        else:

            def undecided(*args, **kwargs):
                return decide()(*args, **kwargs)

        self._mark(undecided, stock)
        setattr(undecided, _DECIDE, decide)
        return undecided

    def _helps(self, stock: Callable, adapted: Callable) -> bool:
        """Whether the fault shows with the stock callable and not with the adapted one; warns where that is untold."""
        try:
            if self.proof is None or not self.proof(stock):
                return False
            if not self.proof(adapted):
                return True
            reason = "the fault stays"
        except Exception as error:
            reason = f"its proof fails ({_text(error)})"
        versions = ", ".join(f"{package} {running_version(package)}" for package in self.known) or "this version"
        warnings.warn(f"{self.name} is not applied to {versions}: {reason}. {_ADVICE}", stacklevel=2)
        return False

    def _marked(self, used: Any) -> Any:
        """The callable of this adaptation among `used` and what it wraps; None where there is none."""
        while used is not None and getattr(used, "__dict__", {}).get(_MARK) != self.name:
            used = getattr(used, "__wrapped__", None)
        return used

    def _present(self) -> bool:
        try:
            self._owner(importlib.import_module(self.module))
        except (ImportError, ChangedUpstreamError):
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
                f"{self.module} has no {self.target}, which {self.name} adapts ({error})"
            ) from None
        return owner, name


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


ADAPTATIONS: dict[str, Adaptation] = {}


def _everywhere() -> bool:
    return True


def adapts(
    module: str,
    target: str,
    where: Callable[[], bool] = _everywhere,
    may_be_missing: bool = False,
    known: Mapping[str, str] | None = None,
) -> Callable[[Callable], Adaptation]:
    """Decorator: the function takes the stock callable `target` of `module` and returns its replacement.

    Args:
        module: the module that has the target.
        target: "attribute" or "Class.attribute" of that module.
        where: see `Adaptation`.
        may_be_missing: see `Adaptation`.
        known: versions in which the fault is known to be, by package: {"verl": ">=0.9.0,<=0.9.1"}. Without them the
            proof decides wherever the module is imported.
    """
    ranges = {package: SpecifierSet(versions) for package, versions in (known or {}).items()}

    def register(change: Callable[[Callable], Callable]) -> Adaptation:
        adaptation = Adaptation(change.__name__, module, target, change, where, ranges, may_be_missing)
        ADAPTATIONS[adaptation.name] = adaptation
        return adaptation

    return register


def proves(adaptation: Adaptation) -> Callable[[Callable[[Callable], bool]], Callable[[Callable], bool]]:
    """Decorator: the function takes the callable to try, runs it, and tells whether the fault shows."""

    def register(proof: Callable[[Callable], bool]) -> Callable[[Callable], bool]:
        adaptation.proof = proof
        return proof

    return register
