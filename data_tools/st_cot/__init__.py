"""ST-CoT texts by rule: visual cues of a frame pair, and reasoning in five steps written from them."""

from .cues import ClipCues, find_cues

__all__ = ["ClipCues", "find_cues"]
