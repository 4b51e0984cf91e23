"""The pixel scale of Qwen2.5-VL inside vLLM. No upstream thread is known."""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts(
    "vllm.model_executor.models.vision",
    "FusedInputNorm.__init__",
    may_be_missing=True,  # vLLM 0.24 has no such class, and scales pixels outside of the model
    known={"vllm": "==0.28.0"},
)
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
def _the_scale_is_in_the_state(init: Callable) -> bool:
    from vllm.model_executor.models.vision import FusedInputNorm

    norm = FusedInputNorm.__new__(FusedInputNorm)
    init(norm, [0.5] * 3, [0.5] * 3, 1 / 255)
    return bool(norm.state_dict())
