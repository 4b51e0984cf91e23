"""Values of settings files as the types that dataclasses declare, with messages that name file and field."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from .errors import InputError


def fit_value(value: Any, hint: Any, name: str, file: str | os.PathLike[str] | None) -> Any:
    """`value` as the type that a field is declared with; whole floats serve as ints, ints as floats.

    Args:
        value: from YAML or JSON.
        hint: type of the field.
        name, file: where the value stands, for the message.

    Raises:
        InputError: the value does not fit.
    """

    def fail(expected: str) -> typing.NoReturn:
        raise InputError(f"expected {expected}, got {value!r}", file=file, field=name)

    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        inner = [argument for argument in arguments if argument is not type(None)]
        return fit_value(value, inner[0], name, file) if len(inner) == 1 else value
    if origin is Literal:
        if value not in arguments:
            fail(f"one of {', '.join(map(str, arguments))}")
        return value
    if origin in (tuple, list):
        if not isinstance(value, list | tuple):
            fail("a list")
        if origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
            return origin(fit_value(item, arguments[0], name, file) for item in value)
        if len(value) != len(arguments):
            fail(f"{len(arguments)} values")
        return tuple(fit_value(item, kind, name, file) for item, kind in zip(value, arguments, strict=True))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            fail("a mapping")
        return {str(key): fit_value(item, arguments[1], f"{name}.{key}", file) for key, item in value.items()}
    if hint is bool:
        if not isinstance(value, bool):
            fail("true or false")
    elif hint is int:
        if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
            fail("a whole number")
        return int(value)
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            fail("a number")
        return float(value)
    elif hint is str and not isinstance(value, str):
        fail("text")
    return value
