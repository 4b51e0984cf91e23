"""A video set of VLMEvalKit over a TSV of `mllm4d eval export --to vlmevalkit`, scored by our rules.

Imported where VLMEvalKit is installed (github.com/open-compass/VLMEvalKit, commit e8e78f0 of August 2026). Its base
class opens `root/<video>.mp4` to sample frames and keeps them under the same name, so the column `video` is the path
below the folder of the videos, without `.mp4`.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from vlmeval.dataset.video_base import VideoBaseDataset
from vlmeval.smp import load

from ..answers.score import score_answer
from ..benchmarks.base import CHOICE, NUMBER, Item

_ASK_CHOICE = "Answer with the option's letter from the given choices directly."
_ASK_NUMBER = "Answer with one number and its unit."


class ExportedVideoSet(VideoBaseDataset):
    """Questions of an exported TSV.

    Args:
        dataset: name that results and cached frames go by.
        tsv: of `mllm4d eval export`, made with --media-root.
        media_root: the folder that the export was given.
        nframe, fps: how frames are sampled; one of them, or none for models that take the video file.
    """

    TYPE = "Video-MCQ"

    def __init__(
        self,
        dataset: str,
        tsv: str,
        media_root: str,
        nframe: int = 0,
        fps: float = -1,
        pack: bool = False,
    ) -> None:
        self._files = {"root": str(Path(media_root).absolute()), "data_file": str(Path(tsv).absolute())}
        super().__init__(dataset=dataset, pack=pack, nframe=nframe, fps=fps)

    @classmethod
    def supported_datasets(cls) -> list[str]:
        """None by name: a set needs its files."""
        return []

    def prepare_dataset(self, dataset: str) -> dict[str, str]:
        """Folder of the videos and the TSV."""
        return self._files

    def build_prompt(self, line: Any, video_llm: bool = False) -> list[dict[str, str]]:
        """The video, or its frames, then the question with its options."""
        row = self.data.iloc[line] if isinstance(line, int) else line
        options = ast.literal_eval(row["candidates"])
        ask = _ASK_CHOICE if options else _ASK_NUMBER
        text = "\n".join([str(row["question"]), *options, ask])
        if video_llm:
            shown = [{"type": "video", "value": str(Path(self.data_root, f"{row['video']}.mp4"))}]
        else:
            shown = [{"type": "image", "value": frame} for frame in self.save_video_frames(row["video"])]
        return [*shown, {"type": "text", "value": text}]

    def evaluate(self, eval_file: str, **judge_kwargs: Any) -> dict[str, float]:
        """Accuracy in percent, over all and by task, by the rules of `mllm4d eval score`; no judge is asked."""
        data = load(eval_file)
        scores: dict[str, list[float]] = {"Overall": []}
        for _, row in data.iterrows():
            score = score_answer(_item(row), str(row["prediction"])).correct
            for group in ("Overall", str(row["category"])):
                scores.setdefault(group, []).append(score)
        return {group: 100 * sum(some) / len(some) for group, some in scores.items()}


def _item(row: Any) -> Item:
    options = tuple(text.partition(". ")[2] for text in ast.literal_eval(row["candidates"]))
    unit = row["unit"] if isinstance(row["unit"], str) else None
    return Item(
        id=str(row["id"]),
        video=str(row["video"]),
        clip=str(row["video"]),
        question=str(row["question"]),
        options=options,
        answer=str(row["answer"]),
        kind=CHOICE if options else NUMBER,
        task=str(row["category"]),
        value=None if options else float(row["answer"]),
        unit=unit,
    )
