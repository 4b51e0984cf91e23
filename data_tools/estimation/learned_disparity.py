"""Disparity by a network of the user's choice: a TorchScript file, or a function that returns a model."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .disparity import Disparity, DisparityEstimator, FloatImage, Image

#: RAFT-like networks work at a 32nd of the size.
_MULTIPLE = 32
_SUFFIXES = (".pt", ".pth", ".ts", ".jit")
#: Without a second opinion from the right eye; with one it is measured. Pixels.
_UNCHECKED_STD_PX, _LEAST_STD_PX = 0.3, 0.05


class LearnedDisparity(DisparityEstimator):
    """A network behind the interface of the matchers.

    The network takes two float tensors (1, 3, H, W), RGB within 0 and 255, H and W multiples of 32, and returns
    the disparity of the left image in pixels, positive: (1, 1, H, W), (1, H, W) or (H, W), or a list whose last entry
    is that. It runs on a GPU where there is one.

    With a left-right check it also runs on the mirrored pair with the eyes swapped, which gives the right image's
    disparity.

    Args:
        spec: path of a TorchScript file (.pt, .pth, .ts, .jit), or "package.module:function" where the function takes
            nothing and returns a model.
        left_right_max_diff_px: a disparity is dropped where the right eye's differs by more; 0 runs the network once
            and drops none.

    Raises:
        InputError: PyTorch is not installed; the file or function does not exist or does not load.
    """

    def __init__(self, spec: str, left_right_max_diff_px: float = 1.0) -> None:
        self.spec = spec
        self.left_right_max_diff_px = left_right_max_diff_px
        self._network, self._device = _load(spec)

    def __getstate__(self) -> dict[str, Any]:
        return {"spec": self.spec, "left_right_max_diff_px": self.left_right_max_diff_px}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def compute(self, left: Image, right: Image, frame: int) -> Disparity:
        """The network's disparity. Raises InputError where it is not of the promised shape or sign."""
        pixels = self._run(left, right)
        # A match outside the right image is none.
        pixels[pixels > np.arange(pixels.shape[1], dtype=np.float32)] = np.nan
        if not self.left_right_max_diff_px:
            return Disparity(pixels, None, _UNCHECKED_STD_PX)
        seen_from_right = self._run(right[:, ::-1], left[:, ::-1])[:, ::-1]
        difference = _left_right_difference(pixels, seen_from_right)
        agrees = difference <= self.left_right_max_diff_px
        std_px = 1.4826 * float(np.median(difference[agrees])) / np.sqrt(2) if agrees.any() else _UNCHECKED_STD_PX
        pixels[~agrees] = np.nan
        confidence = np.where(agrees, 1 - difference / np.float32(self.left_right_max_diff_px), 0).astype(np.float32)
        return Disparity(pixels, confidence, max(_LEAST_STD_PX, float(std_px)))

    def _run(self, left: Image, right: Image) -> FloatImage:
        import torch

        height, width = left.shape[:2]
        with torch.inference_mode():
            output = self._network(self._tensor(left), self._tensor(right))
        while isinstance(output, (list, tuple)):
            output = output[-1]
        shape = tuple(output.shape)
        padded = (_round_up(height), _round_up(width))
        if shape[-2:] != padded or int(np.prod(shape[:-2])) != 1:
            raise InputError(
                f"the network returns {shape} for images of {padded}",
                field="disparity.method",
                remedy="Wrap it in a function that returns a model with the disparity at full size",
            )
        pixels: FloatImage = output.reshape(padded)[:height, :width].float().cpu().numpy().copy()
        if np.nanmedian(pixels) < 0:
            raise InputError(
                "the network returns negative disparity",
                field="disparity.method",
                remedy="RAFT-Stereo and its kin return flow; wrap it in a model that returns its negative",
            )
        return pixels

    def _tensor(self, image: Image) -> Any:
        import torch

        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        height, width = image.shape[:2]
        below, beside = _round_up(height) - height, _round_up(width) - width
        padded = np.pad(image, ((0, below), (0, beside), (0, 0)), mode="edge")
        return torch.from_numpy(padded).to(self._device).permute(2, 0, 1)[None].float()


def _left_right_difference(left: FloatImage, right: FloatImage) -> NDArray[np.float32]:
    """(H, W) |d_left(u) - d_right(u - d_left)| pixels, infinite where either is unknown."""
    width = left.shape[1]
    columns = np.arange(width, dtype=np.float32)
    target = np.nan_to_num(columns - left, nan=-1.0)
    nearest = np.rint(target).astype(np.int64)
    inside = (nearest >= 0) & (nearest < width)
    partner = np.take_along_axis(right, nearest.clip(0, width - 1), axis=1)
    difference = np.abs(left - partner)
    difference[~inside | ~np.isfinite(difference)] = np.inf
    return difference.astype(np.float32)


def _load(spec: str) -> tuple[Any, Any]:
    try:
        import torch
    except ImportError:
        raise InputError(
            "learned disparity needs PyTorch, which is not installed",
            field="disparity.method",
            remedy="Install torch, or use disparity.method=sgbm",
        ) from None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = _load_file(Path(spec), device) if spec.endswith(_SUFFIXES) else _load_function(spec)
    if isinstance(network, torch.nn.Module):
        network = network.to(device).eval()
    if not callable(network):
        raise InputError(f"{spec} gives {type(network).__name__}, which is no model", field="disparity.method")
    return network, device


def _load_file(path: Path, device: Any) -> Any:
    import torch

    if not path.is_file():
        raise InputError("there is no such network", file=path, field="disparity.method")
    try:
        return torch.jit.load(str(path), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"not a TorchScript file ({str(error).strip().splitlines()[0]})",
            file=path,
            field="disparity.method",
            remedy="Save it with torch.jit.save, or name a function that builds the model",
        ) from None


def _load_function(spec: str) -> Any:
    module_name, separator, name = spec.partition(":")
    if not separator or not name:
        raise InputError(
            f"{spec!r} is neither a file ending in {', '.join(_SUFFIXES)} nor module:function",
            field="disparity.method",
        )
    try:
        make = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{spec!r} cannot be imported ({error})", field="disparity.method") from None
    return make()


def _round_up(pixels: int) -> int:
    return -(-pixels // _MULTIPLE) * _MULTIPLE
