"""Cold start: several reasoning paths per question, scored by the training reward, the better ones kept."""

from .endpoint_writer import EndpointConfig, EndpointWriter
from .run import CotConfig, CotReport, make_cold_start
from .scoring import CotPath, Sample, score_paths
from .selection import SelectionConfig, TaskFigures, select_paths, task_figures

__all__ = [
    "CotConfig",
    "CotPath",
    "CotReport",
    "EndpointConfig",
    "EndpointWriter",
    "Sample",
    "SelectionConfig",
    "TaskFigures",
    "make_cold_start",
    "score_paths",
    "select_paths",
    "task_figures",
]
