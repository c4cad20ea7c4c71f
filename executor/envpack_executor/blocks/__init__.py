"""Nodes that come in blocks, such as batch jobs, as many as the open calls want.

- `source`: who supplies blocks, and the command that makes one a part of the executor.
- `scaling`: how many there should be (pure).
- `book`: what is known of each (pure).
- `nodes`: `BlockNodes`, which does what these two say, in a thread of its own.
"""

from envpack_executor.blocks.book import Ended
from envpack_executor.blocks.nodes import BlockNodes, BlockStatus
from envpack_executor.blocks.scaling import Scaling
from envpack_executor.blocks.source import BlockSource, JobState, JobStatus, WorkerCommand, WorkerOptions

__all__ = [
    "BlockNodes",
    "BlockSource",
    "BlockStatus",
    "Ended",
    "JobState",
    "JobStatus",
    "Scaling",
    "WorkerCommand",
    "WorkerOptions",
]
