"""Question sets in the file formats that trainers read: one small module per format behind one interface."""

from .base import Format, Losses, Options
from .registry import FORMATS, convert, detect, find_format

__all__ = ["FORMATS", "Format", "Losses", "Options", "convert", "detect", "find_format"]
