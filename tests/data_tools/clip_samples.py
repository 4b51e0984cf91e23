"""Random clips with known geometry, small enough to make hundreds of."""

import numpy as np

from mllm4d_verl.data_tools.schema import Clip4D, ObjectTrack

COLOURS = ("red", "green", "blue", "yellow")


def rotation_about(axis, angle):
    """(3, 3) rotation by Rodrigues' formula."""
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def make_clip(seed=0, num_frames=16, num_objects=3, clip_id=None, turn=0.3):
    """A camera on a straight line that turns on its way, and objects that stay or move on straight lines."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    axis, velocity = rng.normal(size=3), rng.normal(size=3)
    velocity[rng.permutation(3)[:2]] *= 0.2  # mostly along one axis
    for frame in range(num_frames):
        share = frame / max(1, num_frames - 1)
        poses[frame, :3, :3] = rotation_about(axis, turn * share)
        poses[frame, :3, 3] = 1.5 * share * velocity
    objects = []
    for m in range(num_objects):
        start = np.array([rng.uniform(-1.5, 1.5), rng.uniform(-0.5, 0.5), rng.uniform(3, 6)])
        shape = rng.uniform(-0.2, 0.2, size=(20, 3))
        moving = bool(rng.integers(2))
        step = rng.normal(size=3) * [1.5, 0.1, 1.5] if moving else np.zeros(3)
        points = [
            (shape + start + step * frame / max(1, num_frames - 1)).astype(np.float32) for frame in range(num_frames)
        ]
        objects.append(ObjectTrack(m + 1, "ball", f"the {COLOURS[m]} ball", moving, points))
    name = clip_id or f"clip_{seed:05d}"
    return Clip4D(
        clip_id=name,
        source="test",
        license="CC0-1.0",
        video=f"{name}/left.mp4",
        fps=8.0,
        num_frames=num_frames,
        width=96,
        height=96,
        intrinsics=np.array([[86.4, 0, 48], [0, 86.4, 48], [0, 0, 1]]),
        baseline=0.12,
        cam_to_world=poses,
        objects=objects,
        quality={"reprojection_px": 0.0},
    )


def make_wild_clip(seed, num_frames=8):
    """Wilder than real clips: any world frame and scale, curves, up to four objects that come and go."""
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(-0.5, 1.5)  # metres
    world, origin = rotation_about(rng.normal(size=3), rng.uniform(0, 3)), 5 * scale * rng.normal(size=3)
    share = np.linspace(0, 1, num_frames)[:, None]

    def curve(size):
        return share * rng.normal(size=3) * size + share**2 * rng.normal(size=3) * size + np.zeros((num_frames, 3))

    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    axis, turn, path = rng.normal(size=3), rng.uniform(0, 1), scale * curve(0.4)
    for frame in range(num_frames):
        poses[frame, :3, :3] = world @ rotation_about(axis, turn * share[frame, 0])
        poses[frame, :3, 3] = world @ path[frame] + origin
    objects, hidden = [], rng.choice([0.0, 0.2])
    for m in range(int(rng.integers(5))):
        moves = bool(rng.integers(2))
        spread = [2.0, 0.5, 1.5] if rng.integers(2) else [0.5, 0.1, 1.5]  # apart, or one behind the other
        middle = scale * ([0, 0, 4] + rng.normal(size=3) * spread) + scale * curve(1.0) * moves
        size = scale * rng.uniform(0.05, 0.3)
        points = []
        for frame in range(num_frames):
            count = 0 if rng.random() < hidden else int(rng.integers(8, 20))
            own = middle[frame] + rng.uniform(-size, size, (count, 3))
            points.append((own @ world.T + origin).astype(np.float32))
        objects.append(ObjectTrack(m + 1, "ball", f"the {COLOURS[m]} ball", moves, points))
    return Clip4D(
        f"wild_{seed:05d}", "test", "CC0-1.0", f"wild_{seed:05d}/left.mp4", float(rng.choice([8, 10, 29.97])),
        num_frames, 96, 96, np.array([[86.4, 0, 48], [0, 86.4, 48], [0, 0, 1]]), 0.12, poses, objects, {},
    )  # fmt: skip
