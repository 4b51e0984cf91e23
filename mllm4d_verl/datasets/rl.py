"""Question rows as prompts of verl's RL trainers."""

from __future__ import annotations

import json
import uuid
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from qwen_vl_utils import fetch_image
from verl.utils.dataset.rl_dataset import RLHFDataset

from mllm4d_verl.data_tools.control_tokens import REFUSE, rows_with_control_tokens
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.qa_table import rows_of
from mllm4d_verl.datasets.options import PromptOptions
from mllm4d_verl.datasets.question_rows import QuestionRows, SourceRow
from mllm4d_verl.datasets.reader import (
    FileKind,
    as_file_list,
    at,
    choose_rows,
    file_kind,
    ground_truth,
    read_rows,
)
from mllm4d_verl.video import VideoGeometry, probe_video, video_tokens
from mllm4d_verl.video.frames import load_video, process_cache
from mllm4d_verl.video.reading import DEFAULT_TIME_LIMIT_S
from mllm4d_verl.video.store import DEFAULT_GB

_MEDIA = "<(image|audio)>"


class MLLM4DDataset(RLHFDataset):
    """verl's RL dataset for question rows (QARow parquet, released RFT JSONL); verl's own files pass through unchanged.

    It differs from RLHFDataset in three places: how files become rows, how long prompts are measured (from sizes,
    without decoding), and how videos are read (each clip once per process, not once per rollout).

    Config (`data=mllm4d`): the keys of `PromptOptions`; `frame_cache_mb`, the memory of each process for decoded
    frames; `frame_store_gb`, the size of the store on disk (see `video.store.open_store`); and `video_time_limit_s`,
    the seconds that reading one video may take.
    """

    def _read_files_and_tokenize(self) -> None:
        # Paths in rows start from the file the user named, wherever verl copied it to.
        files = as_file_list(self.original_data_files)
        local_files = as_file_list(self.data_files)
        kinds = {file_kind(local) for local in local_files}
        self._rows_are_verls = kinds == {FileKind.VERL}
        if self._rows_are_verls:
            super()._read_files_and_tokenize()
            return
        options = PromptOptions.from_config(self.config, self.tokenizer)
        original = dict(zip(local_files, files, strict=True))
        rows = read_rows(local_files, options).renamed(original)
        rows = choose_rows(rows, self.max_samples, self.shuffle, self.seed)
        check_prompts(rows, options)
        self.dataframe = self.maybe_filter_out_long_prompts(lazy_dataset(rows, options))
        if len(self.dataframe) == 0:
            raise InputError(
                f"every prompt is longer than data.max_prompt_length {self.max_prompt_length}",
                file=files[0],
                remedy="Raise it, or lower data.max_pixels",
            )

    def maybe_filter_out_long_prompts(self, dataframe: datasets.Dataset) -> datasets.Dataset:
        """Drop prompts above max_prompt_length. Tokens of a video come from its header, so no frame is decoded."""
        if self._rows_are_verls or not self.filter_overlong_prompts or self.processor is None:
            return super().maybe_filter_out_long_prompts(dataframe)
        lengths = [self.prompt_length(row) for row in dataframe]
        kept = [index for index, length in enumerate(lengths) if length <= self.max_prompt_length]
        if len(kept) < len(lengths):
            print(f"dropped {len(lengths) - len(kept)} of {len(lengths)} prompts above {self.max_prompt_length} tokens")
        return dataframe.select(kept)

    def prompt_length(self, row: dict[str, Any]) -> int:
        """Tokens of a row's prompt, exactly as the rollout will count them."""
        videos = row[self.video_key]
        text = self.processor.apply_chat_template(
            self._build_messages(dict(row), self.prompt_key),
            add_generation_prompt=True,
            tokenize=False,
            **self.apply_chat_template_kwargs,
        )
        tokenizer = self.processor.tokenizer
        geometry = VideoGeometry.from_processor(self.processor)
        length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        for video in videos:
            info = probe_video(video)
            length += video_tokens(
                geometry,
                video["nframes"],
                info.height,
                info.width,
                video.get("min_pixels"),
                video.get("max_pixels"),
                total_frames=info.num_frames,
                fps=info.fps,
                irregular_times_s=info.irregular_times_s,
                count_text_tokens=lambda stamp: len(tokenizer(stamp, add_special_tokens=False)["input_ids"]),
            )
            length -= 3  # what the template wrote for it: vision start, video pad, vision end
        return length

    def __getitem__(self, item: int) -> dict[str, Any]:
        row = super().__getitem__(item)
        if not self._rows_are_verls:
            row["reward_model"]["ground_truth"] = json.loads(row["reward_model"]["ground_truth"])
        return row

    @classmethod
    def _process_multi_modal_info(cls, messages: list[dict], image_patch_size: int, config) -> tuple:
        """verl's hook for decoding, called for every rollout; here with the frame cache of the process."""
        entries = [
            entry for message in messages if isinstance(message.get("content"), list) for entry in message["content"]
        ]
        megabytes, gigabytes = config.get("frame_cache_mb"), config.get("frame_store_gb")
        cache = process_cache(
            None if megabytes is None else int(megabytes) * 2**20, DEFAULT_GB if gigabytes is None else gigabytes
        )
        limit_s = config.get("video_time_limit_s", DEFAULT_TIME_LIMIT_S)
        images = [
            fetch_image(entry, image_patch_size=image_patch_size)
            for entry in entries
            if "image" in entry or "image_url" in entry
        ]
        videos = [load_video(entry, image_patch_size, cache, limit_s) for entry in entries if "video" in entry]
        return images or None, videos or None, cls._extract_audio_info(messages)


