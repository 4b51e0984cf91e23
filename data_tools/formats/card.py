"""The dataset card of a Hugging Face folder: YAML header, contents, sources, licences, known limits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from ..schema import SPLITS, QARow

UNKNOWN = "not recorded"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


class CardFigures:
    """Counts for a card, row by row. `sources` gives (source, licence) per clip_id where rows do not say."""

    def __init__(self, sources: dict[str, tuple[str, str]]) -> None:
        self._sources = sources
        self.rows: Counter[str] = Counter()  # per split
        self.tasks: Counter[tuple[str, str]] = Counter()  # (task, split)
        self.sources: Counter[tuple[str, str, str]] = Counter()  # (source, licence, split)
        self.letters: Counter[str] = Counter()
        self.num_frames: Counter[int] = Counter()
        self.responses = 0
        self.imported = 0
        self.clips: dict[str, set[int]] = {split: set() for split in SPLITS}

    def add(self, row: QARow) -> None:
        """Count one row."""
        source, licence = self._sources.get(row.clip_id, (UNKNOWN, UNKNOWN))
        source, licence = str(row.meta.get("source") or source), str(row.meta.get("license") or licence)
        self.rows[row.split] += 1
        self.tasks[row.task, row.split] += 1
        self.sources[source, licence, row.split] += 1
        self.letters[row.answer if row.options else "free text"] += 1
        self.num_frames[row.num_frames] += 1
        self.responses += row.response is not None
        self.imported += "messages" in row.meta
        self.clips[row.split].add(hash(row.clip_id))


def write_card(path: Path, figures: CardFigures, title: str) -> None:
    """Write the card as `path`."""
    total = sum(figures.rows.values())
    splits = [split for split in SPLITS if figures.rows[split]]
    licences = sorted({licence for _, licence, _ in figures.sources})
    header = {
        "pretty_name": title,
        "language": ["en"],
        "license": "other",
        "license_name": ", ".join(licences),
        "task_categories": ["video-text-to-text", "visual-question-answering"],
        "tags": ["spatio-temporal-reasoning", "4d", "video", "multiple-choice"],
        "size_categories": [next((name for limit, name in _SIZES if total < limit), "n>1M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}-*-of-*.parquet"} for split in splits],
            }
        ],
    }
    text = [
        "---",
        yaml.safe_dump(header, sort_keys=False, allow_unicode=True).strip(),
        "---",
        f"# {title}",
        "",
        f"{total:,} questions about space and time in {_clips(figures)} video clips, one parquet row each.",
        "",
        _table(
            ["split", "questions", "clips"],
            [[split, f"{figures.rows[split]:,}", f"{len(figures.clips[split]):,}"] for split in splits],
        ),
        "## Tasks",
        "",
        _shares("task", {(task,): _row(figures.tasks, (task,)) for task in sorted({t for t, _ in figures.tasks})}),
        "## Sources and licences",
        "",
        _shares(
            "source | licence",
            {key: _row(figures.sources, key) for key in sorted({(s, li) for s, li, _ in figures.sources})},
        ),
        "The licences are those of the videos. " + _unknown_sources(figures),
        "",
        "## Answers",
        "",
        _table(["answer", "share"], [[key, f"{100 * n / total:.1f} %"] for key, n in sorted(figures.letters.items())]),
        "## Columns",
        "",
        "`video` is a path, relative to this folder; videos are not part of it. `start_frame` and `end_frame` count "
        "among the `num_frames` frames sampled evenly from the video, from 0. `camera_center` and `object_center` are "
        "[start, end], each [x, y, z] in metres or null, in the camera axes of the clip's first frame (+x right, +y "
        "down, +z forward). `meta` is JSON text. `response` is reasoning text to train on, or null.",
        "",
        "## Known limits",
        "",
        *(f"* {limit}" for limit in _limits(figures, total)),
        "",
        "## Loading",
        "",
        "```python",
        "import datasets",
        "rows = datasets.load_dataset(FOLDER)",
        "```",
        "",
    ]
    path.write_text("\n".join(text), encoding="utf-8")


def _limits(figures: CardFigures, total: int) -> list[str]:
    frames = ", ".join(str(number) for number in sorted(figures.num_frames))
    limits = [
        "Truths are computed from measured or rendered geometry; the error of the measurement is theirs as well.",
        f"Questions name frames by their number among {frames} sampled frames: another sampling makes them wrong.",
        f"{figures.responses:,} of {total:,} rows have a response to train on.",
    ]
    if figures.imported:
        limits.append(f"{figures.imported:,} rows were imported with their own chat; their truth was not recomputed.")
    shared = [
        f"{left} and {right}: {len(both):,}"
        for index, left in enumerate(SPLITS)
        for right in SPLITS[index + 1 :]
        if (both := figures.clips[left] & figures.clips[right])
    ]
    if shared:
        limits.append(f"Splits share clips ({'; '.join(shared)}), so that held-out figures flatter.")
    return limits


def _unknown_sources(figures: CardFigures) -> str:
    missing = sum(count for (source, licence, _), count in figures.sources.items() if UNKNOWN in (source, licence))
    if not missing:
        return "Every row's source is known."
    return f"For {missing:,} rows source or licence is not recorded: find out before you pass them on."


def _clips(figures: CardFigures) -> str:
    return f"{len(set().union(*figures.clips.values())):,}"


def _row(counts: Counter[Any], key: tuple[str, ...]) -> list[int]:
    return [counts[(*key, split)] for split in SPLITS]


def _shares(name: str, counts: dict[tuple[str, ...], list[int]]) -> str:
    """A table of rows per split and the share of each line in all."""
    total = sum(map(sum, counts.values()))
    lines = [
        [*key, *(f"{number:,}" for number in numbers), f"{100 * sum(numbers) / total:.1f} %"]
        for key, numbers in counts.items()
    ]
    return _table([*name.split(" | "), *SPLITS, "share"], lines)


def _table(columns: list[str], lines: list[list[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"
