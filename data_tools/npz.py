"""Numpy archives read at a fraction of numpy's cost, which for small arrays is mostly the parsing of headers."""

from __future__ import annotations

import ast
import math
import os
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Of zip files: APPNOTE.TXT 4.3.7, 4.3.12, 4.3.16.
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_CENTRAL_HEADER = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LONGEST_COMMENT = 1 << 16
_ZIP64 = 0xFFFFFFFF  # stands for a size or place beyond 4 GiB


class _Member(NamedTuple):
    name: str
    method: int
    checksum: int
    packed_bytes: int
    bytes: int
    offset: int


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of an npz file, as `numpy.load` gives them without pickle; the checksum of each is checked.

    Raises:
        OSError: the file cannot be read.
        ValueError, zipfile.BadZipFile: it is not an npz file, is cut short or damaged, or holds Python objects.
    """
    data = Path(path).read_bytes()
    arrays = {}
    for member in _members(data):
        try:
            head = _LOCAL_HEADER.unpack_from(data, member.offset)
            first = member.offset + _LOCAL_HEADER.size + head[9] + head[10]
            packed = data[first : first + member.packed_bytes]
            if member.method == zipfile.ZIP_STORED:
                content = packed
            elif member.method == zipfile.ZIP_DEFLATED:
                content = zlib.decompress(packed, -15, member.bytes)
            else:
                raise ValueError(f"{member.name} is packed in an unknown way")
        except (struct.error, zlib.error) as error:
            raise zipfile.BadZipFile(f"{member.name} is damaged ({error})") from None
        if zlib.crc32(content) != member.checksum:
            raise zipfile.BadZipFile(f"{member.name} has a wrong checksum")
        arrays[member.name.removesuffix(".npy")] = _array(content)
    return arrays


def _members(data: bytes) -> list[_Member]:
    """The directory of a zip file, which `zipfile` takes longer to read than the rest of a clip."""
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - _LONGEST_COMMENT - _END.size))
    members = []
    try:
        if end < 0:
            raise zipfile.BadZipFile("not a zip file")
        _, _, _, _, count, _, at, _ = _END.unpack_from(data, end)
        for _ in range(count):
            head = _CENTRAL_HEADER.unpack_from(data, at)
            if head[0] != b"PK\x01\x02":
                raise zipfile.BadZipFile("the directory is damaged")
            if _ZIP64 in (head[8], head[9], head[16]):
                raise ValueError("larger than 4 GiB")
            first = at + _CENTRAL_HEADER.size
            name = data[first : first + head[10]].decode("utf-8" if head[3] & 0x800 else "cp437")
            members.append(_Member(name, head[4], head[7], head[8], head[9], head[16]))
            at = first + head[10] + head[11] + head[12]
    except struct.error as error:
        raise zipfile.BadZipFile(f"the directory is damaged ({error})") from None
    return members


def _array(content: bytes) -> np.ndarray:
    if content[:6] != b"\x93NUMPY" or len(content) < 12:
        raise ValueError("not a numpy array")
    wide = content[6] > 1
    length = int.from_bytes(content[8 : 12 if wide else 10], "little")
    first = (12 if wide else 10) + length
    dtype, order, shape = _header(content[12 if wide else 10 : first])
    if dtype.hasobject:
        raise ValueError("an array holds Python objects")
    count = math.prod(shape)
    flat = np.frombuffer(content, dtype, count, first).copy()
    return flat.reshape(shape, order=order)


@lru_cache(maxsize=4096)
def _header(text: bytes) -> tuple[np.dtype[Any], Any, tuple[int, ...]]:
    header = ast.literal_eval(text.decode("latin1"))
    return np.dtype(header["descr"]), "F" if header["fortran_order"] else "C", tuple(header["shape"])