def check_prompts(rows: QuestionRows, options: PromptOptions) -> None:
    """Try what can fail when a row becomes a prompt, on the rows where it may, without making them all.

    Raises:
        InputError: the template needs what the first row lacks, a question holds a media placeholder, a text a
            control token, or a row was asked about another number of frames than `options.num_frames`.
    """
    doubtful = [0]
    doubtful += list(np.flatnonzero(rows.mask("question", lambda texts: pc.match_substring(texts, "<video>")))[:100])
    doubtful += list(np.flatnonzero(rows.mask("question", lambda texts: pc.match_substring_regex(texts, _MEDIA)))[:1])
    if options.special_tokens == REFUSE:
        for name in ("question", "options", "response"):
            found = rows.mask(name, lambda texts: rows_with_control_tokens(texts, options.vocabulary))
            doubtful += list(np.flatnonzero(found)[:1])
    if options.num_frames is not None:
        other = rows.mask("num_frames", lambda numbers: pc.not_equal(numbers, options.num_frames))
        doubtful += list(np.flatnonzero(other)[:1])
    for item in doubtful:
        verl_row(rows[int(item)], options, int(item))


def lazy_dataset(rows: QuestionRows, options: PromptOptions) -> datasets.Dataset:
    """The rows as the dataset that RLHFDataset expects, of which a row becomes a prompt when it is read."""
    table = rows.table()
    index = np.full(len(table), -1, np.int32)
    index[rows.chosen] = np.arange(len(rows))
    table = table.append_column("_index", pa.array(index))
    files = [part.file for part in rows.files]
    schema = table.schema

    def to_verl(columns: dict[str, list]) -> dict[str, list]:
        batch = pa.RecordBatch.from_pydict(columns, schema)
        places = zip(columns["_file"], columns["_row"], columns["_index"], rows_of(batch), strict=True)
        made = [verl_row(SourceRow(files[file], place, row), options, index) for file, place, index, row in places]
        return {name: [row[name] for row in made] for name in made[0]}

    # Names in place of fingerprints: datasets would make them by hashing all the data.
    dataset = datasets.Dataset(table, fingerprint=uuid.uuid4().hex)
    if len(rows) < len(table) or (np.diff(rows.chosen) != 1).any():
        dataset = dataset.select(rows.chosen, new_fingerprint=uuid.uuid4().hex)
    return dataset.with_transform(to_verl)


def verl_row(source: SourceRow, options: PromptOptions, index: int) -> dict[str, Any]:
    """One row as verl's RLHFDataset stores it.

    `ground_truth` is JSON text here: Arrow would give all rows' truths one struct type and fill what a row lacks. The
    dataset hands it out as the dict it was.
    """
    row = source.row
    try:
        prompt = options.messages(row)
        video = options.video_element(row, source.folder)
    except InputError as error:
        raise at(source, error) from error
    return {
        "prompt": prompt,
        "videos": [video],
        "data_source": f"mllm4d/{row.task}",
        "ability": "video",
        "reward_model": {"style": "rule", "ground_truth": json.dumps(ground_truth(row))},
        "extra_info": {
            "index": index,
            "id": row.id,
            "task": row.task,
            "clip_id": row.clip_id,
            "split": row.split,
            "num_frames": row.num_frames,
            "start_frame": row.start_frame,
            "end_frame": row.end_frame,
        },
    }
