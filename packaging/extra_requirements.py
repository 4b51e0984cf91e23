"""Prints what this project and some of its extras require, one requirement a line, without installing the project.

    python packaging/extra_requirements.py gpu naming

An image has these in a layer of their own, which stays when only the code changes.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib


def requirements(extras: list[str], pyproject: Path = Path("pyproject.toml")) -> list[str]:
    """The project's dependencies and those of `extras`, in the file's order.

    Raises:
        SystemExit: An extra does not exist; the text lists those that do.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    optional = project["optional-dependencies"]
    unknown = [extra for extra in extras if extra not in optional]
    if unknown:
        raise SystemExit(f"no such extra: {', '.join(unknown)}; there are {', '.join(optional)}")
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
