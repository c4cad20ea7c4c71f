"""A real kernel: what stands in cells travels, an interrupt ends what is waited for, and a restart leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

from tests.executor.helpers import GENEROUS_S, are_gone, descendants, environ, wait_until

BEGIN = """
import os, time
from envpack_executor import ContextExecutor, task
executor = ContextExecutor(max_workers=2, output="stream")
"""


class Notebook:
    """A kernel and the cells that it is given."""

    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager(transport="ipc", connection_file=str(folder / "kernel.json"))
        self.manager.start_kernel(env=environ(), cwd=str(folder))
        self.client: Any = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=2 * GENEROUS_S)

    @property
    def pid(self) -> int:
        pid: int = self.manager.provisioner.pid
        return pid

    def run(self, cell: str) -> str:
        """Run a cell; return what it prints, or the name of its error."""
        printed: list[str] = []

        def take(message: dict[str, Any]) -> None:
            printed.append(message["content"].get("text", ""))

        reply = self.client.execute_interactive(cell, output_hook=take, timeout=2 * GENEROUS_S)
        return reply["content"].get("ename") or "".join(printed)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy()


@pytest.fixture(scope="module", autouse=True)
def client_loop() -> Iterator[None]:
    """The loop that Jupyter's client keeps for a thread, and never closes."""
    loop = ensure_event_loop()
    yield
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    notebook = Notebook(tmp_path)
    try:
        yield notebook
    finally:
        notebook.close()


def test_cells_submit_what_stands_in_them_and_a_changed_cell_is_a_changed_function(notebook: Notebook) -> None:
    assert notebook.run(BEGIN) == ""
    notebook.run("offset = 1\ndef load(): return {'base': 100}\n@task(context=load)\ndef add(n, base): return n + base")

    assert notebook.run("print(list(executor.map(lambda n: n + offset, range(3))))") == "[1, 2, 3]\n"
    notebook.run("offset = 5")
    assert notebook.run("print(list(executor.map(lambda n: n + offset, range(3))))") == "[5, 6, 7]\n"
    assert notebook.run("print(list(executor.map(add, range(3))))") == "[100, 101, 102]\n"
    notebook.run("@task(context=load)\ndef add(n, base): return n - base")
    assert notebook.run("print(executor.submit(add, 1).result())") == "-99\n"
    assert notebook.run("executor.submit(print, 'below the cell').result(); time.sleep(0.3)") == "below the cell\n"
    assert notebook.run("executor.submit(lambda: 1 / 0).result()") == "ZeroDivisionError"


def test_an_interrupt_ends_the_cell_and_not_the_executor(notebook: Notebook) -> None:
    notebook.run(BEGIN)
    pids = set(notebook.run("print(*executor.map(lambda n: time.sleep(0.2) or os.getpid(), range(4)))").split())
    waiting = notebook.client.execute("executor.submit(time.sleep, 3600).result()")
    wait_until(lambda: _is_busy(notebook), "the cell waits")
    notebook.manager.interrupt_kernel()
    reply = notebook.client.get_shell_msg(timeout=GENEROUS_S)
    while reply["parent_header"]["msg_id"] != waiting:
        reply = notebook.client.get_shell_msg(timeout=GENEROUS_S)

    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert notebook.run("print(executor.submit(os.getpid).result())").strip() in pids


def test_a_restart_leaves_no_process_behind(notebook: Notebook) -> None:
    notebook.run(BEGIN)
    notebook.run("sleeper = executor.submit(time.sleep, 3600); executor.submit(os.getpid).result()")
    left = descendants(notebook.pid)
    assert len(left) >= 2
    notebook.manager.restart_kernel(now=True)
    notebook.client.wait_for_ready(timeout=2 * GENEROUS_S)

    wait_until(lambda: are_gone(left), "the processes of the kernel before have ended")
    assert notebook.run("print('executor' in globals())") == "False\n"


def _is_busy(notebook: Notebook) -> bool:
    message = notebook.client.get_iopub_msg(timeout=GENEROUS_S)
    return bool(message["msg_type"] == "execute_input")
