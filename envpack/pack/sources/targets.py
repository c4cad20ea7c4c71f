"""Another machine as the target of a pack: which Python it has, and which wheels it takes.

Pure: texts in, a value out. A platform is named as wheels name it (`manylinux_2_28_aarch64`, `macosx_11_0_arm64`) or as
Python names its own (`linux-aarch64`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from envpack.errors import UsageError

_VERSION = re.compile(r"3\.\d+(?:\.\d+)?", re.ASCII)
_MANYLINUX = re.compile(r"manylinux(?:_2_(\d+)|(2014))_(x86_64|aarch64)", re.ASCII)
_LINUX = re.compile(r"linux[-_](x86_64|aarch64)")
_MACOS = re.compile(r"macosx[-_](\d+)[._](\d+)[-_](x86_64|arm64)", re.ASCII)

# The releases of glibc that uv knows; of those in between it takes the wheels of the one before.
_GLIBC_RELEASES = (17, 28, *range(31, 41))
_MANYLINUX_2014 = 17
# What a node has that nothing more is known of: RHEL 8 and all that is newer.
USUAL_GLIBC = 28
_EXPECTED = "manylinux_2_N_ARCH with ARCH x86_64 or aarch64, or macosx_X_Y_ARCH with ARCH x86_64 or arm64"


@dataclass(frozen=True, slots=True)
class PackTarget:
    """A machine that is not at hand.

    Attributes:
        version: version of its CPython, such as `3.12`, or `3.12.4` where it is known so well.
        platform: what its Python calls its platform, such as `linux-aarch64`.
        wheels: what uv calls the wheels that it takes, such as `aarch64-manylinux_2_28`.
        macos: the release of macOS that it has at least, such as `11.0`; empty for others.
    """

    version: str
    platform: str
    wheels: str
    macos: str = ""

    @property
    def python(self) -> str:
        """Its version as a tag: `3.12`."""
        return ".".join(self.version.split(".")[:2])

    @property
    def abi(self) -> str:
        """The tag of its extension modules: `cp312`."""
        return f"cp{self.python.replace('.', '')}"

    def __str__(self) -> str:
        return f"Python {self.version} on {self.platform}"


def is_version(python: str) -> bool:
    """Tell whether `--python` names a version, and so a Python that need not be here, instead of an interpreter."""
    return _VERSION.fullmatch(python) is not None


def pack_target(version: str, platform: str, glibc: int = USUAL_GLIBC) -> PackTarget:
    """Return the target of a version and a platform.

    Args:
        version: such as `3.12`.
        platform: such as `manylinux_2_28_aarch64`.
        glibc: minor version of the glibc of a target whose platform does not say it.

    Raises:
        UsageError: no wheels are known for that platform.
    """
    if match := _MANYLINUX.fullmatch(platform):
        return _linux(version, match[3], int(match[1] or _MANYLINUX_2014), platform)
    if match := _LINUX.fullmatch(platform):
        return _linux(version, match[1], glibc, platform)
    if match := _MACOS.fullmatch(platform):
        release, machine = f"{match[1]}.{match[2]}", match[3]
        wheels = f"{'aarch64' if machine == 'arm64' else machine}-apple-darwin"
        return PackTarget(version, f"macosx-{release}-{machine}", wheels, release)
    raise UsageError(f"platform {platform!r} met, {_EXPECTED} expected")


def _linux(version: str, machine: str, glibc: int, platform: str) -> PackTarget:
    known = [release for release in _GLIBC_RELEASES if release <= glibc]
    if not known:
        raise UsageError(
            f"platform {platform!r} met, with glibc 2.{glibc}; 2.{_GLIBC_RELEASES[0]} or newer expected",
            f"name manylinux2014_{machine}",
        )
    return PackTarget(version, f"linux-{machine}", f"{machine}-manylinux_2_{known[-1]}")
