"""The triggers that envpack knows: which uses of widely used libraries import what these do not require.

Written from knowledge of the libraries; some 45 of the uses have tests of their own. An entry that is wrong or missing
is corrected here, or added by users through the entry point group `envpack.triggers`. It is data: one entry a
use, no logic.

Needs are modules, not distributions: whichever installed distribution owns the module is the answer (`psycopg2` may be
psycopg2-binary). A module that the others of its case require anyway is not listed (numpy beside scipy).
"""

from __future__ import annotations

from envpack.discover.hidden.table.frames import FRAMES
from envpack.discover.hidden.table.science import SCIENCE
from envpack.discover.hidden.table.services import SERVICES

TRIGGERS = (*FRAMES, *SCIENCE, *SERVICES)
