"""When an adaptation is applied, what its examination finds, and what happens where its target is missing."""

import asyncio
import inspect
import sys
import types
import warnings

import pytest
from packaging.specifiers import SpecifierSet

from mllm4d_verl.verl_compat import ABSENT, BROKEN, GONE, MISSING, UNTOLD, Adaptation

HERE = {"adapted_package": SpecifierSet(">=1.0,<=1.5")}


@pytest.fixture
def package(monkeypatch):
    """`package(version, **members)`: an importable module of that version, whose functions may say "wrong"."""

    def make(version="1.2", **members):
        module = types.ModuleType("adapted_package")
        vars(module).update(members or {"f": lambda: "wrong"}, __version__=version)
        monkeypatch.setitem(sys.modules, "adapted_package", module)
        return module

    return make


def adaptation(known=HERE, target="f", change=None, proof=None, **settings):
    made = Adaptation("mends_f", "adapted_package", target, change or mend, lambda: True, known, **settings)
    made.proof = proof or (lambda f: f() == "wrong")
    return made


def mend(stock):
    return lambda: stock().replace("wrong", "right")


class TestInsideTheRange:
    def test_applied_without_running_the_proof(self, package):
        module = package()
        made = adaptation(proof=lambda f: pytest.fail("ran"))
        made.install()
        assert module.f() == "right"
        assert made.active()

    def test_applied_once(self, package):
        module = package()
        made = adaptation(change=lambda stock: lambda: "mended " + stock())
        made.install()
        made.install()
        assert module.f() == "mended wrong"

    def test_two_adaptations_of_one_target(self, package):
        module = package(f=lambda: "wrong bad")
        other = adaptation(change=lambda stock: lambda: stock().replace("bad", "good"), proof=lambda f: "bad" in f())
        other.name = "mends_f_too"
        made = adaptation(proof=lambda f: "wrong" in f())
        made.install()
        other.install()
        assert module.f() == "right good"
        assert (made.examine().status, other.examine().status) == (GONE, GONE)

    def test_every_package_must_be_inside(self, package):
        package()
        made = adaptation(known={**HERE, "no_such_package": SpecifierSet(">=1")}, proof=lambda f: False)
        made.install()
        assert not made.active()


class TestOutsideTheRange:
    @pytest.mark.parametrize("known", [{}, HERE])
    def test_applied_at_the_first_call_where_the_fault_shows(self, package, known):
        module = package("2.0")
        runs = []
        made = adaptation(known, proof=lambda f: runs.append(f) or f() == "wrong")
        made.install()
        assert not runs
        assert [module.f(), module.f()] == ["right", "right"]
        assert len(runs) == 2  # the stock and the adapted callable, once each
        assert made.active()
        assert made.examine().status == GONE

    def test_left_alone_where_it_does_not(self, package):
        module = package("2.0", f=lambda: "right")
        made = adaptation(change=lambda stock: lambda: pytest.fail("ran"))
        made.install()
        assert module.f() == "right"
        assert not made.active()
        assert (made.examine().status, made.examine().detail) == (ABSENT, "")

    @pytest.mark.parametrize(
        ("change", "proof", "reason"),
        [
            (lambda stock: lambda: stock(), None, "the fault stays"),
            (mend, lambda f: f.no_such_attribute, "its proof fails .AttributeError"),
        ],
    )
    def test_warns_and_leaves_alone_where_it_does_not_help(self, package, change, proof, reason):
        module = package("2.0")
        made = adaptation(change=change, proof=proof)
        made.install()
        with pytest.warns(
            UserWarning, match=rf"mends_f is not applied to adapted_package 2.0: {reason}.*mllm4d doctor"
        ):
            assert module.f() == "wrong"
        assert not made.active()
        assert made.examine().status in (BROKEN, UNTOLD)

    def test_a_proof_that_calls_the_target_itself(self, package):
        module = package("2.0")
        made = adaptation(proof=lambda f: module.f() and f() == "wrong")
        made.install()
        assert module.f() == "right"

    def test_coroutine_functions_stay_such(self, package):
        async def f():
            return "wrong"

        def mend_later(stock):
            async def mended():
                return (await stock()).replace("wrong", "right")

            return mended

        module = package("2.0", f=f)
        adaptation(change=mend_later, proof=lambda f: asyncio.run(f()) == "wrong").install()
        assert inspect.iscoroutinefunction(module.f)


class TestMissingTarget:
    def test_warns_and_does_not_raise(self, package):
        package(g=1)
        made = adaptation(target="Class.f")
        with pytest.warns(UserWarning, match=r"adapted_package has no Class.f, which mends_f adapts.*mllm4d doctor"):
            made.install()
        assert made.examine().status == MISSING

    def test_a_target_without_which_there_is_no_fault(self, package):
        package(g=1)
        made = adaptation(may_be_missing=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made.install()
        assert not made.concerns()
        assert made.examine().status == ABSENT

    def test_a_module_that_cannot_be_imported(self):
        made = Adaptation("mends_f", "no_such_module_anywhere", "f", mend, lambda: True)
        made.install()
        assert made.examine().status == MISSING


class TestExamination:
    """What is found is what runs, whatever the callable in use is marked as."""

    def test_the_stock_callable_came_back(self, package):
        module = package()
        made = adaptation()
        made.install()
        module.f = made.stock
        assert made.examine().status == BROKEN
        assert "stock" in made.examine().detail

    def test_the_effect_is_spoilt_and_the_mark_stays(self, package):
        module = package()
        made = adaptation()
        made.install()
        spoilt = lambda: "wrong"  # noqa: E731
        vars(spoilt).update(vars(module.f))
        module.f = spoilt
        assert made.active()
        assert made.examine().status == BROKEN

    def test_the_adapted_callable_raises(self, package):
        package()
        made = adaptation(change=lambda stock: lambda: 1 / 0)
        made.install()
        assert made.examine().status == BROKEN
        assert "ZeroDivisionError" in made.examine().detail

    def test_no_fault_in_a_version_where_it_was_known(self, package):
        package(f=lambda: "right")
        made = adaptation()
        made.install()
        assert (made.examine().status, made.examine().detail) == (ABSENT, "applied all the same")

    def test_without_a_proof(self, package):
        package()
        made = adaptation()
        made.proof = None
        assert made.examine().status == UNTOLD


def test_trying_puts_a_callable_in_place_and_takes_it_away(package):
    class Base:
        def f(self):
            return "base"

    class Derived(Base):
        pass

    package(Derived=Derived, f=lambda: "wrong")
    of_module, inherited = adaptation(), adaptation(target="Derived.f")
    with of_module.trying(lambda: "tried"), inherited.trying(lambda self: "tried"):
        assert of_module.current()() == Derived().f() == "tried"
    assert of_module.current()() == "wrong"
    assert "f" not in vars(Derived)
