"""`envpack store`: what the store of this machine holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from envpack.commands.options import AGE, SIZE
from envpack.commands.output import ProgressBar, age_text, note, print_json, print_table, size_text

if TYPE_CHECKING:
    from envpack.pack import Store, StoreContent, StoredLayer
    from envpack.pack.store.collection import Collection
    from envpack.pack.store.verification import Verified

_KINDS = {"file": "layer file", "layer": "layer", "environment": "environment", "manifest": "manifest"}


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
    rows.append((f"{len(content.layers)} layers", size_text(unpacked), size_text(packed), "", "", ""))
    print_table(("layer", "unpacked", "packed", "environments", "last used", "digest"), rows, right=(1, 2, 3))
    if content.manifests:
        click.echo()
        environments = [
            (
                manifest.id[:12],
                manifest.python,
                str(len(manifest.layers)),
                size_text(manifest.size_bytes),
                age_text(content.last_used_s[manifest.id]),
                _ready(content, manifest.id),
            )
            for manifest in content.manifests
        ]
        headers = ("environment", "python", "layers", "size", "last used", "ready to run in")
        print_table(headers, environments, right=(2, 3))


@store.command()
@click.argument("layer", metavar="LAYER")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def why(layer: str, as_json: bool) -> None:
    """Say which environments hold LAYER, named by its distribution or the first digits of its digest."""
    from envpack.errors import UsageError
    from envpack.pack import Store

    content = Store().ls()
    found = [item for item in content.layers if item.digest.startswith(layer) or (item.ref and item.ref.name == layer)]
    if not found:
        raise UsageError(f"no layer {layer!r} in the store", "see envpack store ls")
    if as_json:
        print_json({"schema": 1, "layers": [_layer(item) for item in found]})
        return
    rows = [
        (_name(item), item.digest[:12], age_text(item.last_used_s), id, _age(content, id))
        for item in found
        for id in item.environments or ("none",)
    ]
    print_table(("layer", "digest", "last used", "environment", "last used"), rows)


@store.command()
@click.option("--shared", is_flag=True, required=True, help="Let the group of the folder use it, too.")
@click.option("--group", metavar="NAME", help="Give the folder to this group.  [default: the one it has]")
def init(shared: bool, group: str | None) -> None:
    """Make a store that a group of users shares: its members add to it, and none removes what is another's.

    Who can write into it gives code to the others: share it among people who trust each other. Each of them names it
    with ENVPACK_STORE.
    """
    import grp

    from envpack.errors import UsageError
    from envpack.pack import Store

    try:
        number = None if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"no such group: {group!r}", "see: getent group") from None
    place = Store()
    place.share(number)
    name = grp.getgrgid(place.folder.stat().st_gid).gr_name
    click.echo(f"store {place.folder} is shared by group {name!r}")


@store.command()
@click.option("--max-size", type=SIZE, help="Remove until the store is no larger, such as 20GB.")
@click.option("--older-than", type=AGE, help="Remove what was not used for so long, such as 30d or 12h.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def gc(max_size: float | None, older_than: float | None, dry_run: bool, as_json: bool) -> int:
    """Remove what was used longest ago: environments, layers and layer files that nothing in use needs.

    Files of layers that are unpacked go before what runs from those layers: without them such an environment still
    runs, and can be exported only after it is packed again. Ends with 1 if the store is still larger than SIZE.
    """
    from envpack.pack import Store

    place = Store()
    answer = place.collect(max_size_bytes=max_size, older_than_s=older_than, is_dry=dry_run)
    is_small = max_size is None or answer.plan.after_bytes <= max_size
    if as_json:
        print_json({"schema": 1, "store": str(place.folder), "dry_run": dry_run, **_collected(answer)})
        return 0 if is_small else 1
    removals = answer.plan.removals
    if removals:
        rows = [
            (_KINDS[item.part.kind], item.part.label, age_text(item.part.last_used_s), size_text(item.freed_bytes))
            for item in removals
        ]
        print_table(("", "removed" if not dry_run else "would be removed", "last used", "freed"), rows, right=(3,))
    before, after = answer.plan.before_bytes, answer.plan.after_bytes
    verb = "would be freed" if dry_run else "freed"
    click.echo(f"{size_text(before - after)} of {size_text(before)} {verb}, {size_text(after)} left")
    if answer.in_use:
        note(f"in use: {', '.join(name[:12] for name in answer.in_use)}")
    if answer.others:
        note(f"{answer.others} things are other users', who can remove them")
    if not is_small:
        note(f"still larger than {size_text(int(max_size or 0))}: the rest is in use, or another user's")
    return 0 if is_small else 1


@store.command()
@click.option("--repair", is_flag=True, help="Remove what is damaged; the next use fetches or makes it again.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Read N things at once.  [default: processors]")
def verify(repair: bool, threads: int | None) -> int:
    """Read every layer file, unpacked layer and environment again and compare each file with its digest.

    Ends with 1 if something is damaged and stays so.
    """
    from envpack.pack import Store

    place = Store()
    damaged = []
    checked = dict.fromkeys(_KINDS, 0)
    with ProgressBar("verifying") as bar:
        for item in place.verify(threads):
            bar.update(item.done, item.total)
            checked[item.kind] += 1
            if item.problems:
                damaged.append(item)
    for item in damaged:
        for problem in item.problems:
            click.echo(f"{_KINDS[item.kind]} {item.label} ({item.name[:12]}): {problem}")
    counts = ", ".join(f"{checked[kind]} {text}s" for kind, text in _KINDS.items() if kind != "manifest")
    click.echo(f"{counts} verified, {len(damaged)} damaged")
    if damaged and not repair:
        note("envpack store verify --repair removes what is damaged, and the next use fetches or makes it again")
    return _repair(place, damaged) if repair else int(bool(damaged))


def _repair(place: Store, damaged: list[Verified]) -> int:
    """Remove what is damaged and return the exit code."""
    # What was made from others before those others.
    kept = [item for item in reversed(damaged) if not place.repair(item)]
    if damaged:
        click.echo(f"{len(damaged) - len(kept)} removed")
    for item in kept:
        note(f"{_KINDS[item.kind]} {item.label} stays: a process uses it, or it is another user's; end that and repeat")
    return int(bool(kept))


def _collected(answer: Collection) -> dict[str, Any]:
    return {
        "before_bytes": answer.plan.before_bytes,
        "after_bytes": answer.plan.after_bytes,
        "removed": [
            {
                "kind": item.part.kind,
                "name": item.part.name,
                "label": item.part.label,
                "last_used_s": item.part.last_used_s,
                "freed_bytes": item.freed_bytes,
            }
            for item in answer.plan.removals
        ],
        "in_use": list(answer.in_use),
        "of_other_users": answer.others,
    }


def _name(layer: StoredLayer) -> str:
    return str(layer.ref) if layer.ref else "(in no environment)"


def _layer_row(layer: StoredLayer) -> tuple[str, ...]:
    unpacked = size_text(layer.ref.size_bytes) if layer.unpacked and layer.ref else "-"
    packed = size_text(layer.blob_bytes) if layer.blob_bytes else "-"
    count = str(len(layer.environments))
    return _name(layer), unpacked, packed, count, age_text(layer.last_used_s), layer.digest[:12]


def _age(content: StoreContent, id: str) -> str:
    return age_text(content.last_used_s[id]) if id in content.last_used_s else ""


def _layer(layer: StoredLayer) -> dict[str, Any]:
    return {
        "digest": layer.digest,
        "blob_bytes": layer.blob_bytes,
        "unpacked": layer.unpacked,
        "name": layer.ref.name if layer.ref else None,
        "version": layer.ref.version if layer.ref else None,
        "size_bytes": layer.ref.size_bytes if layer.ref else None,
        "last_used_s": layer.last_used_s,
        "environments": list(layer.environments),
    }


def _ready(content: StoreContent, id: str) -> str:
    return ", ".join(str(folder) for folder in content.ready if folder.name.startswith(f"{id[:32]}-")) or "-"


def _content(content: StoreContent) -> dict[str, Any]:
    return {
        "layers": [_layer(layer) for layer in content.layers],
        "environments": [
            {
                "id": manifest.id,
                "python": manifest.python,
                "platform": manifest.platform,
                "size_bytes": manifest.size_bytes,
                "layers": [ref.digest for ref in manifest.layers],
                "last_used_s": content.last_used_s[manifest.id],
                "ready": [str(folder) for folder in content.ready if folder.name.startswith(f"{manifest.id[:32]}-")],
            }
            for manifest in content.manifests
        ],
    }
