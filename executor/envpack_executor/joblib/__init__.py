"""The joblib backend `envpack`: `Parallel` calls, and so scikit-learn's, in warm processes here and on other nodes.

    import envpack_executor.joblib
    with joblib.parallel_config(backend="envpack", n_jobs=8): ...

Importing it registers the backend.

Map of the package:

- `backend`: what joblib sees.
- `session`: the batches of one `Parallel` object, from `submit` to their end or their abortion.
- `arrays`: how large arrays travel: once to each node, and mapped there.
- `sharing`: the executor that `Parallel` calls share, and the arrays that outlive one of them.
- `inside`: what runs in the context processes.
"""

from __future__ import annotations

from envpack_executor.extras import need

need("joblib", __name__)

from joblib import register_parallel_backend  # noqa: E402  # after it is known to be there

from envpack_executor.joblib.backend import EnvpackBackend  # noqa: E402
from envpack_executor.joblib.sharing import shutdown  # noqa: E402

__all__ = ["EnvpackBackend", "shutdown"]

register_parallel_backend("envpack", EnvpackBackend)
