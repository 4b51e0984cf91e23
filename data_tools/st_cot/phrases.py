"""The wording of full texts, step by step: many ways to say one thing, none of which says more than the cues do.

A new task needs no entry here: it gets the generic goal and conclusion. `add_task_words` gives it its own.
"""

from __future__ import annotations

from dataclasses import dataclass

Phrases = tuple[str, ...]


@dataclass(frozen=True)
class TaskWords:
    """How texts speak of a task.

    Attributes:
        goals: noun clauses that follow "the question asks", with {object}: "how far {object} moves".
        conclusions: main clauses with {object} and {answer}, small letter first: "{object} moves about {answer}".
    """

    goals: Phrases
    conclusions: Phrases


TASK_WORDS: dict[str, TaskWords] = {
    "camera_absolute_distance": TaskWords(
        (
            "how far the camera moves",
            "how long the straight line between the two camera positions is",
            "the length of the camera's displacement",
            "how much ground the camera covers in a straight line",
        ),
        (
            "the camera's displacement is about {answer}",
            "the two camera positions lie about {answer} apart",
            "the camera has moved about {answer} in a straight line",
            "the camera ends about {answer} from where it began",
        ),
    ),
    "camera_relative_direction": TaskWords(
        (
            "which way the camera moves",
            "the main direction of the camera's motion",
            "where the camera goes, as seen in its first view",
            "in which direction the camera's place shifts most",
        ),
        (
            "the camera's main motion in the first view is {answer}",
            "judged from its first view the camera goes {answer}",
            "the camera travels mostly {answer}",
            "the largest part of the camera's motion is {answer}",
        ),
    ),
    "object_absolute_distance": TaskWords(
        (
            "how far {object} moves",
            "how far {object} ends from its own first position",
            "the length of the displacement of {object}",
            "how much {object} changes its place in the scene",
        ),
        (
            "the displacement of {object} is about {answer}",
            "{object} ends about {answer} from where it was",
            "{object} has moved about {answer} in space",
            "the two positions of {object} lie about {answer} apart",
        ),
    ),
    "object_camera_absolute_distance": TaskWords(
        (
            "how far {object} ends up from the first camera position",
            "the distance from the first camera position to {object} at the end",
            "how far away {object} would be, had the camera stayed",
            "what separates {object} in the end from the place where the camera began",
        ),
        (
            "the distance to {object} is about {answer}",
            "from the first camera position {object} is about {answer} away",
            "{object} ends up about {answer} from where the camera began",
            "about {answer} lie between the first camera position and {object}",
        ),
    ),
    "object_camera_relative_distance": TaskWords(
        (
            "how the gap between {object} and the camera changes",
            "whether {object} gets nearer to the camera or farther from it",
            "what becomes of the distance between the camera and {object}",
            "how near {object} is to the camera at the end, compared with the start",
        ),
        (
            "relative to the camera {object} is {answer}",
            "by its distance from the camera {object} is {answer}",
            "relative to the camera the verdict on {object} is {answer}",
            "as for the gap to the camera, {object} is {answer}",
        ),
    ),
    "object_camera_relative_direction_lateral": TaskWords(
        (
            "how {object} moves sideways in the first view",
            "whether {object} itself goes left or right, seen from the first camera pose",
            "the sideways motion of {object}, apart from what the camera does",
            "where {object} shifts across the first view",
        ),
        (
            "the sideways motion of {object} is {answer}",
            "across the first view the verdict on {object} is {answer}",
            "sideways, the word for {object} is {answer}",
            "leaving the camera's part aside, the sideways motion of {object} is {answer}",
        ),
    ),
    "object_camera_relative_direction_longitudinal": TaskWords(
        (
            "how {object} moves in depth in the first view",
            "whether {object} itself comes nearer or recedes, seen from the first camera pose",
            "the motion of {object} along the first viewing direction",
            "what {object} does in depth, apart from what the camera does",
        ),
        (
            "the motion in depth of {object} is {answer}",
            "along the first viewing direction the verdict on {object} is {answer}",
            "in depth, the word for {object} is {answer}",
            "leaving the camera's part aside, the motion in depth of {object} is {answer}",
        ),
    ),
    "object_speed": TaskWords(
        ("how fast {object} moves", "the mean speed of {object}", "how quickly {object} changes its place"),
        ("{object} moves at about {answer}", "the mean speed of {object} is about {answer}"),
    ),
    "camera_speed": TaskWords(
        ("how fast the camera moves", "the mean speed of the camera", "how quickly the camera changes its place"),
        ("the camera moves at about {answer}", "the mean speed of the camera is about {answer}"),
    ),
    "camera_rotation_yaw": TaskWords(
        ("how the camera turns to the side", "the camera's turn about its upright axis"),
        ("the camera's turn to the side comes to {answer}", "to the side the camera turns by {answer}"),
    ),
    "camera_rotation_pitch": TaskWords(
        ("how the camera tilts up or down", "the camera's turn about its level axis"),
        ("the camera's tilt comes to {answer}", "up or down the camera turns by {answer}"),
    ),
    "moving_object_count": TaskWords(
        ("how many objects move by themselves", "the number of objects that move in the scene"),
        ("the number of objects that move is {answer}", "the count of moving objects comes to {answer}"),
    ),
}

