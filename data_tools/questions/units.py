"""Some distances and speeds asked in centimeters or feet instead of meters: the same questions in other units."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..atomic import atomic_path
from ..errors import InputError
from ..qa_table import check_table, rows_of, table_of
from ..schema import LETTERS, QA_COLUMNS, QA_SCHEMA, PathLike, QARow
from .chance import mix, uniform

METERS = "meters"
#: Unit -> its size in metres.
UNITS: dict[str, float] = {METERS: 1.0, "centimeters": 0.01, "feet": 0.3048}
_MOST_CENTIMETERS = 1000.0  # nobody says so many
_TICKS = 22  # the smallest option is at least this many units of the last printed digit, as in options.py
_NUMBER = re.compile(rf"(\d+(?:\.(\d+))?)(| {METERS}.*)")


@dataclass(frozen=True)
class UnitsConfig:
    """How often which units are asked for.

    Attributes:
        units: beside meters, all equally often.
        share: of the questions about meters, or meters per second, that get one of them.
        seed: decides which.
    """

    units: tuple[str, ...] = ("centimeters", "feet")
    share: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [unit for unit in self.units if unit not in UNITS or unit == METERS]
        if unknown or not self.units:
            known = ", ".join(unit for unit in UNITS if unit != METERS)
            raise InputError(f"unknown units {unknown}", field="units", remedy=f"Known: {known}")
        if not 0 <= self.share <= 1:
            raise InputError(f"must lie in 0..1, got {self.share}", field="share")


def in_unit(row: QARow, unit: str, chance: int = 0) -> QARow | None:
    """The same question in another unit, or None where it has none or the numbers get unwieldy.

    Every option names the unit, also where the question does: a bare number is in meters to all readers of rows.

    Question, options, answer_text, value and unit change; id, letter, centres (metres) and meta (`measure` in metres)
    stay. Rows with a response, which speaks of meters, are left alone, as are descriptions that name a unit.

    Args:
        row: whose unit is meters, or meters per second.
        unit: of UNITS.
        chance: of distractors: they were rounded to what was printed, and are put anywhere within that rounding, or
            the truth alone would not be a round number of meters.
    """
    in_meters = row.value is not None and (row.unit or "").split(" ")[0] == METERS
    if not in_meters or row.response is not None or METERS in (row.object_description or ""):
        return None
    parts = [_NUMBER.fullmatch(option) for option in row.options]
    if not parts or any(part is None for part in parts):
        return None
    found = [part for part in parts if part is not None]
    numbers = np.array([float(part[1]) for part in found])
    rounding = np.array([10.0 ** -len(part[2] or "") for part in found])
    numbers += (uniform(mix(chance, np.arange(len(numbers)))) - 0.5) * rounding
    numbers[LETTERS.index(row.answer)] = row.value
    numbers /= UNITS[unit]
    if numbers.min() <= 0 or (unit == "centimeters" and numbers.max() > _MOST_CENTIMETERS):
        return None
    decimals = max(0, math.ceil(math.log10(_TICKS / numbers.min())))
    words = (row.unit or "").replace(METERS, unit)
    options = [f"{number:.{decimals}f} {words}" for number in numbers]
    if len(set(options)) < len(options):
        return None
    return replace(
        row,
        question=row.question.replace(METERS, unit),
        options=options,
        answer_text=options[LETTERS.index(row.answer)],
        value=round(float(row.value or 0.0) / UNITS[unit], 6),
        unit=words,
    )


def vary_units(table: pa.Table, config: UnitsConfig) -> pa.Table:
    """Rows of QA_SCHEMA, a share of them in other units. Which follows from seed and id alone."""
    changed: dict[int, QARow] = {}
    in_meters = np.flatnonzero([(unit or "").startswith(METERS) for unit in table.column("unit").to_pylist()])
    for place, row in zip(in_meters.tolist(), rows_of(table.take(pa.array(in_meters))), strict=True):
        text = f"{config.seed}/{row.id}".encode()
        chance = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
        if uniform(mix(chance, 1))[0] < config.share:
            unit = config.units[int(mix(chance, 2)[0] % np.uint64(len(config.units)))]
            other = in_unit(row, unit, chance)
            if other is not None:
                changed[place] = other
    if not changed:
        return table
    # One table of both, from which each row takes its own version.
    both = pa.concat_tables([table, table_of(changed.values())])
    places = np.arange(table.num_rows)
    places[list(changed)] = table.num_rows + np.arange(len(changed))
    return both.take(pa.array(places)).combine_chunks()


def write_with_units(source: PathLike, out: PathLike, config: UnitsConfig) -> dict[str, int]:
    """Copy a QA parquet file with a share of its questions in other units; unit -> rows. Memory holds a row group.

    Raises:
        InputError: `source` is not a QA parquet file, or a row breaks the contract; `out` is then not written.
    """
    if Path(out).exists() and os.path.samefile(source, out):
        raise InputError("would overwrite the file that is read", file=out, remedy="Name another file")
    counts: dict[str, int] = {}
    with atomic_path(out) as temporary, pq.ParquetWriter(temporary, QA_SCHEMA) as writer:
        for table in _row_groups(source):
            varied = vary_units(table, config)
            for unit in varied.column("unit").to_pylist():
                counts[unit or "none"] = counts.get(unit or "none", 0) + 1
            writer.write_table(varied)
    return dict(sorted(counts.items()))


def _row_groups(source: PathLike) -> Iterator[pa.Table]:
    try:
        file = pq.ParquetFile(source)
    except FileNotFoundError:
        raise InputError("the file does not exist", file=source) from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a parquet file ({error})", file=source) from None
    with file:
        missing = set(QA_COLUMNS) - set(file.schema_arrow.names)
        if missing:
            remedy = "mllm4d data convert makes question rows of other formats"
            raise InputError(f"lacks the columns {sorted(missing)}", file=source, remedy=remedy)
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, columns=QA_COLUMNS).select(QA_SCHEMA.names).cast(QA_SCHEMA)
            for problem in check_table(table, repeats=False):
                raise problem.error(source)
            yield table
