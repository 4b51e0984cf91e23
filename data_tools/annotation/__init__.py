"""Stereo video in, Clip4D out: one clip, many clips, quality, comparison with a truth, pictures."""