#: For tasks without words of their own.
GENERIC_CONCLUSIONS: Phrases = (
    "the answer is {answer}",
    "what fits is {answer}",
    "all of this points to {answer}",
    "the best choice is {answer}",
)
GENERIC_OPENINGS: Phrases = (
    "The question: {question} The anchors are frame {start} and frame {end} of {last}.",
    "What is asked: {question} I compare frame {start} with frame {end} of {last}.",
    "I have to answer this: {question} It spans frame {start} to frame {end} of {last}.",
    "The objective is to settle the following. {question} Its anchors are frames {start} and {end} of {last}.",
)


def add_task_words(task: str, words: TaskWords) -> None:
    """Give a task its own goals and conclusions. Doing so twice replaces them."""
    TASK_WORDS[task] = words


# ---------------------------------------------------------------------------------- step 1: objective, temporal anchors

OPENINGS: Phrases = (
    "The question asks {goal}, from frame {start} to frame {end} of {last}.",
    "I need to find {goal}, comparing frame {start} with frame {end} of {last}.",
    "Goal: {goal}. The anchors are frame {start} and frame {end} of {last}.",
    "What matters is {goal} between frame {start} and frame {end} of {last}.",
    "The task is to tell {goal}. It begins at frame {start} and ends at frame {end} of {last}.",
    "To settle {goal}, I look at frame {start} first and at frame {end} of {last} afterwards.",
    "Frame {start} is the start and frame {end} of {last} the end; to be found is {goal}.",
    "With frames {start} and {end} of {last} as anchors, I work out {goal}.",
)

# -------------------------------------------------------------------------------------------------- step 2: start state

CAMERA_STARTS: Phrases = (
    "At frame {start} the view before any motion is the reference.",
    "The camera's pose at frame {start} sets the axes: right, down and ahead.",
    "First the camera's place at frame {start}, which all later views are held against.",
    "Frame {start} gives the first view and with it the camera's starting point.",
    "I fix the camera's position as frame {start} shows it.",
    "The layout of near and far things at frame {start} tells where the camera begins.",
)
OBJECT_STARTS: Phrases = (
    "At frame {start} {object} is {place}.",
    "Frame {start} shows {object} {place}.",
    "In the first view, frame {start}, I find {object} {place}.",
    "To begin with, at frame {start}, {object} appears {place}.",
    "The starting view of frame {start} has {object} {place}.",
    "{object} stands {place} when frame {start} is taken.",
)

# ------------------------------------------------------------------------------------------------- step 3: what changes

