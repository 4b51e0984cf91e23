"""Measured geometry from rectified pairs: disparity, camera poses, moving objects."""
