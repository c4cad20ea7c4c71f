"""The classes of syntax trees, without `ast`: its import takes as much CPU as the analysis of a script.

They are the same classes; modules here import this one under the name `ast`. What `ast` adds is in `nodes`, as far as
it is needed.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ast import *  # noqa: F403
else:
    from _ast import *  # noqa: F403
