"""VLM4D (github.com/ShijieZhou-UCLA/VLM4D): multiple choice about motion in real and synthetic videos.

A record: id "validation_N", video (address), question_type, question, choices {A..D}, answer. The answer is the right
option's text; 232 real records have integer choices and answers. Ids start at 1 in both files, so the two together need
the file's name before the id.

Splits, as the published evaluation makes them: real videos are exocentric (DAVIS, YouTube-VOS) up to id 922 and
egocentric (Ego4D) above; synthetic questions are "false positive" where the answer is "no" or starts with "no " (the
thing asked about is not there), else "directional".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath

from mllm4d_verl.data_tools.schema import LETTERS

from .base import CHOICE, Item, clip_name, fold, video_path
from .records import Record, read_items
from .registry import Source

_HOMEPAGE = "https://github.com/ShijieZhou-UCLA/VLM4D (folder data)"
_REAL_FILE, _SYNTHETIC_FILE = "real_mc.json", "synthetic_mc.json"
_LAST_EXO_ID = 922
_NUMBER = re.compile(r"(\d+)$")
_SYNTHETIC_NAME = re.compile(r"synth_\d+")
_PART_OF_FOLDER = {
    **dict.fromkeys(("videos_real", "real", "davis", "ego4d", "youtube-vos"), "real"),
    **dict.fromkeys(("videos_synthetic", "synthetic"), "synthetic"),
}
#: Content digest of the published questions -> commit of the source: real, synthetic, both.
_REVISIONS = dict.fromkeys(
    (
        "070576d620da3014f6d254acbf49de323871851fcf75f5fff02e08bed4bdb31e",
        "bb39bdd4cbb506ef3535363ee58d621d57aa7e0b0edc91e479a8e8813bc2ced1",
        "a05050696f8c05030be83bed360658c858665db3e839b2f72ebbbe64a1b4f7fa",
    ),
    "23f2680764a2266e69cea6f81ef660decd28792d",
)

_RECORD_KEYS = frozenset({"video", "question", "choices", "answer"})


def to_items(records: Sequence[Record], only: str | None = None) -> list[Item]:
    """Items of VLM4D records.

    Args:
        only: "real" or "synthetic" refuses the other part. None takes both and puts the part before the ids, which
            alone are unique in one of the two files only.
    """
    for record in records:
        if only not in (None, part := _part(record, only)):
            raise record.error(f"a {part} question", "video", "`--benchmark vlm4d` takes both parts")
    return read_items(records, partial(_item, only=only))


def _part(record: Record, only: str | None) -> str:
    """Real or synthetic, by what the video's path says nearest to its name.

    Other machines keep the files under folders of any name, so nothing but the names that the source gives is looked
    for: `synth_NNN` of a synthetic video, then the source's folders from the innermost outwards. A path that names none
    of them is taken for the part that was asked for, and else for real.
    """
    video = record.fields.get("video")
    path = video_path(video) if isinstance(video, str) else PurePosixPath()
    if _SYNTHETIC_NAME.fullmatch(path.stem):
        return "synthetic"
    found = (_PART_OF_FOLDER.get(part.casefold()) for part in reversed(path.parts[:-1]))
    return next((part for part in found if part), only or "real")


def _item(record: Record, only: str | None) -> Item:
    id, video, part = record.text("id"), record.text("video"), _part(record, only)
    options = _options(record)
    answer = _answer(record, options)
    splits = {"part": part}
    if part == "real":
        number = _NUMBER.search(id)
        if number is None:
            raise record.error(f"{id!r} does not end in a number", "id", "The split exo/ego goes by it")
        splits["view"] = "exo" if int(number[1]) <= _LAST_EXO_ID else "ego"
    else:
        text = fold(options[LETTERS.index(answer)])
        splits["question"] = "false_positive" if text == "no" or text.startswith("no ") else "directional"
    return Item(
        id=id.removeprefix(f"{part}/") if only else f"{part}/{id.removeprefix(f'{part}/')}",
        video=video,
        clip=clip_name(video),
        question=record.text("question"),
        options=options,
        answer=answer,
        kind=CHOICE,
        task="_".join([part, *list(splits.values())[1:]]),
        splits=splits,
        source_id=id.removeprefix(f"{part}/"),
    )


def _options(record: Record) -> tuple[str, ...]:
    choices = record.get("choices")
    if not isinstance(choices, dict) or tuple(sorted(choices)) != tuple(LETTERS[: len(choices)]) or len(choices) < 2:
        raise record.error("options under the letters A, B, ... are expected", "choices")
    options = tuple(str(choices[letter]).strip() for letter in LETTERS[: len(choices)])
    if not all(options):
        raise record.error("an option is empty", "choices")
    return options


def _answer(record: Record, options: tuple[str, ...]) -> str:
    text = fold(record.text("answer"))
    for letter, option in zip(LETTERS, options, strict=False):
        if fold(option) == text:
            return letter
    raise record.error(f"the answer {text!r} is not among the options {', '.join(options)}", "answer")


VLM4D_REAL = Source(
    name="vlm4d_real",
    version="2",
    files=(_REAL_FILE,),
    homepage=_HOMEPAGE,
    to_items=partial(to_items, only="real"),
    record_keys=_RECORD_KEYS,
    revisions=_REVISIONS,
)
VLM4D_SYNTHETIC = Source(
    name="vlm4d_synthetic",
    version="2",
    files=(_SYNTHETIC_FILE,),
    homepage=_HOMEPAGE,
    to_items=partial(to_items, only="synthetic"),
    record_keys=_RECORD_KEYS,
    revisions=_REVISIONS,
)
VLM4D = Source(
    name="vlm4d",
    version="2",
    files=(_REAL_FILE, _SYNTHETIC_FILE),
    homepage=_HOMEPAGE,
    to_items=to_items,
    record_keys=_RECORD_KEYS,
    revisions=_REVISIONS,
)
