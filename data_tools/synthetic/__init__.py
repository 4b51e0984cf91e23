"""A procedural stereo world: seeded scenes, rendered by analytic ray casting, with exact geometry."""

from .config import PRESETS, WorldConfig, world_preset
from .world import clip_scene, write_world

__all__ = ["PRESETS", "WorldConfig", "clip_scene", "world_preset", "write_world"]
