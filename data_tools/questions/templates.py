"""Phrasings of the seven questions, in our own words.

Frames are named by their 0-based index among the sampled ones, the last index beside the first mention ("frame 3 of
31"), as released questions do. A phrasing that says "in meters" takes bare numbers as options.
"""

from __future__ import annotations

import numpy as np

TEMPLATES: dict[str, tuple[str, ...]] = {
    "camera_absolute_distance": (
        "How far is the camera at frame {end} from where it was at frame {start} of {last}?",
        "Counting frames from 0 to {last}, what straight-line distance separates the camera's positions at frames "
        "{start} and {end}?",
        "Between frame {start} and frame {end} of {last}, by how many meters does the camera's position change in a "
        "straight line?",
        "Compare frame {start} with frame {end} (frames run from 0 to {last}). How large is the camera's displacement "
        "in meters?",
    ),
    "camera_relative_direction": (
        "Seen from its own view at frame {start} of {last}, which way has the camera mainly moved by frame {end}?",
        "In what main direction does the camera travel from frame {start} to frame {end}, with frames counted from 0 "
        "to {last} and directions as in the view at frame {start}?",
        "Take the camera's orientation at frame {start} of {last}. Where does its position at frame {end} lie?",
        "From frame {start} to frame {end} of {last}, the camera mostly shifts in one direction of its frame-{start} "
        "view. Which one?",
    ),
    "object_absolute_distance": (
        "How far is {object} at frame {end} from its own position at frame {start} of {last}?",
        "Counting frames from 0 to {last}, what straight-line distance does {object} cover between frames {start} and "
        "{end}?",
        "By how many meters has {object} moved in space from frame {start} to frame {end} of {last}?",
        "Ignore the camera's motion. How large is the displacement of {object} in meters between frame {start} and "
        "frame {end} (frames run from 0 to {last})?",
    ),
    "object_camera_absolute_distance": (
        "How far is {object} at frame {end} from the camera's position at frame {start} of {last}?",
        "Counting frames from 0 to {last}, what is the distance from the camera as placed at frame {start} to the "
        "nearest part of {object} as placed at frame {end}?",
        "Had the camera stayed where it was at frame {start} of {last}, how many meters away would {object} be at "
        "frame {end}?",
        "What distance in meters separates {object} at frame {end} from the spot the camera had at frame {start} "
        "(frames run from 0 to {last})?",
    ),
    "object_camera_relative_distance": (
        "From frame {start} to frame {end} of {last}, does {object} get closer to the camera or farther from it?",
        "Counting frames from 0 to {last}, how does the distance between the camera and {object} change between "
        "frames {start} and {end}?",
        "Relative to the camera, where is {object} at frame {end} compared with frame {start} of {last}?",
        "Compare frame {start} with frame {end} (frames run from 0 to {last}). Has {object} come closer to the "
        "camera, gone farther, or not moved relative to it?",
    ),
    "object_camera_relative_direction_lateral": (
        "With the camera fixed as at frame {start} of {last}, which way sideways has {object} moved by frame {end}?",
        "Counting frames from 0 to {last}, does {object} itself move left or right between frames {start} and {end}, "
        "judged from the camera's pose at frame {start}?",
        "Take the view at frame {start} of {last} as the reference. What is the sideways motion of {object} up to "
        "frame {end}?",
        "Ignore the camera's own motion after frame {start} of {last}. Has {object} shifted left, right or not at "
        "all by frame {end}?",
    ),
    "object_camera_relative_direction_longitudinal": (
        "With the camera fixed as at frame {start} of {last}, does {object} come closer or go farther along the "
        "viewing direction by frame {end}?",
        "Counting frames from 0 to {last}, how does {object} itself move in depth between frames {start} and {end}, "
        "judged from the camera's pose at frame {start}?",
        "Take the view at frame {start} of {last} as the reference. What is the motion in depth of {object} up to "
        "frame {end}?",
        "Ignore the camera's own motion after frame {start} of {last}. Has {object} moved closer in depth, farther, "
        "or not at all by frame {end}?",
    ),
}


def ask(
    task: str, start: int, end: int, num_frames: int, object_description: str | None, rng: np.random.Generator
) -> tuple[str, bool]:
    """A question text, and whether it says the unit, so that options are bare numbers.

    Args:
        task: one of TASKS.
        start, end: sampled frame indices.
        num_frames: sampled frames; the last one is `num_frames - 1`.
        object_description: words for the object, None for camera questions.
        rng: chooses the phrasing.
    """
    templates = TEMPLATES[task]
    template = templates[int(rng.integers(len(templates)))]
    noun = noun_phrase(object_description) if object_description else ""
    text = template.format(start=start, end=end, last=num_frames - 1, object=noun)
    return text[0].upper() + text[1:], " meters" in template


def noun_phrase(description: str) -> str:
    """A description with a determiner: "red ball" -> "the red ball"."""
    words = description.strip()
    return words if words.lower().split()[0] in ("the", "a", "an") else f"the {words}"
