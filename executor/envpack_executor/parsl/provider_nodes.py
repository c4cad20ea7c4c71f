"""`ProviderNodes`: workers of any Parsl provider and launcher for a `ContextExecutor`, without the data-flow kernel."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from parsl.providers.base import ExecutionProvider

from envpack_executor import settings
from envpack_executor.blocks.nodes import BlockNodes
from envpack_executor.blocks.scaling import Scaling
from envpack_executor.blocks.source import PROGRAM, WorkerOptions
from envpack_executor.nodes import Heartbeat, RemoteNodes
from envpack_executor.parsl.allocated import gpus_of, memory_of, wall_time_s
from envpack_executor.parsl.provider_source import ProviderSource

if TYPE_CHECKING:
    from envpack_executor.manager.loop import ManagerLoop


class ProviderNodes(BlockNodes):
    """Let a Parsl provider supply nodes: as many blocks as the open calls want, between its `min_` and `max_blocks`.

    Blocks come when calls wait, and leave when they have been idle; workers are drained before the wall time of their
    block is over. `init_blocks`, `min_blocks`, `max_blocks`, `parallelism`, `nodes_per_block`, `cores_per_node`,
    `worker_init`, `walltime` and the launcher are those of the provider.

    Args:
        provider: of Parsl, such as `SlurmProvider(...)`; it belongs to these nodes.
        bind: where workers join, `tcp://HOST:PORT`. Loopback by default: name an interface of this machine that the
            nodes reach.
        folder: on a file system that all nodes see; a private one in it is for the key file and for scripts and
            output of the jobs. These stay there; without `folder`, `ENVPACK_RUNS` is taken and nothing stays.
        cores: calls at once on each node; what the provider's `cores_per_node` says, or else all of them, by default.
        memory: what calls may have there together, in bytes or as `"16GB"`; nine tenths of the provider's
            `mem_per_node`, or else of what there is, by default.
        context_memory: what warm processes may keep there together, likewise.
        disk: what calls that ask for disk may write there together, likewise.
        gpus: how many GPUs of a node calls may use; what the provider's `gpus_per_node` says, or else none, by
            default.
        store: folder of the store of layers on each node; `{NAME}` stands for that environment variable there, `{host}`
            for the name of the node.
        idle_timeout_s: a block without calls leaves after so long.
        register_within_s: a block that runs, and no worker of it joins within so long, is given up.
        max_failures: after so many blocks in a row that failed, with no node left, the calls that wait end with
            `BlocksError`.
        program: the words that start `envpack` on a node, after the provider's `worker_init`; this interpreter by
            default, `("envpack",)` for the one on the PATH there.
        heartbeat: how silence is noticed.
        bulk: how layers and large values travel, see `RemoteNodes`.
        bulk_port: likewise.

    Raises:
        ValueError: a number is out of its range, or the provider's wall time is no time.
    """

    def __init__(
        self,
        provider: ExecutionProvider,
        *,
        bind: str = "tcp://127.0.0.1:0",
        folder: str | Path | None = None,
        cores: int | None = None,
        memory: int | str | None = None,
        context_memory: int | str | None = None,
        disk: int | str | None = None,
        gpus: int | None = None,
        store: str | Path | None = None,
        idle_timeout_s: float = 120.0,
        register_within_s: float = 300.0,
        max_failures: int = 3,
        program: Sequence[str] = PROGRAM,
        heartbeat: Heartbeat | None = None,
        bulk: Literal["plain", "encrypted"] = "plain",
        bulk_port: int = 0,
    ) -> None:
        cores = cores or getattr(provider, "cores_per_node", None)
        options = WorkerOptions(
            cores,
            memory_of(provider) if memory is None else memory,
            context_memory,
            disk,
            gpus_of(provider) if gpus is None else gpus,
            None if store is None else str(store),
            wall_time_s=wall_time_s(provider),
            program=tuple(program),
        )
        scaling = Scaling(
            provider.init_blocks,
            provider.min_blocks,
            provider.max_blocks,
            provider.parallelism,
            idle_timeout_s,
            provider.nodes_per_block,
        )
        self._is_own = folder is None
        self._folder = _private_folder(folder)
        super().__init__(
            ProviderSource(provider, str(self._folder), cores),
            remote=RemoteNodes(bind, self._folder / "worker.key", heartbeat, bulk, bulk_port),
            scaling=scaling,
            options=options,
            register_within_s=register_within_s,
            max_failures=max_failures,
            advice=_advice(bind, self._folder),
        )

    def open(self, loop: ManagerLoop, resident: Callable[[int], int]) -> None:
        """Listen, and ask for blocks, for the executor that `loop` belongs to.

        Args:
            loop: takes the nodes that join, and says what waits.
            resident: how many context processes a node of so many cores may keep.

        Raises:
            ExecutorError: the address cannot be bound, or another executor uses this object.
            KeyFileError: the key file cannot be written.
        """
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        try:
            super().open(loop, resident)
        except BaseException:
            self._clean_up()
            raise
        loop.add_closer(self._clean_up)

    def _clean_up(self) -> None:
        if self._is_own:
            shutil.rmtree(self._folder, ignore_errors=True)  # a job that ends at this moment may still write there
            with contextlib.suppress(OSError):
                self._folder.parent.rmdir()  # if it was the last run


def _private_folder(chosen: str | Path | None) -> Path:
    """Return the folder of a run; it is made when it is needed."""
    base = settings.runs_folder() if chosen is None else Path(chosen).absolute()
    return base / f"run-{secrets.token_hex(4)}"


def _advice(bind: str, folder: Path) -> str:
    host = bind.removeprefix("tcp://").rpartition(":")[0]
    if host.startswith("127.") or host in ("localhost", "[::1]"):
        return (
            f"workers join at {bind}, which other machines do not reach: name an interface by bind=, "
            "and see what the provider's worker_init does"
        )
    return f"see that nodes reach {bind} and {folder}, and what the provider's worker_init does"
