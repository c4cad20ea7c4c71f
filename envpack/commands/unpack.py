"""`envpack unpack`: a pack into a folder of its own, ready to run."""

from __future__ import annotations

import click

from envpack.commands.output import size_text


@click.command()
@click.argument("file", metavar="PACK", type=click.Path())
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--python", metavar="PYTHON", help="Interpreter to stand on.  [default: one that fits]")
def unpack(file: str, folder: str, python: str | None) -> None:
    """Unpack PACK into the new folder DIR; DIR/bin/python runs without activation, also after DIR is moved.

    PACK is a pack, a plain archive, or an archive by conda-pack or venv-pack.

    Some packages of conda have the path of DIR in their files. After a move DIR/bin/envpack-relocate, which is there
    then, writes the new one. Every file is verified while it is written; a pack that is damaged leaves nothing behind.
    """
    import os

    from envpack.pack import unpack as into
    from envpack.pack.layer.placeholders import RELOCATE

    manifest = into(file, folder, python=python)
    files = sum(ref.files for ref in manifest.layers)
    click.echo(f"{folder}/bin/python: {len(manifest.layers)} layers, {files} files, {size_text(manifest.size_bytes)}")
    if os.path.exists(f"{folder}/{RELOCATE}"):
        click.echo(f"after a move run {folder}/{RELOCATE}")