#: {shift}: the camera's direction; {back}: the opposite one; {much}: "", or an adverb and a space.
SIDE_SHIFTS: Phrases = (
    "Near things {much}slide {back} against far ones, so the camera goes {shift}.",
    "What is close {much}drifts {back} across the background, which means that the camera goes {shift}.",
    "The foreground {much}shifts {back} more than the distance does: the camera itself goes {shift}.",
    "Against the far background the near parts {much}move {back}, the parallax of a camera that goes {shift}.",
    "Parallax tells the camera's part: near parts {much}slip {back} past far ones, so the camera goes {shift}.",
    "Comparing depths, the nearer a thing is the farther it slips {back}, as when the camera goes {shift}.",
)
FORWARD_SHIFTS: Phrases = (
    "The scene {much}grows out from the middle, so the camera goes forward.",
    "Things {much}spread away from the middle of the image, near ones first, which means that the camera goes forward.",
    "Everything {much}swells and near things pass toward the borders: the camera goes forward.",
    "Near things {much}gain on far ones in size, the sign of a camera that goes forward.",
    "The image {much}opens up from its centre, as when the camera goes forward.",
)
BACKWARD_SHIFTS: Phrases = (
    "The scene {much}shrinks toward the middle, so the camera goes backward.",
    "Things {much}draw in toward the middle of the image, near ones first, which means that the camera goes backward.",
    "Everything {much}dwindles and new parts come in at the borders: the camera goes backward.",
    "Near things {much}lose size faster than far ones, the sign of a camera that goes backward.",
    "The image {much}closes in on its centre, as when the camera goes backward.",
)
STILL_SHIFTS: Phrases = (
    "Near and far things keep their places, so the camera stays.",
    "There is no parallax between near and far things: the camera stays.",
    "The background does not slide behind what is near, which means that the camera stays.",
    "Nothing near shifts against what is far, as when the camera stays.",
)
DRIFTS: Phrases = (
    "A smaller part of the motion is {drift}.",
    "Beside that it drifts {drift} a little.",
    "There is a lesser shift {drift} as well.",
    "Some of it also goes {drift}.",
)
TURNS: Phrases = (
    "The view as a whole also turns {turn}.",
    "On top of that the camera turns {turn}, which moves near and far alike.",
    "The whole image swings because the camera also turns {turn}; that tells nothing of depth.",
    "It also turns {turn} on the way, without changing what is near or far.",
)
MUCH = {"clear": ("clearly ", "plainly ", ""), "slight": ("slightly ", "a little ", ""), "none": ("barely ", "hardly ")}

