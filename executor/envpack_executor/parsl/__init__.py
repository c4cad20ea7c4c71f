"""What stands on Parsl.

- `provider_nodes`: `ProviderNodes`, nodes of any provider and launcher without the data-flow kernel; `provider_source`
  is the provider as a source of blocks.
"""

from __future__ import annotations

from envpack_executor.extras import need

need("parsl", __name__)

from envpack_executor.parsl.provider_nodes import ProviderNodes  # noqa: E402

__all__ = ["ProviderNodes"]
