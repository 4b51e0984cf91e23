"""The one error that says what is wrong with a user's input, where, and what to do about it."""

from __future__ import annotations

from os import PathLike


class InputError(ValueError):
    """Bad input from a user: a file, a row, a field, an option.

    Args:
        problem: what is wrong, one sentence without a final full stop.
        file: the file it was found in.
        row: 0-based row (or line) in that file.
        field: column, key or option.
        remedy: what the user can do.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | PathLike[str] | None = None,
        row: int | str | None = None,
        field: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else str(file)
        self.row = row
        self.field = field
        self.remedy = remedy
        super().__init__(self._message())

    def _message(self) -> str:
        place = [
            f"{name} {value}"
            for name, value in (("file", self.file), ("row", self.row), ("field", self.field))
            if value is not None
        ]
        message = f"{', '.join(place)}: {self.problem}" if place else self.problem
        return f"{message}. {self.remedy}" if self.remedy else message

    def __reduce__(self):  # Ray and multiprocessing carry it across processes by pickle
        return _rebuild, (self.problem, self.file, self.row, self.field, self.remedy)


def _rebuild(
    problem: str, file: str | None, row: int | str | None, field: str | None, remedy: str | None
) -> InputError:
    return InputError(problem, file=file, row=row, field=field, remedy=remedy)
