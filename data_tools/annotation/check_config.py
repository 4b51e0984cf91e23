"""How estimated clips are compared with true ones."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True)
class CheckConfig:
    """How clips are compared.

    Attributes:
        depth_range_m: pixels count whose true depth lies within; the farther ones err with the square of it.
        gate_m, gate_share: an estimated centre belongs to a true one within this length, or this share of the true
            one's distance from the camera; the larger of both counts.
        num_frames: frames sampled for questions; clips with fewer take the even number that they have.
        seed: of frame pairs and options.
    """

    depth_range_m: tuple[float, float] = (2.0, 8.0)
    gate_m: float = 0.3
    gate_share: float = 0.1
    num_frames: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.depth_range_m
        if not 0 < low < high:
            raise InputError(f"{low} to {high} m is no range of depths", field="--depth-range", remedy="Try 2 8")
        if self.gate_m <= 0 or self.gate_share < 0:
            raise InputError("gates must be positive", field="gate_m")
