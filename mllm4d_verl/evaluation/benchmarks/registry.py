"""Finds a benchmark by name or path, reads its questions, and says which revision of the source they are."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from mllm4d_verl.data_tools.errors import InputError

from .base import Benchmark, Item, check_items, content_sha256, find_oddities
from .records import PathLike, Record, file_sha256, read_records

#: Name -> module that holds the benchmark's SOURCE.
BENCHMARKS: dict[str, str] = {
    name: f"{__package__}.{module}:{attribute}"
    for name, module, attribute in (
        ("vlm4d", "vlm4d", "VLM4D"),
        ("vlm4d_real", "vlm4d", "VLM4D_REAL"),
        ("vlm4d_synthetic", "vlm4d", "VLM4D_SYNTHETIC"),
        ("vsi_bench", "vsi_bench", "VSI_BENCH"),
        ("sti_bench", "sti_bench", "STI_BENCH"),
        ("mllm4d", "mllm4d", "MLLM4D"),
    )
}
#: Folder that question files are looked for in, each benchmark in a folder of its name or beside each other.
FOLDER_VARIABLE = "MLLM4D_BENCHMARKS"


@dataclass(frozen=True)
class Source:
    """How a benchmark is read.

    Attributes:
        name: of the benchmark.
        version: see `Benchmark.version`.
        files: names of the question files as the source publishes them; all of them are read.
        to_items: items of the records of all files, in order.
        homepage: where the question file is published.
        revisions: content digest -> name of the source's revision.
        macro_groups: see `Benchmark.macro_groups`.
        read: reads a file without `to_items`, where records are not plain objects.
        record_keys: keys that a record of the source has, by which responses are seen to carry their questions; empty
            where they never do.
    """

    name: str
    version: str
    files: tuple[str, ...]
    homepage: str
    to_items: Callable[[Sequence[Record]], list[Item]]
    revisions: Mapping[str, str] = field(default_factory=dict)
    macro_groups: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[Path], list[Item]] | None = None
    record_keys: frozenset[str] = frozenset()


def benchmark_names() -> list[str]:
    """Names that `load_benchmark` knows."""
    return list(BENCHMARKS)


@cache
def all_macro_groups() -> dict[str, str]:
    """Task -> group for the macro average, of all benchmarks: responses that name no benchmark get the same mean."""
    return {task: group for name in BENCHMARKS for task, group in get_source(name).macro_groups.items()}


def get_source(name: str) -> Source:
    """The source of that name; case and `-` for `_` do not matter.

    Raises:
        InputError: no such benchmark; the message has the nearest name.
    """
    key = name.casefold().replace("-", "_")
    key = {known.replace("_", ""): known for known in BENCHMARKS}.get(key.replace("_", ""), key)
    if key not in BENCHMARKS:
        near = difflib.get_close_matches(key, BENCHMARKS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"no benchmark {name!r}, and no such file",
            field="--benchmark",
            remedy=f"{hint}Choose from {', '.join(BENCHMARKS)}, or give the path of a question file",
        )
    module, _, attribute = BENCHMARKS[key].partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_benchmark(name_or_path: PathLike, questions: PathLike | None = None) -> Benchmark:
    """The questions of a benchmark.

    Args:
        name_or_path: name of a benchmark (`benchmark_names()`), or the path of a file of question rows or of records in
            the released MLLM4D layouts, which is a benchmark of its own, named by its path.
        questions: the benchmark's question file, or a folder that holds it; None looks in the folder that the
            environment variable MLLM4D_BENCHMARKS names, under the benchmark's name or directly.

    Raises:
        InputError: no such benchmark or file, or a record that is not what the source publishes.
    """
    if is_path(name_or_path):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise InputError("no such question file", file=path, field="--benchmark")
        source = replace(get_source("mllm4d"), name=str(name_or_path))
        return _load(source, [path])
    source = get_source(str(name_or_path))
    return _load(source, _question_files(source, questions))


def is_path(name_or_path: PathLike) -> bool:
    """Whether a benchmark is given by the path of its question file: anything with a suffix, or that exists."""
    path = Path(name_or_path).expanduser()
    return str(name_or_path).casefold().replace("-", "_") not in BENCHMARKS and (bool(path.suffix) or path.exists())


def find_questions(source: Source) -> list[Path] | None:
    """The question files in the folder that MLLM4D_BENCHMARKS names; None where they are not there."""
    root = os.environ.get(FOLDER_VARIABLE)
    if not root:
        return None
    for folder in (Path(root, source.name), Path(root)):
        found = [folder / name for name in source.files]
        if found and all(file.is_file() for file in found):
            return found
    return None


def from_records(source: Source, records: Sequence[Record]) -> Benchmark:
    """A benchmark whose questions came with the responses, as other projects release them.

    `revision` tells whether they are the published ones, all of them and unchanged; there is no file to hash.
    """
    return _make(source, source.to_items(records), "", records[0].file if records else source.name)


def _question_files(source: Source, questions: PathLike | None) -> list[Path]:
    if questions is None:
        found = find_questions(source)
        if found is None:
            raise InputError(
                f"the question file of {source.name} is not here",
                field="--questions",
                remedy=f"Get {' and '.join(source.files)} from {source.homepage} and give it, or set "
                f"{FOLDER_VARIABLE} to the folder that holds it",
            )
        return found
    path = Path(questions).expanduser()
    if not path.is_dir():
        return [path]
    found = [path / name for name in source.files]
    missing = [file.name for file in found if not file.is_file()]
    if missing or not found:
        raise InputError(f"the folder lacks {', '.join(missing) or 'a question file'}", file=path, field="--questions")
    return found


def _load(source: Source, files: list[Path]) -> Benchmark:
    for file in files:
        if not file.is_file():
            raise InputError("the file does not exist", file=file, field="--questions")
    if source.read is not None:
        items = [item for file in files for item in source.read(file)]
    else:
        items = source.to_items([record for file in files for record in read_records(file)])
    digests = [file_sha256(file) for file in files]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return _make(source, items, digest, files[0])


def _make(source: Source, items: list[Item], sha256: str, file: object) -> Benchmark:
    check_items(items, file)
    return Benchmark(
        name=source.name,
        version=source.version,
        items=tuple(items),
        sha256=sha256,
        revision=source.revisions.get(content_sha256(items)),
        oddities=find_oddities(items),
        macro_groups=source.macro_groups,
    )
