"""The time between Qwen2.5-VL frames inside vLLM."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves
from mllm4d_verl.video.positions import second_per_grid


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


@proves(give_vllm_second_per_grid)
def _stock_passes_no_metadata(stock: Callable) -> bool:
    return "metadata" not in inspect.getsource(stock)
