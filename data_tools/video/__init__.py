"""Frames of video files, image folders and animated images: one decoder for annotation, training and evaluation."""

from .file import VideoFrames
from .images import ImageFrames, read_image
from .location import VIDEO_SUFFIXES
from .opening import IMAGE_SUFFIXES, is_video, list_images, natural_key, open_frames
from .source import FrameSource, Image

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "FrameSource",
    "Image",
    "ImageFrames",
    "VideoFrames",
    "is_video",
    "list_images",
    "natural_key",
    "open_frames",
    "read_image",
]
