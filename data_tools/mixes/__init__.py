"""Training sets drawn in shares, near-duplicate clips kept together, and leaks between sets."""

from .config import Mix, load_mix, named_mixes
from .draw import Drawn, Source, draw_mix, parse_source
from .leaks import Leak, VideoUse, find_leaks, place_videos, read_videos
from .near_duplicates import group_sizes, group_videos, hash_videos, similar_pairs
from .splitting import Resplit, read_groups, split_rows

__all__ = [
    "Drawn",
    "Leak",
    "Mix",
    "Resplit",
    "Source",
    "VideoUse",
    "draw_mix",
    "find_leaks",
    "group_sizes",
    "group_videos",
    "hash_videos",
    "load_mix",
    "named_mixes",
    "parse_source",
    "place_videos",
    "read_groups",
    "read_videos",
    "similar_pairs",
    "split_rows",
]
