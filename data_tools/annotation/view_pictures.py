"""The pictures of a clip: left with masks, depth, and the way of camera and objects from above."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..geometry import project_points, world_to_camera_points
from ..questions.solvers import object_center
from ..schema import Clip4D, check_clip
from .view_drawing import (
    CAMERA,
    EMPTY,
    PAPER,
    SHIFT,
    Box,
    Color,
    Floats,
    Image,
    Label,
    along,
    around,
    arrow,
    bounds,
    canvas,
    circle,
    draw_mask,
    fitting,
    fixed,
    id_color,
    label_size,
    mark,
    polyline,
    put_label,
    put_labels,
    put_text,
)
from .view_input import ClipPixels, cell_size
from .view_scales import BAR_PX, DepthScale, TopDown

_NEAR_M = 0.05  # what is nearer to the camera plane is not projected


class ClipPictures:
    """A clip with its pictures, ready to be drawn. All images are (H, W, 3) uint8 RGB.

    Args:
        clip: the record.
        root: data root that `clip.video`, masks and depth are looked for in.

    Attributes:
        size: width and height of one picture, pixels.
        notes: what could not be read; written on the pictures.
    """

    def __init__(self, clip: Clip4D, root: Path) -> None:
        check_clip(clip)
        self.clip = clip
        self.size = cell_size(clip.width, clip.height)
        self._scale = np.array([self.size[0] / clip.width, self.size[1] / clip.height])
        self._pixels = ClipPixels(clip, root, self.size)
        self.notes = self._pixels.notes
        self._centers = [
            {frame: object_center(track, frame) for frame in range(clip.num_frames) if track.seen(frame)}
            for track in clip.objects
        ]
        if self._pixels.has_depth:
            every = range(0, clip.num_frames, max(1, clip.num_frames // 16))
            some = [depth[::4, ::4] for depth in map(self._pixels.depth, every) if depth is not None]
            shown = np.stack(some) if some else np.zeros(0)
        else:
            depths = [self._camera_points(m, t)[:, 2] for m, seen in enumerate(self._centers) for t in seen]
            shown = np.concatenate([np.zeros(0), *depths])
        self.depth_scale = DepthScale.of(shown)

    # ------------------------------------------------------------------------------------------------ pictures

    def left(self, frame: int) -> Image:
        """The left picture with masks, or the objects' points where there are no masks, and labels."""
        image = self._picture(frame)
        mask = self._pixels.mask(frame)
        labels, shown = [], []
        for number, track in enumerate(self.clip.objects):
            color = id_color(track.id)
            if mask is not None:
                box = draw_mask(image, mask == track.id, color)
            else:
                box = self._draw_points(image, number, frame, color)
            if box is None:
                continue
            anchor = (box.x + box.width / 2, float(box.y))
            labels.append(Label(f"{track.id} {track.description}", str(track.id), anchor, color))
            if box.width * box.height < 0.1 * self.size[0] * self.size[1]:  # a large object stays visible anyway
                shown.append(box)
        taken = [self._draw_caption(image, frame)]
        put_labels(image, labels, Box(0, 0, *self.size), taken, shown)
        return image

    def depth(self, frame: int) -> Image:
        """Depth in colours, or the objects' points in the colours of their depth, with a scale in metres."""
        depth_m = self._pixels.depth(frame)
        if depth_m is not None and self.depth_scale is not None:
            image = self.depth_scale.colors(depth_m)
            note = ""
        else:
            image = (self._picture(frame, with_note=False) * 0.35).astype(np.uint8)
            note = "no depth map: points of objects" if self.depth_scale else "no depth map, no objects"
            for number in range(len(self.clip.objects)):
                self._draw_points(image, number, frame, None)
        if note:
            put_label(image, note, Box(0, 0, *label_size(note)), PAPER)
        bar = self.depth_scale.bar(self.size[1]) if self.depth_scale else canvas(BAR_PX, self.size[1])
        return np.concatenate([image, bar], axis=1)

    def _picture(self, frame: int, with_note: bool = True) -> Image:
        image = self._pixels.image(frame)
        if image is not None:
            return image.copy()
        blank = canvas(*self.size, EMPTY)
        if with_note:
            put_text(blank, fitting("no picture", self.size[0] - 16), 8, self.size[1] - 10, PAPER)
        return blank

    def _draw_caption(self, image: Image, frame: int) -> Box:
        text = f"frame {frame}   {frame / self.clip.fps:.2f} s"
        box = Box(0, 0, *label_size(text))
        put_label(image, text, box, (20, 20, 20))
        return box

    def _camera_points(self, number: int, frame: int) -> Floats:
        points = self.clip.objects[number].points[frame].astype(np.float64)
        return world_to_camera_points(self.clip.cam_to_world[frame], points)

    def _draw_points(self, image: Image, number: int, frame: int, color: Color | None) -> Box | None:
        """Projected points, coloured by depth where `color` is None; the box that they fill."""
        points = self._camera_points(number, frame)
        points = points[points[:, 2] > _NEAR_M]
        pixels = (project_points(self.clip.intrinsics, points) + 0.5) * self._scale - 0.5
        inside = ((pixels > -1) & (pixels < np.array(self.size))).all(axis=1)
        pixels, points = pixels[inside], points[inside]
        if not len(pixels):
            return None
        if color is None and self.depth_scale is not None:
            colors = self.depth_scale.colors(points[:, 2]).tolist()
        else:
            colors = [color or PAPER] * len(pixels)
        for pixel, (red, green, blue) in zip(pixels, colors, strict=True):
            circle(image, pixel, 1.8, (red, green, blue), -1)
        return bounds(pixels)

    # ------------------------------------------------------------------------------------------------ top-down

    def plot_of(self, width: int, height: int) -> TopDown:
        """The plot that holds the camera, its field of view and the centres of all objects."""
        centers = [center[[0, 2]] for seen in self._centers for center in seen.values()]
        xz = np.stack([*self.clip.camera_centers[:, [0, 2]], *centers])
        self._sight_m = max(0.5, 0.22 * float(np.ptp(xz, axis=0).max()))
        ends = [self._field_of_view(frame)[1:] for frame in (0, self.clip.num_frames - 1)]
        return TopDown(np.concatenate([xz, *ends]), width, height)

    def top_down(self, plot: TopDown, frame: int, grid: Image | None = None, show_first: bool = False) -> Image:
        """Everything up to clip frame `frame`.

        Args:
            plot: of `plot_of`.
            grid: `plot.grid()`, drawn here where it is None.
            show_first: also draw the field of view of frame 0.
        """
        grid = plot.grid() if grid is None else grid
        image = grid.copy()
        for seen in {0, frame} if show_first else {frame}:
            self._draw_field_of_view(image, plot, seen)
        labels: list[Label] = []
        shown: list[Box] = []
        for number, track in enumerate(self.clip.objects):
            path = self._draw_track(image, plot, number, frame)
            if path is not None:
                label = f"{track.id} {track.description}"
                labels.append(Label(label, str(track.id), (path[-1][0], path[-1][1]), id_color(track.id)))
                shown += along(path)
        path, arrows = self._draw_camera(image, plot, frame)
        labels.append(Label("camera", "cam", (path[-1][0], path[-1][1]), CAMERA))
        shown += along(path)
        for heading in arrows:
            shown += along(heading)
        ends = [around(label.anchor, 6) for label in labels]
        put_labels(image, labels, plot.area, ends, shown)
        area = plot.area
        inside = (slice(area.y, area.y + area.height), slice(area.x, area.x + area.width))
        framed = grid.copy()
        framed[inside] = image[inside]
        return framed

    def _field_of_view(self, frame: int) -> Floats:
        """(3, 2) world x, z: the camera centre and the ends of the rays through the left and right edge."""
        intrinsics, pose = self.clip.intrinsics, self.clip.cam_to_world[frame]
        edges = (np.array([-0.5, self.clip.width - 0.5]) - intrinsics[0, 2]) / intrinsics[0, 0]
        rays = np.stack([edges, np.zeros(2), np.ones(2)], axis=1) @ pose[:3, :3].T
        center = pose[[0, 2], 3]
        return np.stack([center, *(center + self._sight_m * rays[:, [0, 2]])])

    def _draw_field_of_view(self, image: Image, plot: TopDown, frame: int) -> None:
        corners = plot.to_pixels(self._field_of_view(frame))
        filled = image.copy()
        cv2.fillPoly(filled, [fixed(corners)], (150, 185, 225), cv2.LINE_AA, SHIFT)
        cv2.addWeighted(filled, 0.35, image, 0.65, 0, dst=image)
        polyline(image, corners[[1, 0, 2]], (120, 150, 190), 1)

    def _draw_camera(self, image: Image, plot: TopDown, frame: int) -> tuple[Floats, list[Floats]]:
        """Path up to `frame` and headings on the way; both in pixels."""
        path = plot.to_pixels(self.clip.camera_centers[: frame + 1, [0, 2]])
        polyline(image, path, CAMERA, 2)
        arrows: list[Floats] = []
        for number in sorted({round(part) for part in np.linspace(0, frame, min(frame + 1, 9))}):
            heading = self.clip.cam_to_world[number, [0, 2], 2] * np.array([1.0, -1.0])
            arrows.append(np.stack([path[number], path[number] + 26 * heading]))
            arrow(image, arrows[-1][0], arrows[-1][1], CAMERA)
        mark(image, path[0], path[-1], CAMERA)
        return path, arrows

    def _draw_track(self, image: Image, plot: TopDown, number: int, frame: int) -> Floats | None:
        """Path of an object's centre up to `frame`, thin where it was not seen; in pixels, None before it is seen."""
        track, color = self.clip.objects[number], id_color(self.clip.objects[number].id)
        frames = [seen for seen in self._centers[number] if seen <= frame]
        if not frames:
            return None
        path = plot.to_pixels(np.stack([self._centers[number][seen][[0, 2]] for seen in frames]))
        points = plot.to_pixels(track.points[frames[-1]][:, [0, 2]])
        pale = tuple(round(0.45 * part + 0.55 * 255) for part in color)
        for point in points:
            circle(image, point, 1.2, (pale[0], pale[1], pale[2]), -1)
        for index in range(1, len(frames)):
            thickness = 2 if frames[index] - frames[index - 1] == 1 else 1
            polyline(image, path[index - 1 : index + 1], color, thickness)
        mark(image, path[0], path[-1], color)
        return path
