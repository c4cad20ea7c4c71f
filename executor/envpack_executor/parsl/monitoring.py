"""What Parsl's monitoring is told: workers that come and go, where calls run, and what each of them used.

    call sent to a node ──▶ WORKER_TASK_INFO (first)      worker joined, drains, left ──▶ NODE_INFO
    usage of the call ────▶ RESOURCE_INFO (twice)
    its future is done ───▶ WORKER_TASK_INFO (last)

All of it is said by the client, who knows it: no process is forked beside a call to watch it, no message is sent by a
node, and nothing has to be installed there. Parsl's own wrapper, which would do that, is taken off.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from parsl.monitoring.message_type import MessageType
from parsl.monitoring.radios.base import MonitoringRadioReceiver, MonitoringRadioSender, RadioConfig
from parsl.utils import RepresentationMixin

if TYPE_CHECKING:
    from envpack_executor.manager.overview import NodeStatus
    from envpack_monitor.usage import Usage

_TASK, _TRY = "_parsl_monitoring_task_id", "_parsl_monitoring_try_id"

Send = Callable[[tuple[MessageType, dict[str, Any]]], None]
Ids = Mapping[str, int]


class NoRadio(RadioConfig, RepresentationMixin):  # type: ignore[misc]
    """Stands where Parsl asks how workers send messages to the client: these need not."""

    def create_receiver(self, *, run_dir: str, resource_msgs: Any) -> MonitoringRadioReceiver:
        """Return what there is nothing to do for."""
        return _Silence()

    def create_sender(self) -> MonitoringRadioSender:
        """Return what drops messages."""
        return _Silence()


class _Silence(MonitoringRadioReceiver, MonitoringRadioSender):  # type: ignore[misc]
    def send(self, message: object) -> None:
        pass

    def shutdown(self) -> None:
        pass


def without_wrapper(
    function: Callable[..., Any], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any], Ids | None]:
    """Take off the wrapper of Parsl's monitoring.

    Args:
        function: as Parsl hands it over.
        kwargs: arguments of the call.

    Returns:
        The app, its arguments, and by which numbers Parsl knows the call; None where it is not monitored.
    """
    if _TASK not in kwargs:
        return function, kwargs, None
    left = {name: value for name, value in kwargs.items() if name not in (_TASK, _TRY)}
    return function.__wrapped__, left, {"task_id": kwargs[_TASK], "try_id": kwargs[_TRY]}  # type: ignore[attr-defined]


class Reporter:
    """Tells Parsl's monitoring about one executor.

    Args:
        send: takes the messages.
        run_id: of the data-flow kernel.
    """

    def __init__(self, send: Send, run_id: str) -> None:
        self._send = send
        self._run_id = run_id
        self._nodes: dict[str, NodeStatus] = {}
        self._calls: dict[Future[Any], Ids] = {}
        self._places: dict[Future[Any], str] = {}
        # Re-entrant: the kernel submits the next try in the thread that ends the one before.
        self.submitting = threading.RLock()
        """Held from before a call is submitted until it is noted, so that nothing is heard of it before that."""

    def note_call(self, future: Future[Any], ids: Ids) -> None:
        """Note which call a future stands for."""
        self._calls[future] = ids
        future.add_done_callback(self._call_done)

    def node_changed(self, node: NodeStatus, is_there: bool) -> None:
        """Tell that a worker has joined or left; in the executor's thread."""
        self._nodes[node.node] = node
        self._tell_of_node(node, is_active=is_there and not node.is_draining)

    def node_drains(self, node: NodeStatus) -> None:
        """Tell that a worker takes no more calls."""
        self._tell_of_node(node, is_active=False)

    def calls_sent(self, node: str, calls: Sequence[Any]) -> None:
        """Tell where calls run; in the executor's thread."""
        with self.submitting:
            for call in calls:
                if call in self._calls:
                    self._places[call] = node
                    self._tell_of_task(call, is_last=False)

    def usage_known(self, usage: Usage, future: Future[Any] | None) -> None:
        """Tell what a call has used; in the executor's thread."""
        ids = None if future is None else self._calls.get(future)
        if ids is None:
            return
        start, end = usage.started_at, usage.started_at + usage.wall_s
        self._send((MessageType.RESOURCE_INFO, self._of_task(ids, start) | _before(usage)))
        self._send((MessageType.RESOURCE_INFO, self._of_task(ids, end) | _after(usage)))

    def _call_done(self, future: Future[Any]) -> None:
        if future in self._places:  # otherwise it was never begun
            self._tell_of_task(future, is_last=True)
            del self._places[future]
        del self._calls[future]

    def _tell_of_task(self, future: Future[Any], is_last: bool) -> None:
        node = self._nodes.get(self._places[future])
        message = self._of_task(self._calls[future], time.time()) | {
            "hostname": "" if node is None else node.host,
            "block_id": None if node is None else node.block,
            "first_msg": not is_last,
            "last_msg": is_last,
        }
        self._send((MessageType.WORKER_TASK_INFO, message))

    def _of_task(self, ids: Ids, at: float) -> dict[str, Any]:
        return {"run_id": self._run_id, **ids, "timestamp": datetime.datetime.fromtimestamp(at)}

    def _tell_of_node(self, node: NodeStatus, is_active: bool) -> None:
        now = datetime.datetime.now()
        message = {
            "run_id": self._run_id,
            "hostname": node.host,
            "uid": node.node,
            "block_id": node.block,
            "cpu_count": node.cores,
            "total_memory": node.memory_bytes or 0,
            "active": is_active,
            "worker_count": node.cores,
            "python_v": node.python,
            "timestamp": now,
            "last_heartbeat": now,
        }
        self._send((MessageType.NODE_INFO, message))


def _before(usage: Usage) -> dict[str, Any]:
    """Return what is known of a call as it begins, by the names of Parsl's table."""
    return {
        "psutil_process_memory_resident": usage.memory_before_bytes,
        "psutil_process_time_user": 0.0,
        "psutil_process_time_system": 0.0,
        "psutil_process_disk_read": 0,
        "psutil_process_disk_write": 0,
    }


def _after(usage: Usage) -> dict[str, Any]:
    """Return what a call has used, likewise: the memory is the largest there was."""
    return {
        "resource_monitoring_interval": usage.wall_s,
        "psutil_process_memory_resident": usage.peak_memory_bytes,
        "psutil_process_time_user": usage.cpu_user_s,
        "psutil_process_time_system": usage.cpu_system_s,
        "psutil_process_disk_read": usage.bytes_read,
        "psutil_process_disk_write": usage.bytes_written,
        "psutil_process_num_ctx_switches_voluntary": usage.voluntary_switches,
        "psutil_process_num_ctx_switches_involuntary": usage.involuntary_switches,
        "psutil_process_children_count": None if usage.processes_total is None else usage.processes_total - 1,
        "psutil_process_status": usage.exception or "done",
    }
