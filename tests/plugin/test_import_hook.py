"""Functions run after an import, once, and leave the import as it is."""

import importlib
import sys
import textwrap

import pytest

from mllm4d_verl.import_hook import after_import


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A fresh module that nobody has imported; `module(source)` writes it and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(source="value = 1"):
        name = f"hooked_module_{len(names)}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def test_runs_when_the_module_is_complete(module):
    name, seen = module("value = 1"), []
    after_import(name, lambda m: seen.append(m.value))
    assert seen == []
    importlib.import_module(name)
    assert seen == [1]


def test_runs_at_once_where_the_module_is_there(module):
    name, seen = module(), []
    importlib.import_module(name)
    after_import(name, lambda m: seen.append(m.__name__))
    assert seen == [name]


def test_runs_once_and_in_order(module):
    name, seen = module(), []
    after_import(name, lambda m: seen.append("first"))
    after_import(name, lambda m: seen.append("second"))
    importlib.reload(importlib.import_module(name))
    assert seen == ["first", "second"]


def test_names_imported_from_the_module_are_the_changed_ones(module):
    name = module("def f(): return 'stock'")
    after_import(name, lambda m: setattr(m, "f", lambda: "adapted"))
    user = module(f"from {name} import f")
    assert importlib.import_module(user).f() == "adapted"


def test_a_failing_callback_stops_the_import(module):
    name = module()
    after_import(name, lambda m: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        importlib.import_module(name)


def test_missing_module_fails_as_ever():
    after_import("no_such_module_anywhere", lambda m: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module_anywhere")


def test_source_and_spec_stay(module):
    name = module("def f(): return 1")
    after_import(name, lambda m: None)
    imported = importlib.import_module(name)
    import inspect

    assert imported.__spec__.origin.endswith(f"{name}.py")
    assert "return 1" in inspect.getsource(imported.f)
