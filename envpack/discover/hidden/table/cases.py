"""The words in which the table is written: triggers without conditions, and cases by the value of an argument."""

from __future__ import annotations

from envpack.discover.hidden.triggers import Case, Given, Trigger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envpack.discover.hidden.triggers import Reached


def simple(library: str, needs: str, *names: str, reached: Reached = "function") -> Trigger:
    """Return a trigger without conditions."""
    return Trigger(library, names, (Case(needs),), reached=reached)


def imports(needs: str, *modules: str) -> Trigger:
    """Return a trigger for the import of modules."""
    return Trigger(modules[0].partition(".")[0], modules, (Case(needs),), reached="import")


def when(needs: str, position: int | None, keyword: str, *values: object) -> Case:
    """Return a case for exact values of an argument."""
    return Case(needs, Given(position, keyword, values=values))


def ends(needs: str, keyword: str, *ends: str, position: int = 0) -> Case:
    """Return a case for the ending of a path."""
    return Case(needs, Given(position, keyword, ends=ends))


def starts(needs: str, position: int | None, keyword: str, *starts: str) -> Case:
    """Return a case for the beginning of a text."""
    return Case(needs, Given(position, keyword, starts=starts))


# Of what else has a protocol, urllib opens these.
_FSSPEC_ADDRESS = r"^(?!(?:https?|ftps?|file|rsync|sftp|svn)://)[A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.-]+)*(?:::|://)"


def protocols(position: int | None, keyword: str) -> tuple[Case, ...]:
    """Return the cases for addresses that fsspec opens."""
    return (
        starts("fsspec + s3fs", position, keyword, "s3://", "s3a://"),
        starts("fsspec + gcsfs", position, keyword, "gs://", "gcs://"),
        starts("fsspec + adlfs", position, keyword, "abfs://", "abfss://", "az://", "adl://"),
        starts("fsspec + paramiko", position, keyword, "sftp://", "ssh://"),
        starts("fsspec + huggingface_hub", position, keyword, "hf://"),
        starts("fsspec + pyarrow", position, keyword, "hdfs://"),
        starts("fsspec + smbprotocol", position, keyword, "smb://"),
        starts("fsspec + requests", position, keyword, "github://", "webhdfs://"),
        Case("fsspec", Given(position, keyword, holds=(_FSSPEC_ADDRESS,))),
    )
