"""What a procedural stereo world looks like: one dataclass, three presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..errors import InputError

#: Ways a camera can move. Directions are those of the camera itself at frame 0 (OpenCV axes).
CAMERA_MOTIONS = (
    "still",
    "left",
    "right",
    "up",
    "down",
    "forward",
    "backward",
    "turn_left",
    "turn_right",
    "orbit_left",
    "orbit_right",
    "shake",
)

#: Ways an object can move, seen from the level camera of frame 0. "wander" takes any ground direction.
OBJECT_MOTIONS = ("still", "left", "right", "closer", "farther", "up", "wander")

#: Saturated and far from each other, so that a colour names one object of a clip.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.95, 0.08, 0.08),
    "green": (0.08, 0.85, 0.12),
    "blue": (0.10, 0.15, 0.95),
    "yellow": (0.95, 0.90, 0.05),
    "magenta": (0.95, 0.10, 0.90),
    "cyan": (0.05, 0.90, 0.95),
    "orange": (1.00, 0.50, 0.02),
    "white": (1.00, 1.00, 1.00),
}

#: Up and down run over this share of camera_travel_m: a crouch or a raised arm, not a lift.
VERTICAL_TRAVEL_SHARE = 0.5

SHAPES = ("box", "sphere", "cylinder")


def _even(names: tuple[str, ...]) -> dict[str, float]:
    return dict.fromkeys(names, 1.0)


@dataclass(frozen=True)
class WorldConfig:
    """A family of scenes. Lengths in metres, angles in degrees, ranges are (low, high).

    Size, frame count and rate of the videos are arguments of `write_world`, not of the family.
    """

    #: Focal length as a fraction of the image width; 0.9 is a horizontal field of view of 58 degrees.
    focal_per_width: float = 0.9
    baseline_m: float = 0.12
    #: Colour rays per pixel along each side. 1 leaves jagged edges; truth is always cast through pixel centres.
    supersample: int = 2

    #: Relative frequency of each motion, see CAMERA_MOTIONS and OBJECT_MOTIONS. Absent means never.
    camera_motions: Mapping[str, float] = field(default_factory=lambda: _even(CAMERA_MOTIONS))
    object_motions: Mapping[str, float] = field(
        default_factory=lambda: {"still": 2.0, **_even(("left", "right", "closer", "farther", "up", "wander"))}
    )
    camera_travel_m: tuple[float, float] = (0.6, 1.8)
    camera_turn_deg: tuple[float, float] = (10.0, 25.0)
    camera_height_m: tuple[float, float] = (1.0, 1.6)
    #: Camera pitch at frame 0, positive looks down.
    camera_pitch_deg: tuple[float, float] = (-3.0, 8.0)
    #: Chance that a moving camera is hand-held, which adds a little of the "shake" motion.
    handheld: float = 0.3

    num_objects: tuple[int, int] = (2, 5)
    #: Of num_objects, at least this many move in every clip.
    min_moving: int = 0
    #: Either the camera moves or the objects do: in clips with a moving camera no object moves.
    one_mover: bool = False
    object_distance_m: tuple[float, float] = (2.5, 7.0)
    #: Objects start this far to either side at most, as a share of half the view at their distance.
    object_side: float = 0.8
    object_travel_m: tuple[float, float] = (0.6, 2.0)
    #: Half the extent of an object along each of its axes.
    object_half_size_m: tuple[float, float] = (0.2, 0.5)
    shapes: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = tuple(COLOURS)

    #: Distance of the side walls from the first camera, each drawn for itself. Where they are in sight, their edges
    #: show sideways and forward motion of the camera.
    side_wall_m: tuple[float, float] = (5.0, 9.0)
    #: Height of the room, and how far the wall ahead is behind the farthest place an object can reach.
    ceiling_m: tuple[float, float] = (3.0, 5.0)
    far_wall_m: tuple[float, float] = (1.0, 2.5)
    #: Give each face of the room its own muted colour, the same in every clip; otherwise all are greyish.
    coloured_faces: bool = False
    #: Side of a background patch; large patches are what a small model can follow.
    patch_m: float = 1.3
    #: Grey levels of the patches, 0 to 1.
    patch_levels: tuple[float, float] = (0.3, 0.7)
    #: Strength of a finer pattern on every surface, which stereo matching needs; 0 turns it off.
    detail: float = 0.15

    def __post_init__(self) -> None:
        _check_weights("camera_motions", self.camera_motions, CAMERA_MOTIONS)
        _check_weights("object_motions", self.object_motions, OBJECT_MOTIONS)
        _check_names("shapes", self.shapes, SHAPES)
        _check_names("colours", self.colours, tuple(COLOURS))
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], str) and value[0] > value[1]:
                raise InputError(f"range {value} runs backwards", field=item.name, remedy="Write it as (low, high)")
        if self.num_objects[0] < 1 or self.num_objects[1] > len(self.colours):
            raise InputError(
                f"num_objects {self.num_objects} must lie within 1 and {len(self.colours)}, the number of colours",
                field="num_objects",
            )
        if VERTICAL_TRAVEL_SHARE * self.camera_travel_m[1] > self.camera_height_m[0] - 0.05:
            raise InputError(
                f"a camera {self.camera_height_m[0]} m up would sink into the ground",
                field="camera_height_m",
                remedy=f"Keep it above {VERTICAL_TRAVEL_SHARE} of the largest camera_travel_m",
            )
        if self.one_mover and self.min_moving:
            raise InputError("with one_mover, objects stay where the camera moves", field="min_moving", remedy="Use 0")
        if self.supersample < 1:
            raise InputError(f"supersample is {self.supersample}", field="supersample", remedy="Use 1 or more")

    def replace(self, **changes: Any) -> WorldConfig:
        """A copy with some fields changed; an unknown name raises InputError."""
        known = [item.name for item in fields(self)]
        for name in changes:
            if name not in known:
                raise InputError("unknown field of a world", field=name, remedy=f"Known: {', '.join(known)}")
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def _check_names(where: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    if not names:
        raise InputError("at least one is needed", field=where, remedy=f"Known: {', '.join(known)}")
    for name in names:
        if name not in known:
            raise InputError(f"unknown name {name!r}", field=where, remedy=f"Known: {', '.join(known)}")


def _check_weights(where: str, weights: Mapping[str, float], known: tuple[str, ...]) -> None:
    _check_names(where, tuple(weights), known)
    if min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise InputError("weights must be 0 or more, and not all 0", field=where)


#: What a model of a few million parameters learns to see in minutes: one saturated object that starts near the middle,
#: large calm patches, plain motions of camera or object, and always the same narrow room with walls of different
#: colours, so that the last frame already shows where things went.
_TINY = WorldConfig(
    supersample=1,
    camera_motions={
        "still": 8.0,
        "left": 1.0,
        "right": 1.0,
        "up": 1.0,
        "down": 1.0,
        "forward": 1.0,
        "backward": 1.0,
    },
    object_motions={"still": 1.0, "left": 1.0, "right": 1.0, "closer": 1.0, "farther": 1.0},
    camera_travel_m=(1.0, 1.6),
    camera_height_m=(1.1, 1.1),
    camera_pitch_deg=(0.0, 0.0),
    handheld=0.0,
    num_objects=(1, 1),
    one_mover=True,
    object_distance_m=(3.2, 3.6),
    object_side=0.2,
    object_travel_m=(1.0, 1.6),
    object_half_size_m=(0.45, 0.55),
    colours=("red", "green", "blue", "yellow"),
    side_wall_m=(3.0, 3.0),
    ceiling_m=(3.0, 3.0),
    far_wall_m=(1.0, 1.0),
    coloured_faces=True,
    patch_levels=(0.4, 0.6),
    detail=0.0,
)

#: "default" is varied and stereo-friendly. "tiny" has exact truth only: matching finds nothing on its surfaces.
#: "tiny_stereo" is its room for eyes that have to measure it: a fine pattern, which half the size mostly averages out;
#: eyes far enough apart for small images to tell depth, but hardly farther than a wave of the pattern is long, which
#: would be taken for the next one; and an object that moves wherever the camera does not, for what stays in its place
#: is not found by its motion.
PRESETS: dict[str, WorldConfig] = {
    "default": WorldConfig(),
    "tiny": _TINY,
    "tiny_stereo": _TINY.replace(
        baseline_m=0.2,
        camera_motions={**_TINY.camera_motions, "still": 6.0},
        object_motions={"left": 1.0, "right": 1.0, "closer": 1.0, "farther": 1.0},
        # Wide enough that distances can be asked: where all values are alike, most options give the truth away.
        camera_travel_m=(0.5, 2.0),
        object_travel_m=(0.6, 2.0),
        detail=0.08,
    ),
}


def world_preset(name: str) -> WorldConfig:
    """The preset of that name; an unknown one raises InputError with the list."""
    if name not in PRESETS:
        raise InputError(f"unknown world preset {name!r}", field="preset", remedy=f"Known: {', '.join(PRESETS)}")
    return PRESETS[name]
