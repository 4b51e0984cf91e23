"""Small videos and image folders whose frames tell their number, written by the tests."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

WIDTH, HEIGHT = 96, 64


def moving_frames(count=6, width=WIDTH, height=HEIGHT, seed=0):
    """(T, H, W, 3): blocks of colour that shift by 4 pixels a frame; grey level of the top left block is 20 * t."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([np.roll(base, 4 * t, axis=1) for t in range(count)])
    for t in range(count):
        frames[t, :16, :16] = 20 * (t % 12)
    return frames


def frame_numbers(frames):
    """Which frame of `moving_frames` each one is, read from its top left block."""
    return [round(float(frame[4:12, 4:12].mean()) / 20) for frame in frames]


def write_h264(path, frames, container_options=None, **codec_options):
    """Encode with B frames, as phones and cameras do."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "8", "bf": "2", "crf": "12", **codec_options})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_images(folder, frames, names="{:06d}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / names.format(number)), np.ascontiguousarray(frame[..., ::-1]))
    return folder


def encode(
    path,
    frames,
    codec="libx264",
    pix_fmt="yuv420p",
    options=None,
    container_options=None,
    times=None,
    time_base=Fraction(1, 1000),
    before=None,
    rate=10,
):
    """Write RGB frames with any codec.

    Args:
        times: ticks of `time_base` at which the frames are shown; None gives `rate` frames a second.
        before: a function of the container and the stream, called before the first frame.
    """
    options = {name: str(value) for name, value in (options or {}).items()}
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = time_base
        if before is not None:
            before(container, stream)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[number]), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def remux(source, path, keep=lambda number, packet: True, shift=0, container_options=None):
    """Copy the packets of a video for which `keep` is true, with presentation and decoding times moved by `shift`."""
    with av.open(str(source)) as read, av.open(str(path), "w", options=container_options or {}) as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(read.streams.video[0]) if packet.size]
        for number, packet in enumerate(packets):
            if keep(number, packet):
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                written.mux(packet)
    return path


def set_display_matrix(stream, matrix):
    """Write a display matrix of nine fixed-point numbers into a stream that is not yet encoded."""
    if not hasattr(stream, "set_display_matrix"):
        pytest.skip("this PyAV cannot write a display matrix")
    stream.set_display_matrix(matrix)
