"""The time between Qwen2.5-VL frames inside vLLM.

Upstream: vLLM pull request 47736 passes the metadata, in versions later than 0.28. The rounding remains there.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.verl_compat.samples import (
    SECONDS_PER_PAIR,
    VIDEO_BLOCK,
    byte_tokenizer,
    qwen_processor,
    sample_frames,
    sample_metadata,
)
from mllm4d_verl.video.positions import second_per_grid

_MODULE = "vllm.model_executor.models.qwen2_5_vl"
_KNOWN = {"vllm": ">=0.24.0,<=0.28.0"}


@adapts(_MODULE, "Qwen2_5_VLProcessingInfo.get_data_parser", known=_KNOWN)
def let_vllm_keep_video_metadata(stock: Callable) -> Callable:
    """vLLM drops the metadata of a Qwen2.5-VL video, so its frames count as 24 a second whatever they are.

    Its parser hands (frames, metadata) pairs on for models that print timestamps only (`video_needs_metadata`). Here
    they are handed on for Qwen2.5-VL too, where every video of a request comes with metadata;
    `give_vllm_second_per_grid` uses them. The metadata are read from what the parser gets: vLLM 0.24 leaves them out of
    what it returns.
    """

    def get_data_parser(self):
        parser = stock(self)
        if type(self).__name__ == "Qwen2_5_VLProcessingInfo":  # models derived from it have processors of their own
            parse = parser._parse_video_data

            def _parse_video_data(data):
                items, metadata = parse(data), _metadata_of(data)
                if metadata and not parser.video_needs_metadata and len(items.data) == len(metadata):
                    items.data = list(zip(items.data, metadata, strict=True))
                return items

            parser._parse_video_data = _parse_video_data
        return parser

    return get_data_parser


def _metadata_of(data: Any) -> list[dict[str, Any]]:
    """Metadata of each video of a request; [] unless all have some.

    Args:
        data: what vLLM takes as videos: frames, (frames, metadata), or a list of either.
    """
    videos = data if isinstance(data, list) else [data]
    pairs = [video for video in videos if isinstance(video, tuple) and len(video) == 2]
    metadata = [own for _, own in pairs if isinstance(own, dict) and own]
    return metadata if len(metadata) == len(videos) else []


@adapts(_MODULE, "Qwen2_5_VLMultiModalProcessor._call_hf_processor", known=_KNOWN)
def give_vllm_second_per_grid(stock: Callable) -> Callable:
    """vLLM's Qwen2.5-VL positions assume 24 frames a second, and round the interval to the model's dtype.

    The processor inside vLLM gets no metadata (see `let_vllm_keep_video_metadata`), and vLLM converts every floating
    output to the model's dtype: in bfloat16 an interval of 1/3 s becomes 0.334 s. Here the processor gets the metadata,
    and the interval it computes from them stays in single precision, as the actor has it.
    """

    def _call_hf_processor(self, prompt, mm_data, mm_kwargs, tok_kwargs):
        videos = mm_data.get("videos") or []
        if not videos or not all(isinstance(video, tuple) for video in videos):
            return stock(self, prompt, mm_data, mm_kwargs, tok_kwargs)
        import torch

        metadata = [{k: v for k, v in own.items() if k != "do_sample_frames"} for _, own in videos]
        if not self.info.data_parser.video_needs_metadata:  # else vLLM takes the pairs apart itself
            mm_data = {**mm_data, "videos": [frames for frames, _ in videos], "video_metadata": metadata}
        outputs = stock(self, prompt, mm_data, {"do_sample_frames": False, **mm_kwargs}, tok_kwargs)
        outputs["second_per_grid_ts"] = torch.tensor(
            [second_per_grid(own, self.info.get_hf_processor(**mm_kwargs).video_processor) for own in metadata]
        )
        return outputs

    return _call_hf_processor


def _processing_info() -> Any:
    """vLLM's own `Qwen2_5_VLProcessingInfo` for a small processor, in bfloat16. No model is loaded."""
    import torch
    from transformers import Qwen2_5_VLConfig
    from vllm.config.multimodal import MultiModalConfig
    from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLProcessingInfo
    from vllm.multimodal.processing import InputProcessingContext

    processor = qwen_processor("qwen2_5_vl")
    settings = MultiModalConfig()
    model = SimpleNamespace(
        hf_config=Qwen2_5_VLConfig(), dtype=torch.bfloat16, multimodal_config=settings, is_multimodal_model=True
    )
    model.get_multimodal_config = lambda: settings
    info = Qwen2_5_VLProcessingInfo(InputProcessingContext(model, byte_tokenizer()))
    info.get_hf_processor = lambda **_: processor
    return info


@proves(let_vllm_keep_video_metadata)
def _the_parser_drops_the_metadata(get_data_parser: Callable) -> bool:
    parser = get_data_parser(_processing_info())
    parsed = parser.parse_mm_data({"video": [(sample_frames().numpy(), sample_metadata())]})
    video = parsed["video"].data[0]
    return not (isinstance(video, tuple) and video[1]["fps"] == sample_metadata()["fps"])


@proves(give_vllm_second_per_grid)
def _the_interval_is_not_that_of_the_video(call_hf_processor: Callable) -> bool:
    from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLMultiModalProcessor

    processor = Qwen2_5_VLMultiModalProcessor.__new__(Qwen2_5_VLMultiModalProcessor)
    processor.info = _processing_info()
    videos = [(sample_frames().numpy(), sample_metadata())]
    try:
        outputs = call_hf_processor(processor, VIDEO_BLOCK, {"videos": videos}, {}, {})
    except ValueError as error:
        if "Failed to apply" not in str(error):  # vLLM's words where the processor does not take the pairs
            raise
        return True
    interval = float(outputs["second_per_grid_ts"][0])
    return abs(interval - SECONDS_PER_PAIR) > 1e-6
