"""The store of a machine: layers by digest, each unpacked once, and the environments made from them.

- `store`: the face; `layers`, `environment`, `linking`: what lies in it and how it is made.
- `index`: which files gave which layer before.
- `locks`, `syncing`, `sharing`: sudden death, power failures, and several users.
- `uses`, `processes`, `plan`, `collection`: who uses what, and taking out what nobody uses; `verification`.
"""

from envpack.pack.store.store import Store, StoreContent, StoredLayer

__all__ = ["Store", "StoreContent", "StoredLayer"]
