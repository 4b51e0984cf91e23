"""A disparity that the calibration of a clip is wrong by, found from how its points move, and applied if beyond doubt.

An eye that is turned by some hundredths of a degree adds a constant to all disparities. Near points hardly notice, far
ones end at a wrong depth, and the path of the camera at a wrong length. The bundle adjustment fits the constant along
with the motion (see `bundle`); what it says is tested against its spread over parts of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .odometry import StereoOdometry

#: Frames from the start of a clip that tell the offset.
OFFSET_FRAMES = 24
#: Standard deviations and pixels from which on an offset is looked into, and from which on it is applied. A matcher's
#: own preference for whole pixels comes to a tenth in large images, to a quarter in small ones with fine patterns.
_SUSPECT_STDS, _SUSPECT_PX = 2.0, 0.2
_SURE_STDS, _SURE_PX = 4.0, 0.35
#: While it is looked into, points may be so many times farther off: those that a wrong offset displaces are no movers.
_WIDER = 2.5
_MOST_ROUNDS = 5
#: An offset that fits leaves more points in agreement, not fewer; up to what chance does.
_LEAST_INLIERS = 0.9


class DisparityOffset(NamedTuple):
    """What was found.

    Attributes:
        applied_px: what was added to the camera's `disparity_offset_px`; 0 where nothing is beyond doubt.
        std_px: standard deviation of the estimate; NaN where too little was seen to make one.
    """

    applied_px: float
    std_px: float


def settle_offset(
    odometry: StereoOdometry, frames: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]]
) -> tuple[StereoOdometry, DisparityOffset]:
    """An odometry that has seen the frames with a camera that fits them.

    Args:
        odometry: it has seen just the frames, and is returned as it is where its camera fits.
        frames: left images (H, W, 3) or (H, W) uint8 and disparities (H, W) float32, as `StereoOdometry.add` has them.
    """
    camera = odometry.camera
    offset, std = odometry.fitted_offset()
    # A NaN is no suspicion.
    if not abs(offset - camera.disparity_offset_px) > max(_SUSPECT_STDS * std, _SUSPECT_PX):
        return odometry, DisparityOffset(0.0, std)

    def seen_with(offset_px: float, ransac_px: float) -> StereoOdometry:
        again = StereoOdometry(
            replace(camera, disparity_offset_px=offset_px), replace(odometry.config, ransac_px=ransac_px)
        )
        for left, disparity_px in frames:
            again.add(left, disparity_px)
        return again

    for _ in range(_MOST_ROUNDS):
        before = offset
        offset, std = seen_with(before, _WIDER * odometry.config.ransac_px).fitted_offset()
        if not abs(offset - before) > std / 4:
            break
    applied = offset - camera.disparity_offset_px
    if not abs(applied) > max(_SURE_STDS * std, _SURE_PX):
        return odometry, DisparityOffset(0.0, std)
    settled = seen_with(offset, odometry.config.ransac_px)
    if settled.num_inliers < _LEAST_INLIERS * odometry.num_inliers:
        return odometry, DisparityOffset(0.0, std)
    return settled, DisparityOffset(applied, std)
