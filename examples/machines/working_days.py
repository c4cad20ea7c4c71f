"""Count working days: a set-up that is worth keeping, and a call that needs a package which a machine may not have."""

from __future__ import annotations

import os
import socket
from datetime import date
from typing import Any

from dateutil.easter import easter
from dateutil.relativedelta import relativedelta
from dateutil.rrule import DAILY, FR, MO, rrule

from envpack_executor import task

YEARS = range(1990, 2050)


def load_holidays() -> dict[str, Any]:
    """Return what each call needs: the days of sixty years on which nobody works."""
    holidays = set()
    for year in YEARS:
        sunday = easter(year)
        holidays |= {sunday + relativedelta(days=days) for days in (-2, 1, 39, 50)}
        holidays |= {date(year, 1, 1), date(year, 5, 1), date(year, 12, 25), date(year, 12, 26)}
    return {"holidays": holidays}


@task(context=load_holidays, environment="auto")
def working_days(number: int, holidays: set[date]) -> tuple[int, str, int]:
    """Count the working days of a month.

    Args:
        number: months since January 1990.
        holidays: from the set-up.

    Returns:
        How many there are, and where that was counted: host and process.
    """
    first = date(1990, 1, 1) + relativedelta(months=number % (12 * len(YEARS)))
    last = first + relativedelta(months=1, days=-1)
    days = rrule(DAILY, dtstart=first, until=last, byweekday=range(MO.weekday, FR.weekday + 1))
    return sum(day.date() not in holidays for day in days), socket.gethostname(), os.getpid()
