"""Question rows as conversations of verl's SFT trainer, for Qwen3-VL and Qwen2.5-VL videos."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import pyarrow.parquet as pq
from torch.utils.data import Dataset
from verl.utils.dataset.dataset_utils import DatasetPadMode
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.fs import copy_to_local

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.datasets.conversation import Encoded, PromptHead, encode_conversation
from mllm4d_verl.datasets.options import PromptOptions
from mllm4d_verl.datasets.question_rows import QuestionRows, SourceRow
from mllm4d_verl.datasets.reader import FileKind, as_file_list, at, choose_rows, file_kind, order_rows, read_rows
from mllm4d_verl.datasets.rl import MLLM4DDataset


class _VerlRow(NamedTuple):
    """A row of verl's own SFT format."""

    file: str
    index: int
    columns: dict[str, Any]


class MLLM4DSFTDataset(Dataset):
    """SFT and cold start on question rows (QARow parquet, released JSON), or on verl's own `messages` parquet.

    The prompt's tokens, timestamps, pixels and position ids are those of RL (see `encode_conversation`); every
    assistant turn is trained up to its end-of-turn token. What the assistant says is up to the prompt template: the
    row's `response` for st_cot, its letter for direct, its own turns for dataset.

    Args:
        parquet_files: one file or several, of one kind.
        tokenizer: unused; the processor's tokenizer counts.
        config: verl's `data` config: the keys of `PromptOptions`, max_length, truncation (`error`, or `right` to cut
            replies), loss_weights (see `read_loss_weights`), frame_cache_mb and video_time_limit_s (see
            `MLLM4DDataset`), and `cache_rows`: how many encoded rows to keep in memory (0). Rows about the same clip
            share its pixels: 0.9 MB for 8 frames of 96x96, 19 MB for 32 of 224x224. With worker processes each keeps
            its own, for one epoch; set data.num_workers=0 with it.
        processor: of the model.
        max_samples: at most so many rows; -1 takes all.

    Raises:
        InputError: bad files, options, or a model without a processor. On access: a bad row, or one of more than
            max_length tokens.
    """

    def __init__(
        self,
        parquet_files: str | list[str],
        tokenizer: Any,
        config: Mapping[str, Any],
        processor: Any = None,
        max_samples: int = -1,
    ) -> None:
        if processor is None:
            raise InputError(
                "the model has no image and video processor, and every row has a video",
                field="model.path",
                remedy="Choose a Qwen3-VL or Qwen2.5-VL model",
            )
        self.tokenizer = tokenizer
        self.processor = processor
        self.config = config
        self.options = PromptOptions.from_config(config, processor.tokenizer)
        self.max_length = config.get("max_length", 1024)
        self.truncation = config.get("truncation", "error")
        self.loss_weights = read_loss_weights(config.get("loss_weights"))
        self.cache_rows = int(config.get("cache_rows") or 0)
        self._cache: OrderedDict[int, Encoded] = OrderedDict()
        # Lives as long as a cached row that shares it, so that cache_rows bounds both.
        self._heads: WeakValueDictionary[Any, PromptHead] = WeakValueDictionary()
        if config.get("pad_mode", DatasetPadMode.NO_PADDING) != DatasetPadMode.NO_PADDING:
            raise InputError("videos need data.pad_mode no_padding", field="data.pad_mode")
        if self.truncation not in ("error", "right"):
            raise InputError(
                f"{self.truncation!r} would cut into the video's tokens",
                field="data.truncation",
                remedy="Use `error`, or `right` to cut long replies",
            )
        # For RLHFDataset._build_messages, which makes the parts of a turn from its text and the row's media.
        self.image_key = config.get("image_key", "images")
        self.video_key = config.get("video_key", "videos")
        self.audio_key = config.get("audio_key", "audios")
        self.messages_key = config.get("messages_key", "messages")
        self.rows = choose_rows(
            self._read(as_file_list(parquet_files)), max_samples, config.get("shuffle", False), config.get("seed")
        )
        if (order_seed := config.get("order_seed")) is not None:
            self.rows = order_rows(self.rows, int(order_seed))

    _build_messages = RLHFDataset._build_messages

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """For SFTTensorCollator: `input_ids` (L,), `position_ids` (4, L), `loss_mask` (L,), `multi_modal_inputs`."""
        encoded = self._cache.pop(item, None) or self._encode(self.rows[item])
        if self.cache_rows > 0:
            self._cache[item] = encoded
            if len(self._cache) > self.cache_rows:
                self._cache.popitem(last=False)
        sample: dict[str, Any] = {
            "input_ids": encoded.input_ids,
            "position_ids": encoded.position_ids,
            "loss_mask": encoded.loss_mask,
        }
        if encoded.multi_modal_inputs:
            sample["multi_modal_inputs"] = dict(encoded.multi_modal_inputs)
        return sample

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict(), "_heads": WeakValueDictionary()}

    def conversation(self, item: int) -> list[dict[str, Any]]:
        """Turns of a row, media as parts, ready for a processor's chat template."""
        return self._conversation(self.rows[item])

    def _conversation(self, row: SourceRow | _VerlRow) -> list[dict[str, Any]]:
        if isinstance(row, _VerlRow):
            example = _without_nulls(row.columns)
        else:
            example = {
                self.messages_key: self.options.conversation(row.row),
                self.video_key: [self.options.video_element(row.row, row.folder)],
            }
        return self._build_messages(example, key=self.messages_key)

    def _encode(self, row: SourceRow | _VerlRow) -> Encoded:
        patch_size = self.processor.image_processor.patch_size
        try:
            encoded = encode_conversation(
                self.processor,
                self._conversation(row),
                lambda turns: MLLM4DDataset._process_multi_modal_info(turns, patch_size, self.config),
                apply_chat_template_kwargs=self.config.get("apply_chat_template_kwargs"),
                mm_processor_kwargs=self.config.get("mm_processor_kwargs"),
                heads=self._heads if self.cache_rows > 0 else None,
                loss_weights=self.loss_weights,
            )
            return self._within_max_length(encoded)
        except InputError as error:
            raise at(row, error) from error

    def _within_max_length(self, encoded: Encoded) -> Encoded:
        length = len(encoded.input_ids)
        if length <= self.max_length:
            return encoded
        kept = encoded.loss_mask[: self.max_length]
        if self.truncation == "error" or not kept.any():
            raise InputError(
                f"the row has {length} tokens, {int((encoded.loss_mask == 0).sum())} of them prompt, and "
                f"data.max_length is {self.max_length}",
                field="data.max_length",
                remedy="Raise it, lower data.max_pixels, or set data.truncation=right to cut long replies",
            )
        return encoded._replace(
            input_ids=encoded.input_ids[: self.max_length],
            loss_mask=kept,
            position_ids=encoded.position_ids[:, : self.max_length],
        )

    def _read(self, files: list[str]) -> QuestionRows | list[_VerlRow]:
        local = {copy_to_local(file, use_shm=self.config.get("use_shm", False)): file for file in files}
        if {file_kind(file) for file in local} != {FileKind.VERL}:
            return read_rows(list(local), self.options).renamed(local)
        verl_rows = []
        for file in local:
            table = pq.read_table(file)
            if self.messages_key not in table.column_names:
                raise InputError("the column is missing", file=local[file], field=self.messages_key)
            verl_rows += [_VerlRow(local[file], index, row) for index, row in enumerate(table.to_pylist())]
        if not verl_rows:
            raise InputError("the file has no rows", file=files[0])
        return verl_rows


def read_loss_weights(weights: Mapping[str, float] | None) -> dict[re.Pattern[str], float]:
    """`data.loss_weights`: what tokens of a reply count in the loss instead of 1, by regular expression.

    The loss is a mean over tokens. Where few of many tokens carry what matters (a conclusion after a long reasoning),
    a weight of 5 lets them be learned sooner.

    Raises:
        InputError: no mapping, an expression that does not compile, or a weight that is not a positive number.
    """
    if not weights:
        return {}
    if not isinstance(weights, Mapping):
        raise InputError(f"not a mapping: {weights!r}", field="data.loss_weights", remedy='Write {"The answer.*": 5.0}')
    compiled = {}
    for pattern, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise InputError(
                f"{pattern!r} has the weight {weight!r}", field="data.loss_weights", remedy="Use a positive number"
            )
        try:
            compiled[re.compile(pattern)] = float(weight)
        except re.error as error:
            raise InputError(f"{pattern!r} does not compile: {error}", field="data.loss_weights") from error
    return compiled


def _without_nulls(value: Any) -> Any:
    """Arrow gives every struct of a column all the column's keys; those that were not written come back as None."""
    if isinstance(value, dict):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    return [_without_nulls(entry) for entry in value] if isinstance(value, list) else value
