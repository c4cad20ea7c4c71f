"""Which package index uv is to ask: its own configuration, or else that of pip.

People configure one installer, and packing for another machine must ask the index that filled the environment. What
the user has said to uv counts alone. Nothing of it is kept or printed, as addresses may have passwords in them.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Mapping

_UV_OWN = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"),
    *("UV_FIND_LINKS", "UV_NO_INDEX", "UV_CONFIG_FILE"),
)
_UV_FILES = ("~/.config/uv/uv.toml", "/etc/uv/uv.toml")
_PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
_SECTIONS = ("global", "install")
_KEYS = ("index-url", "extra-index-url", "find-links", "no-index", "cert", "trusted-host")


def uv_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a run of uv: those that are set, and what pip is configured with where uv is not.

    Args:
        environ: the variables of this process.
    """
    # Nothing is built, and no Python runs: one that uv fetches would be for nothing.
    own = {"UV_PYTHON_DOWNLOADS": "never", **environ}
    if any(environ.get(name) for name in _UV_OWN) or any(
        os.path.exists(_expanded(file, environ)) for file in _UV_FILES
    ):
        return own
    return own | _translated(pip_settings(environ), environ)


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what pip is configured with, from its files and variables: later ones win."""
    found: dict[str, str] = {}
    for file in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip will have said so
        for section in (name for name in _SECTIONS if parser.has_section(name)):
            found.update((key.replace("_", "-"), value) for key, value in parser.items(section))
    for key in _KEYS:
        if value := environ.get(f"PIP_{key.replace('-', '_').upper()}"):
            found[key] = value
    return {key: found[key] for key in _KEYS if found.get(key)}


def _translated(settings: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    # pip takes the best version of all indexes, uv by itself the first index that has the name at all.
    variables = {"UV_INDEX_STRATEGY": environ.get("UV_INDEX_STRATEGY", "unsafe-best-match")}
    if "index-url" in settings:
        variables["UV_DEFAULT_INDEX"] = settings["index-url"]
    if "extra-index-url" in settings:
        variables["UV_INDEX"] = " ".join(settings["extra-index-url"].split())
    if "find-links" in settings:
        variables["UV_FIND_LINKS"] = ",".join(settings["find-links"].split())
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        variables["UV_NO_INDEX"] = "1"
    if "cert" in settings and not environ.get("SSL_CERT_FILE"):
        variables["SSL_CERT_FILE"] = settings["cert"]
    if "trusted-host" in settings:
        variables["UV_INSECURE_HOST"] = " ".join(settings["trusted-host"].split())
    return variables


def _pip_files(environ: Mapping[str, str]) -> Iterable[str]:
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return ()
    files = [_expanded(file, environ) for file in _PIP_FILES]
    return [*files, os.path.join(sys.prefix, "pip.conf"), *([named] if named else [])]


def _expanded(file: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "")
    if file.startswith("~/.config/"):
        return os.path.join(environ.get("XDG_CONFIG_HOME") or f"{home}/.config", file.removeprefix("~/.config/"))
    return file.replace("~", home, 1) if file.startswith("~") else file
