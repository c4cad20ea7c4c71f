from rich.console import Console
from rich.table import Table

from . import __version__


def show(records, groups):
    table = Table(title=f"genes {__version__}")
    table.add_column("group")
    table.add_column("proteins")
    proteins = {record.id: record.annotations["protein"] for record in records}
    for group in groups:
        table.add_row(" ".join(group), " ".join(proteins[name] for name in group))
    Console(width=60, force_terminal=False).print(table)
