"""Rectified stereo: the camera, what a reader yields, calibration and rectification."""
