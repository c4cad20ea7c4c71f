"""Claim: packing what a script needs costs less CPU, and gives fewer bytes, than packing by tools that know no script.

NumPy and SciPy with nothing known of them: `envpack pack` of a script that imports both, from an environment that may
hold much more, against venv-pack, shiv, pex and `tar | zstd` of an environment that holds these two alone.

    python benchmarks/packing/cold.py [--python ENVIRONMENT/bin/python] [--rounds 5] [--quick] [--json]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from rounds import PEERS, PINNED, SCRIPT, Subject, make_environment, options, process, show, site_packages, take_turns
from rounds import work as work_folder


def ours(work: Path, python: str) -> Subject:
    (work / "script.py").write_text(SCRIPT)
    pack, store = work / "script.tar.zst", work / "store"

    def forget() -> None:
        pack.unlink(missing_ok=True)
        subprocess.run(["chmod", "-R", "u+w", store], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(store, ignore_errors=True)

    command = [sys.executable, "-m", "envpack", "pack", work / "script.py", "--python", python, "-o", pack]
    return Subject(
        "envpack pack, the script",
        lambda: process(command, ENVPACK_STORE=str(store), ENVPACK_INDEX_CACHE=str(work / "index")),
        forget,
        lambda: pack.stat().st_size,
    )


def tar_and_zstd(work: Path, environment: Path) -> Subject:
    archive = work / "environment.tar.zst"
    command = ["sh", "-c", 'tar -C "$1" -cf - . | zstd -q -3 -f -o "$2"', "sh", environment, archive]
    return Subject("tar | zstd -3, both alone", lambda: process(command), size=lambda: archive.stat().st_size)


def peers(work: Path, environment: Path, python: str) -> list[Subject]:
    tools = Path(make_environment(work / "peers", ["-r", str(PEERS)])).parent
    wheels = work / "wheels"
    download = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "-d", wheels, *PINNED]
    subprocess.run(download, check=True, stdout=sys.stderr)
    packed, zipped, executable = work / "environment.tar.gz", work / "environment.pyz", work / "environment.pex"

    def remove(file: Path) -> None:
        file.unlink(missing_ok=True)

    venv_pack = [tools / "venv-pack", "-q", "-p", environment, "-o", packed]
    shiv = [tools / "shiv", "--site-packages", site_packages(python), "-o", zipped]
    pex = [tools / "pex", *PINNED, "--no-pypi", "-f", wheels, "--python", python, "-o", executable]
    fresh = {"PEX_ROOT": str(work / "pex"), "SHIV_ROOT": str(work / "shiv")}

    def forget_pex() -> None:
        remove(executable)
        shutil.rmtree(work / "pex", ignore_errors=True)

    return [
        Subject("venv-pack, both alone", lambda: process(venv_pack), lambda: remove(packed), lambda: _size(packed)),
        Subject("shiv, both alone", lambda: process(shiv, **fresh), lambda: remove(zipped), lambda: _size(zipped)),
        Subject("pex, from the two wheels", lambda: process(pex, **fresh), forget_pex, lambda: _size(executable)),
    ]


def _size(file: Path) -> int:
    return file.stat().st_size


def main() -> None:
    chosen = options(__doc__ or "", 5)
    with work_folder() as work:
        alone = work / "alone"
        python = make_environment(alone)
        subjects = [ours(work, chosen.python or python), tar_and_zstd(work, alone)]
        if not chosen.quick:
            subjects += peers(work, alone, python)
        take_turns(subjects, chosen.rounds)
        show("pack NumPy and SciPy, cold", subjects, chosen.json)


if __name__ == "__main__":
    main()
