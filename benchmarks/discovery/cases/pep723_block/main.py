# /// script
# requires-python = ">=3.11"
# dependencies = ["click", "rich"]
# ///
import click
import sortedcontainers


@click.command()
@click.option("--n", default=3)
def main(n):
    click.echo(sortedcontainers.SortedList(range(n, 0, -1))[0])


main(standalone_mode=False)
