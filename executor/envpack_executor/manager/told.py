"""Who is told at once what calls have used, if somebody asked: an engine that shows it in its own way, for instance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from envpack_executor.manager.state import Call, FunctionRecord
from envpack_monitor.usage import FIELDS, Usage

_log = logging.getLogger(__name__)

OnUsage = Callable[[Usage, Future[Any] | None], object]
"""Takes a usage and the future of its call, or None where it is the sum of several short calls."""

_KNOWN = frozenset(FIELDS) - {"category", "features", "calls"}


class UsageTeller:
    """Hands on what calls have used; who takes it may fail without harm to anybody else.

    Args:
        on_usage: takes it.
    """

    def __init__(self, on_usage: OnUsage) -> None:
        self._on_usage = on_usage

    def tell(
        self,
        function: FunctionRecord,
        calls: int,
        figures: Mapping[str, Any],
        features: Mapping[str, float] | None = None,
        call: Call | None = None,
    ) -> None:
        """Hand on a usage.

        Args:
            function: what was called.
            calls: how often.
            figures: what all these calls used.
            features: of the call, if it is one and they are known.
            call: the call, if it is one and it is known.
        """
        known = {name: value for name, value in figures.items() if name in _KNOWN}
        usage = Usage(**known, category=function.category, features=dict(features or {}), calls=calls)
        try:
            self._on_usage(usage, call if isinstance(call, Future) else None)
        except Exception:
            _log.exception("while a usage of %s was handed on", function.category)
