"""Benchmarks as data: what a question is, where each benchmark's question file comes from, and how it is read."""

from .base import Benchmark, Item, Oddity, find_oddities, item_to_row
from .records import read_records
from .registry import BENCHMARKS, Source, benchmark_names, from_records, get_source, load_benchmark

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Item",
    "Oddity",
    "Source",
    "benchmark_names",
    "find_oddities",
    "from_records",
    "get_source",
    "item_to_row",
    "load_benchmark",
    "read_records",
]
