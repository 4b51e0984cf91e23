"""The two records that carry everything: Clip4D (a clip's geometry) and QARow (one question about it).

Coordinates: OpenCV axes (+X right, +Y down, +Z forward), metres; world = rectified left camera of clip frame 0;
`cam_to_world` takes camera points to the world, so the camera centre is its translation column.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .atomic import atomic_path
from .errors import InputError
from .npz import read_npz

PathLike = str | os.PathLike[str]
Vector = list[float]
States = list[Vector | None]

TASKS: tuple[str, ...] = (
    "camera_absolute_distance",
    "camera_relative_direction",
    "object_absolute_distance",
    "object_camera_absolute_distance",
    "object_camera_relative_distance",
    "object_camera_relative_direction_lateral",
    "object_camera_relative_direction_longitudinal",
)
#: Tasks beside the seven of the design, asked on demand (data_tools/questions/tasks).
EXTRA_TASKS: tuple[str, ...] = (
    "object_object_distance",
    "object_object_relative_distance",
    "object_speed",
    "camera_speed",
    "time_of_closest_approach",
    "nearer_object",
    "camera_rotation_yaw",
    "camera_rotation_pitch",
    "will_they_meet",
    "occlusion_order",
    "moving_object_count",
)
OTHER_TASK = "other"  # imported rows whose question is none of these
TASK_ENTRY_POINTS = "mllm4d_verl.tasks"  # group under which other packages offer tasks of their own
SPLITS: tuple[str, ...] = ("train", "val", "test")
LETTERS = "ABCDEFGHIJ"

MAX_POINTS_PER_OBJECT = 256  # per frame
CLIP_INDEX_NAME = "clips.parquet"
#: `quality` of a record says so where it was made without images (labels, tracks): `video` is where they are to be put.
VIDEO_KEY, VIDEO_ABSENT = "video", "absent"


@cache
def known_tasks() -> tuple[str, ...]:
    """Names that `QARow.task` may hold: ours, those that installed packages add, and "other"."""
    others = sorted({point.name for point in entry_points(group=TASK_ENTRY_POINTS)} - {*TASKS, *EXTRA_TASKS})
    return (*TASKS, *EXTRA_TASKS, *others, OTHER_TASK)


# --------------------------------------------------------------------------------------------------------- Clip4D


@dataclass(eq=False)
class ObjectTrack:
    """One object of a clip.

    Attributes:
        id: the object's value in instance masks; unique in the clip.
        category: broad class, "ball".
        description: words that single it out in its clip, "the red ball".
        is_moving: whether it moves in the world at any time.
        points: per clip frame, (N_i, 3) float32 world metres, N_i at most 256; (0, 3) where unseen.
    """

    id: int
    category: str
    description: str
    is_moving: bool
    points: list[np.ndarray]

    def seen(self, frame: int) -> bool:
        """Whether the object has points at clip frame `frame`."""
        return len(self.points[frame]) > 0


@dataclass(eq=False)
class Clip4D:
    """Geometry of one clip.

    Attributes:
        clip_id, source, license: strings.
        video: path of the left RGB mp4, relative to the data root.
        fps: frames per second.
        num_frames: T.
        width, height: pixels.
        intrinsics: (3, 3) float64 pixels, rectified left camera.
        baseline: metres between the rectified cameras.
        cam_to_world: (T, 4, 4) float64.
        objects: tracks.
        quality: numbers that filters used (reprojection error, motion noise, ...).
    """

    clip_id: str
    source: str
    license: str
    video: str
    fps: float
    num_frames: int
    width: int
    height: int
    intrinsics: np.ndarray
    baseline: float
    cam_to_world: np.ndarray
    objects: list[ObjectTrack] = field(default_factory=list)
    quality: dict[str, Any] = field(default_factory=dict)

    @property
    def camera_centers(self) -> np.ndarray:
        """(T, 3) camera centres, world metres."""
        return self.cam_to_world[:, :3, 3]


def check_clip(clip: Clip4D, file: PathLike | None = None) -> None:
    """Raise InputError naming the field where shapes, rotations or numbers are not what the record promises."""

    def fail(problem: str, name: str) -> None:
        raise InputError(problem, file=file, row=clip.clip_id, field=name)

    if not clip.clip_id or Path(clip.clip_id).name != clip.clip_id:
        fail("clip_id must be a non-empty file name without slashes", "clip_id")
    if clip.num_frames < 1:
        fail(f"a clip has at least one frame, got {clip.num_frames}", "num_frames")
    for name, value in (
        ("fps", clip.fps),
        ("width", clip.width),
        ("height", clip.height),
        ("baseline", clip.baseline),
    ):
        if not (math.isfinite(value) and value > 0):
            fail(f"must be a positive number, got {value}", name)
    for name, array, shape in (
        ("intrinsics", clip.intrinsics, (3, 3)),
        ("cam_to_world", clip.cam_to_world, (clip.num_frames, 4, 4)),
    ):
        if array.shape != shape:
            fail(f"shape {array.shape}, expected {shape}", name)
        if not np.isfinite(array).all():
            fail("holds NaN or infinite numbers", name)
    rotation = clip.cam_to_world[:, :3, :3]
    orthonormal = (np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)) <= 1.1e-4).all()
    if not orthonormal or (np.linalg.det(rotation) < 0).any():
        fail("the upper left 3x3 blocks are not rotations", "cam_to_world")
    if not (np.abs(clip.cam_to_world[:, 3] - (0, 0, 0, 1)) <= (1e-8, 1e-8, 1e-8, 1e-5)).all():
        fail("the last row of a pose must be 0 0 0 1", "cam_to_world")
    ids = [track.id for track in clip.objects]
    if len(set(ids)) != len(ids):
        fail(f"object ids repeat: {ids}", "objects")
    for track in clip.objects:
        name = f"objects[{track.id}].points"
        if len(track.points) != clip.num_frames:
            fail(f"{len(track.points)} frames of points in a clip of {clip.num_frames}", name)
        if _sound_points(track.points):
            continue
        for frame, points in enumerate(track.points):
            if points.ndim != 2 or points.shape[1] != 3 or len(points) > MAX_POINTS_PER_OBJECT:
                fail(f"frame {frame} has shape {points.shape}, expected (at most {MAX_POINTS_PER_OBJECT}, 3)", name)
            if not np.isfinite(points).all():
                fail(f"frame {frame} holds NaN or infinite numbers", name)


def _sound_points(frames: list[np.ndarray]) -> bool:
    """Whether the points of all frames are as the record promises; all frames at once, since most clips are sound."""
    if any(points.ndim != 2 or points.shape[1] != 3 or len(points) > MAX_POINTS_PER_OBJECT for points in frames):
        return False
    return bool(np.isfinite(np.concatenate(frames)).all()) if frames else True


def write_clip(folder: PathLike, clip: Clip4D) -> Path:
    """Write `folder/<clip_id>.npz` and return its path. No pickle inside; equal clips give equal bytes.

    Ragged points are stored as `points` (M_total, 3) float32 and `points_offsets` (num_objects * T + 1,) int64:
    object m at frame t owns `points[offsets[m * T + t] : offsets[m * T + t + 1]]`.
    """
    check_clip(clip)
    per_frame = [np.asarray(points, np.float32).reshape(-1, 3) for track in clip.objects for points in track.points]
    offsets = np.cumsum([0] + [len(points) for points in per_frame], dtype=np.int64)
    arrays = {
        "clip_id": np.array(clip.clip_id),
        "source": np.array(clip.source),
        "license": np.array(clip.license),
        "video": np.array(clip.video),
        "fps": np.array(clip.fps, np.float64),
        "num_frames": np.array(clip.num_frames, np.int64),
        "width": np.array(clip.width, np.int64),
        "height": np.array(clip.height, np.int64),
        "intrinsics": np.asarray(clip.intrinsics, np.float64),
        "baseline": np.array(clip.baseline, np.float64),
        "cam_to_world": np.asarray(clip.cam_to_world, np.float64),
        "object_ids": np.array([track.id for track in clip.objects], np.int64),
        "object_categories": _strings([track.category for track in clip.objects]),
        "object_descriptions": _strings([track.description for track in clip.objects]),
        "object_is_moving": np.array([track.is_moving for track in clip.objects], np.bool_),
        "points": np.concatenate([np.zeros((0, 3), np.float32), *per_frame]),
        "points_offsets": offsets,
        "quality": np.array(json.dumps(clip.quality, sort_keys=True, default=plain_number)),
    }
    path = Path(folder) / f"{clip.clip_id}.npz"
    with atomic_path(path) as temporary:
        # numpy stamps every member with 1980-01-01, so bytes depend on the content only
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    return path


def read_clip(path: PathLike) -> Clip4D:
    """Read and check one Clip4D `.npz`.

    Raises:
        InputError: the file is missing, not an npz, lacks a field, or a field is malformed.
    """
    try:
        arrays = read_npz(path)
    except FileNotFoundError:
        raise InputError("the clip file does not exist", file=path) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable Clip4D npz ({error})", file=path) from error
    try:
        num_frames = int(arrays["num_frames"])
        offsets = arrays["points_offsets"]
        num_objects = len(arrays["object_ids"])
        if len(offsets) != num_objects * num_frames + 1 or offsets[-1] != len(arrays["points"]):
            raise InputError(
                f"{len(offsets)} offsets up to {offsets[-1]} for {num_objects} objects, {num_frames} frames "
                f"and {len(arrays['points'])} points",
                file=path,
                field="points_offsets",
            )
        points = [arrays["points"][start:end] for start, end in pairwise(offsets)]
        clip = Clip4D(
            clip_id=str(arrays["clip_id"]),
            source=str(arrays["source"]),
            license=str(arrays["license"]),
            video=str(arrays["video"]),
            fps=float(arrays["fps"]),
            num_frames=num_frames,
            width=int(arrays["width"]),
            height=int(arrays["height"]),
            intrinsics=arrays["intrinsics"],
            baseline=float(arrays["baseline"]),
            cam_to_world=arrays["cam_to_world"],
            objects=[
                ObjectTrack(
                    id=int(arrays["object_ids"][m]),
                    category=str(arrays["object_categories"][m]),
                    description=str(arrays["object_descriptions"][m]),
                    is_moving=bool(arrays["object_is_moving"][m]),
                    points=points[m * num_frames : (m + 1) * num_frames],
                )
                for m in range(num_objects)
            ],
            quality=json.loads(str(arrays["quality"])),
        )
    except KeyError as error:
        raise InputError("the field is missing", file=path, field=str(error.args[0])) from None
    check_clip(clip, path)
    return clip


CLIP_INDEX_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("file", pa.string()),  # the npz, relative to the index
        ("source", pa.string()),
        ("license", pa.string()),
        ("video", pa.string()),
        ("fps", pa.float64()),
        ("num_frames", pa.int64()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("baseline", pa.float64()),
        ("num_objects", pa.int64()),
        ("num_moving_objects", pa.int64()),
        ("quality", pa.string()),
    ]
)


def write_clip_index(folder: PathLike) -> Path:
    """Write `folder/clips.parquet`, one row per `.npz` of the folder in name order, and return its path."""
    rows = []
    for path in sorted(Path(folder).glob("[!.]*.npz")):
        clip = read_clip(path)
        rows.append(
            {
                "clip_id": clip.clip_id,
                "file": path.name,
                "source": clip.source,
                "license": clip.license,
                "video": clip.video,
                "fps": clip.fps,
                "num_frames": clip.num_frames,
                "width": clip.width,
                "height": clip.height,
                "baseline": clip.baseline,
                "num_objects": len(clip.objects),
                "num_moving_objects": sum(track.is_moving for track in clip.objects),
                "quality": json.dumps(clip.quality, sort_keys=True),
            }
        )
    if not rows:
        raise InputError("the folder holds no Clip4D npz files", file=folder)
    index = Path(folder) / CLIP_INDEX_NAME
    with atomic_path(index) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, CLIP_INDEX_SCHEMA), temporary)
    return index


def find_clip_index(folder: PathLike) -> Path:
    """`clips.parquet` in `folder`, `folder/clip4d` or `folder/truth`, the first that exists.

    Raises:
        InputError: none exists.
    """
    candidates = [Path(folder, *parts, CLIP_INDEX_NAME) for parts in ((), ("clip4d",), ("truth",))]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(
        f"no {CLIP_INDEX_NAME} in the folder, nor in its clip4d or truth folder",
        file=folder,
        remedy="Make clips with `mllm4d data synth`, or index a folder of npz files with write_clip_index",
    )


def read_clip_index(folder: PathLike) -> list[dict[str, Any]]:
    """Rows of the clip index of `folder`, without opening the clips."""
    return _read_table(find_clip_index(folder), CLIP_INDEX_SCHEMA, optional=frozenset()).to_pylist()


def iter_clips(folder: PathLike) -> Iterator[Clip4D]:
    """Clips of a data root in index order, one in memory at a time."""
    index = find_clip_index(folder)
    for row in read_clip_index(folder):
        yield read_clip(index.parent / row["file"])


# ---------------------------------------------------------------------------------------------------------- QARow


@dataclass
class QARow:
    """One question about one clip: the contract between data tools and training. Media by path, never bytes.

    Attributes:
        id: unique in its file.
        clip_id: clip it is asked about; splits never share a clip.
        video: path relative to the folder of the parquet file, or absolute.
        num_frames: frames sampled for the model, even; see `sampling.sample_frame_indices`.
        task: one of TASKS or EXTRA_TASKS, one that a package adds, or "other" for imported rows.
        start_frame, end_frame: 0-based index among the sampled frames.
        question: text without options.
        options: option texts in letter order; empty only for imported rows that do not list theirs.
        answer: letter, "A" is options[0].
        answer_text: the option behind the letter.
        value: the number behind the answer, in `unit`; None where there is none.
        camera_center, object_center: [start, end], each [x, y, z] metres or None where the question does not need
            it; None when it needs neither.
        object_description: words for the object, None for camera questions.
        split: train, val or test.
        meta: anything JSON can hold; `meta["messages"]` keeps an imported row's own chat.
        response: ST-CoT text for cold start, else None.
    """

    id: str
    clip_id: str
    video: str
    num_frames: int
    task: str
    start_frame: int
    end_frame: int
    question: str
    options: list[str]
    answer: str
    answer_text: str = ""
    value: float | None = None
    unit: str | None = None
    camera_center: States | None = None
    object_center: States | None = None
    object_description: str | None = None
    split: str = "train"
    meta: dict[str, Any] = field(default_factory=dict)
    response: str | None = None


_STATES = pa.list_(pa.list_(pa.float64()))
QA_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("clip_id", pa.string()),
        ("video", pa.string()),
        ("num_frames", pa.int64()),
        ("task", pa.string()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
        ("question", pa.string()),
        ("options", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("answer_text", pa.string()),
        ("value", pa.float64()),
        ("unit", pa.string()),
        ("camera_center", _STATES),
        ("object_center", _STATES),
        ("object_description", pa.string()),
        ("split", pa.string()),
        ("meta", pa.string()),
        ("response", pa.string()),
    ]
)
QA_COLUMNS: tuple[str, ...] = tuple(QA_SCHEMA.names)
NULLABLE_COLUMNS = frozenset({"value", "unit", "camera_center", "object_center", "object_description", "response"})
_OPTIONAL = NULLABLE_COLUMNS | {"answer_text", "split", "meta"}  # columns a file may lack


def check_row(row: QARow, *, file: PathLike | None = None, index: int | None = None) -> None:
    """Raise InputError naming the field where a row breaks the contract of QARow."""

    def fail(problem: str, name: str, remedy: str | None = None) -> None:
        raise InputError(problem, file=file, row=row.id if index is None else index, field=name, remedy=remedy)

    for item in fields(row):
        if getattr(row, item.name) is None and item.name not in NULLABLE_COLUMNS:
            fail("must not be null", item.name)
    for name in ("id", "clip_id", "video", "question", "answer"):
        if not getattr(row, name).strip():
            fail("must not be empty", name)
    if row.task not in known_tasks():
        fail(f"unknown task {row.task!r}", "task", f"Known: {', '.join(known_tasks())}")
    if row.split not in SPLITS:
        fail(f"unknown split {row.split!r}", "split", f"Known: {', '.join(SPLITS)}")
    if row.num_frames < 2 or row.num_frames % 2:
        fail(f"must be even and at least 2, got {row.num_frames}", "num_frames")
    for name in ("start_frame", "end_frame"):
        if not 0 <= getattr(row, name) < row.num_frames:
            fail(f"{getattr(row, name)} is not among the frames 0..{row.num_frames - 1}", name)
    if row.end_frame < row.start_frame:
        fail(f"end frame {row.end_frame} comes before start frame {row.start_frame}", "end_frame")
    _check_options(row, fail)
    if row.value is not None and not math.isfinite(row.value):
        fail(f"must be a finite number or null, got {row.value}", "value")
    for name in ("camera_center", "object_center"):
        problem = _states_problem(getattr(row, name))
        if problem:
            fail(problem, name, "Drop the row, or write null for a state that is not known")


def _check_options(row: QARow, fail: Any) -> None:
    if not row.options:
        if row.task != OTHER_TASK:
            fail("a question needs options", "options")
        return
    if len(row.options) > len(LETTERS):
        fail(f"{len(row.options)} options, at most {len(LETTERS)}", "options")
    if any(option is None for option in row.options):
        fail("an option is null", "options")
    letters = LETTERS[: len(row.options)]
    if len(row.answer) != 1 or row.answer not in letters:
        fail(f"answer {row.answer!r} is not among the options {', '.join(letters)}", "answer")
    expected = row.options[letters.index(row.answer)]
    if row.answer_text and row.answer_text != expected:
        fail(f"{row.answer_text!r} is not option {row.answer}, which reads {expected!r}", "answer_text")


def _states_problem(states: Any) -> str | None:
    if states is None:
        return None
    if not isinstance(states, list) or len(states) != 2:
        return "must be [start, end], two entries, or null"
    for state in states:
        if state is None:
            continue
        if not isinstance(state, list) or len(state) != 3:
            return f"a centre must be [x, y, z] or null, got {state}"
        for number in state:
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                return f"a centre must hold finite numbers, got {state}"
    return None


def write_qa(path: PathLike, rows: Iterable[QARow]) -> Path:
    """Check the rows and write them as parquet, whole or not at all. Equal rows give equal bytes.

    Raises:
        InputError: a row breaks the contract, or an id repeats.
    """
    from .qa_table import check_table, table_of

    table = table_of(rows, file=path)
    for problem in check_table(table):
        raise problem.error(path)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
    return Path(path)


def read_qa(path: PathLike) -> list[QARow]:
    """Read a QA parquet file and check every row.

    Columns that may be null, and answer_text, split and meta, may be absent; unknown columns are ignored.

    Raises:
        InputError: naming file, row and field.
    """
    from .qa_table import check_table, rows_of

    table = read_qa_table(path)
    for problem in check_table(table, repeats=False):
        raise problem.error(path)
    return rows_of(table)


def read_qa_table(path: PathLike) -> pa.Table:
    """A QA parquet file as a table of exactly QA_SCHEMA; absent optional columns are null. Rows are not checked.

    Raises:
        InputError: the file is missing, empty, not parquet, lacks a column, or a column has another type.
    """
    return _read_table(path, QA_SCHEMA, optional=_OPTIONAL)


def _read_table(path: PathLike, schema: pa.Schema, *, optional: frozenset[str]) -> pa.Table:
    """Read parquet as exactly `schema`: absent optional columns become null, others are cast or refused."""
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise InputError("the file does not exist", file=path) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"not a readable parquet file ({error})", file=path) from error
    columns = []
    for item in schema:
        if item.name not in table.column_names:
            if item.name not in optional:
                raise InputError(
                    f"the column is missing; the file has {', '.join(table.column_names)}", file=path, field=item.name
                )
            columns.append(pa.nulls(table.num_rows, item.type))
            continue
        column = table.column(item.name)
        try:
            columns.append(column.cast(item.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise InputError(
                f"the column holds {column.type}, expected {item.type}", file=path, field=item.name
            ) from None
    if table.num_rows == 0:
        raise InputError("the file has no rows", file=path)
    return pa.table(columns, schema=schema)


def _strings(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=np.str_) if values else np.zeros(0, "<U1")


def plain_number(value: Any) -> Any:
    """For `json.dumps(default=...)`: numpy scalars and arrays as plain numbers and lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} does not go into JSON")
