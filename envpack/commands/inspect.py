"""`envpack inspect`: what a pack or an environment of the store consists of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from envpack.commands.output import print_json, print_table, size_text

if TYPE_CHECKING:
    from envpack.pack import Manifest


@click.command()
@click.argument("name", metavar="PACK|ENV_ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(name: str, as_json: bool) -> None:
    """Show the layers of a pack or plain archive, or of an environment of the store by the first digits of its id.

    Of a pack only the index is read; `envpack unpack` verifies the layers themselves.
    """
    manifest, sizes = _find(name)
    if as_json:
        layers = [{**ref.to_dict(), "blob_bytes": size} for ref, size in zip(manifest.layers, sizes, strict=True)]
        print_json({"id": manifest.id, "manifest": manifest.to_dict(), "layers": layers})
        return
    click.echo(f"environment {manifest.id}")
    own = ", brings its interpreter" if manifest.has_interpreter else ""
    click.echo(f"{manifest.implementation} {manifest.python}, {manifest.abi}, {manifest.platform}{own}")
    rows: list[tuple[str, ...]] = [
        (
            ref.name,
            ref.version or "-",
            ref.kind,
            str(ref.files),
            size_text(ref.size_bytes),
            size_text(size) if size else "-",
            ref.digest[:12],
        )
        for ref, size in zip(manifest.layers, sizes, strict=True)
    ]
    files = str(sum(ref.files for ref in manifest.layers))
    rows.append(
        ("total", "", "", files, size_text(manifest.size_bytes), size_text(sum(sizes)) if any(sizes) else "-", "")
    )
    headers = ("layer", "version", "kind", "files", "unpacked", "packed", "digest")
    print_table(headers, rows, right=(3, 4, 5))


def _find(name: str) -> tuple[Manifest, list[int]]:
    """Return the manifest and the size of each layer's file; 0 where there is none by itself."""
    from contextlib import ExitStack

    from envpack.pack import Store
    from envpack.pack.formats.opening import open_environment

    # An id is hexadecimal, and a file of such a name can still be meant by writing ./name.
    if not os.path.exists(name) and "/" not in name and "." not in name:
        store = Store()
        manifest = store.manifest(name)
        blobs = [store.blob(ref.digest) for ref in manifest.layers]
        return manifest, [blob.stat().st_size if blob.exists() else 0 for blob in blobs]
    with ExitStack() as stack:
        opened = open_environment(stack, name)
        return opened.manifest, list(opened.sizes)