#: By size and outline where the two agree.
SIZES: dict[str, Phrases] = {
    "larger": (
        "{object} looks larger",
        "{object} grows in the image",
        "the outline of {object} swells",
        "{object} takes up more of the image than before",
    ),
    "smaller": (
        "{object} looks smaller",
        "{object} shrinks in the image",
        "the outline of {object} dwindles",
        "{object} takes up less of the image than before",
    ),
    "same": (
        "{object} keeps its size",
        "{object} looks about as large as before",
        "the size of {object} in the image hardly changes",
        "{object} neither grows nor shrinks to speak of",
    ),
}
#: By distance, where it changes by less than a tenth, or the outline hardly does.
SLIGHT_SIZES: dict[str, Phrases] = {
    "closer": (
        "{object} looks a little larger",
        "{object} grows slightly in the image",
        "the size of {object} in the image increases by a trace",
    ),
    "farther": (
        "{object} looks a little smaller",
        "{object} shrinks slightly in the image",
        "the size of {object} in the image decreases by a trace",
    ),
}
#: By size or distance, where the outline does something else: a part is hidden, or another side comes into view.
UNCLEAR_SIZES: dict[str, Phrases] = {
    "larger": (
        "{object} comes nearer, though its visible outline does not show it in full",
        "the details of {object} grow, though its outline does not",
    ),
    "smaller": (
        "{object} gets farther away, though its visible outline does not show it in full",
        "the details of {object} shrink, though its outline does not",
    ),
    "same": (
        "the details of {object} keep their size, though its outline changes",
        "the parts of {object} stay as large as they were, though more or less of it can be seen",
    ),
}
STAYS: Phrases = (
    " and stays {place}",
    " and remains {place}",
    " while staying {place}",
)
GOES: Phrases = (
    " and ends {place}",
    " and is found {place} in the end",
    ", ending {place}",
)
#: After an unclear size, as sentences of their own.
STAYS_APART: Phrases = (". It stays {place}", ". Its place remains {place}")
GOES_APART: Phrases = (". It ends {place}", ". In the end it is {place}")
OWN_MOTIONS: Phrases = (
    "{object} shifts against the ground around it: {motion}.",
    "Measured by what surrounds it, {object} does move: {motion}.",
    "Against its own surroundings {object} changes place: {motion}.",
    "Part of this is the motion of {object} itself: {motion}.",
)
SMALL_MOTIONS: Phrases = (
    "{object} shifts only a little against the ground around it.",
    "Measured by what surrounds it, {object} moves by a small amount.",
    "The place of {object} among its surroundings changes slightly.",
)
NO_MOTIONS: Phrases = (
    "{object} stays fixed to the ground around it.",
    "Against its own surroundings {object} keeps its place.",
    "Nothing next to {object} slides behind it, so it does not move by itself.",
    "{object} moves with the background around it, that is, not by itself.",
)
#: By axis (right, down, ahead) and sign, in the first view.
MOTIONS: dict[tuple[int, int], str] = {
    (0, -1): "to the left",
    (0, 1): "to the right",
    (1, -1): "upward",
    (1, 1): "downward",
    (2, -1): "nearer to the first viewpoint",
    (2, 1): "deeper into the scene",
}
#: {shift}: where a thing that does not move drifts in the image.
APPARENT_SHIFTS: Phrases = (
    "Its drift {shift} in the image comes from the camera.",
    "That it slips {shift} in the image is the camera's doing.",
    "Its way {shift} across the image is only the camera's motion.",
)
COVERED: Phrases = (
    "It is covered for a part of the time and comes out again.",
    "For a while something hides it, an occlusion that passes.",
    "It is out of sight for some frames, although its place lies within the image.",
)
AWAY: Phrases = (
    "It is out of the image for a part of the time and comes back.",
    "For a while it has left the view.",
)
EDGES: dict[str, Phrases] = {
    "enters": (
        "At first the border of the image cuts it; in the end it is in full view.",
        "It comes in from the border.",
    ),
    "leaves": ("In the end it reaches the border of the image.", "It is on its way out of the image."),
}
ONE_MOMENT: Phrases = (
    "Only this moment counts, so nothing has to be followed over time.",
    "Start and end are the same frame: there is no motion to follow.",
    "A single view decides this one.",
)

# ---------------------------------------------------------------------------------------------------- step 4: end state

CHECKS: Phrases = (
    "Set against the start, this end state fits what the view shows.",
    "The end state agrees with the cues seen on the way.",
    "Both states and the motion between them tell the same story.",
    "Held against the first state, nothing in the last one contradicts what was seen.",
    "The last view bears out what the cues promised.",
    "Looking back from frame {end} to frame {start}, the change is the one the image showed.",
    "So the end state at frame {end} follows from the start and from what changed.",
    "Compared with frame {start}, frame {end} shows just this change.",
)

# ---------------------------------------------------------------------------------------------------- step 5: synthesis

SYNTHESES: Phrases = (
    "Therefore {conclusion}, option {letter}.",
    "So {conclusion}: option {letter}.",
    "Taken together, {conclusion}, which is option {letter}.",
    "In sum {conclusion}, as option {letter} has it.",
    "From this follows that {conclusion}. That is option {letter}.",
    "I conclude that {conclusion}, hence option {letter}.",
)
