"""`envpack store`: what the store of this machine holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from envpack.commands.output import note, print_json, print_table, size_text

if TYPE_CHECKING:
    from envpack.pack import StoreContent, StoredLayer


@click.group()
def store() -> None:
    """Look after the store of layers and environments (ENVPACK_STORE, else ~/.cache/envpack)."""


@store.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ls(as_json: bool) -> None:
    """List layers and environments with their sizes."""
    from envpack.pack import Store

    place = Store()
    content = place.ls()
    if as_json:
        print_json({"schema": 1, "store": str(place.folder), **_content(content)})
        return
    note(f"store {place.folder}")
    rows = [_layer_row(layer) for layer in sorted(content.layers, key=lambda layer: (_name(layer), layer.digest))]
    packed = sum(layer.blob_bytes for layer in content.layers)
    unpacked = sum(layer.ref.size_bytes for layer in content.layers if layer.unpacked and layer.ref)
    rows.append((f"{len(content.layers)} layers", size_text(unpacked), size_text(packed), "", ""))
    print_table(("layer", "unpacked", "packed", "environments", "digest"), rows, right=(1, 2, 3))
    if content.manifests:
        click.echo()
        environments = [
            (manifest.id[:12], manifest.python, str(len(manifest.layers)), size_text(manifest.size_bytes), ready)
            for manifest in content.manifests
            for ready in [_ready(content, manifest.id)]
        ]
        print_table(("environment", "python", "layers", "size", "ready to run in"), environments, right=(2, 3))


@store.command()
@click.argument("layer", metavar="LAYER")
def why(layer: str) -> None:
    """Say which environments hold LAYER, named by its distribution or the first digits of its digest."""
    from envpack.errors import UsageError
    from envpack.pack import Store

    found = [
        item for item in Store().ls().layers if item.digest.startswith(layer) or (item.ref and item.ref.name == layer)
    ]
    if not found:
        raise UsageError(f"no layer {layer!r} in the store", "see envpack store ls")
    rows = [(_name(item), item.digest[:12], id) for item in found for id in item.environments or ("none",)]
    print_table(("layer", "digest", "environment"), rows)


@store.command()
def verify() -> int:
    """Read every layer file and every unpacked layer and compare their digests; ends with 1 if one is damaged."""
    from envpack.pack import Store

    place = Store()
    damaged = 0
    checked = 0
    for digest, problem in place.verify():
        checked += 1
        if problem:
            damaged += 1
            click.echo(f"{digest[:12]}  {problem}")
    click.echo(f"{checked} layers verified, {damaged} damaged")
    return 1 if damaged else 0


def _name(layer: StoredLayer) -> str:
    return str(layer.ref) if layer.ref else "(in no environment)"


def _layer_row(layer: StoredLayer) -> tuple[str, ...]:
    unpacked = size_text(layer.ref.size_bytes) if layer.unpacked and layer.ref else "-"
    packed = size_text(layer.blob_bytes) if layer.blob_bytes else "-"
    return _name(layer), unpacked, packed, str(len(layer.environments)), layer.digest[:12]


def _ready(content: StoreContent, id: str) -> str:
    return ", ".join(str(folder) for folder in content.ready if folder.name.startswith(f"{id[:32]}-")) or "-"


def _content(content: StoreContent) -> dict[str, Any]:
    return {
        "layers": [
            {
                "digest": layer.digest,
                "blob_bytes": layer.blob_bytes,
                "unpacked": layer.unpacked,
                "name": layer.ref.name if layer.ref else None,
                "version": layer.ref.version if layer.ref else None,
                "size_bytes": layer.ref.size_bytes if layer.ref else None,
                "environments": list(layer.environments),
            }
            for layer in content.layers
        ],
        "environments": [
            {
                "id": manifest.id,
                "python": manifest.python,
                "platform": manifest.platform,
                "size_bytes": manifest.size_bytes,
                "layers": [ref.digest for ref in manifest.layers],
                "ready": [str(folder) for folder in content.ready if folder.name.startswith(f"{manifest.id[:32]}-")],
            }
            for manifest in content.manifests
        ],
    }
