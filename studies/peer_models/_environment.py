"""Available peers, and the virtual environment of each."""

import hashlib
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import NamedTuple

from hydrogate.models.names import module_names

# Source: PEP 723, the regular expression of its reference implementation, for the type ``script``.
METADATA = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


class Peer(NamedTuple):
    """A peer file of this folder: its requirements, in the order of installation, and its models.

    ``not_trained`` is the reason why the models are not trained here; None if they are.
    """

    name: str
    script: Path
    requirements: tuple[str, ...]
    contestants: tuple[str, ...]
    not_trained: str | None


class NotInstalled(RuntimeError):
    """Raised if the environment of a peer cannot be created; the message is the reason."""


def peers(folder: Path = Path(__file__).parent) -> list[Peer]:
    """Return the peers in ``folder``, read from their inline metadata; no peer is imported."""
    return [_read(folder / f"{name}.py") for name in module_names(folder)]


def _read(script: Path) -> Peer:
    found = METADATA.search(script.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{script}: no inline metadata (a comment `# /// script`) with its requirements")
    content = tomllib.loads(re.sub(r"(?m)^# ?", "", found["content"]))
    about = content["tool"]["hydrogate"]
    contestants, reason = tuple(about["contestants"]), about.get("not_trained")
    return Peer(script.stem, script, tuple(content["dependencies"]), contestants, reason)


def interpreter(peer: Peer, root: Path) -> Path:
    """Return the Python of the environment ``root/<name>``, which is created if it is missing or out of date.

    Raises
    ------
    NotInstalled
        Installation failed. The message has the last line of the installer; its full output is in ``root/<name>.log``.
    """
    folder, log = root / peer.name, root / f"{peer.name}.log"
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    stamp, wanted = folder / "installed", hashlib.sha256("\n".join(peer.requirements).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    root.mkdir(parents=True, exist_ok=True)
    venv.create(folder, clear=True, with_pip=True, symlinks=sys.platform != "win32")
    with log.open("w") as output:
        # One by one, torch first, so that later requirements keep its build.
        for requirement in peer.requirements:
            command = [str(python), "-m", "pip", "install", "--quiet", requirement]
            if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode:
                lines = log.read_text(errors="replace").strip().splitlines() or ["no output from pip"]
                raise NotInstalled(f"{requirement} cannot be installed: {lines[-1]}")
    stamp.write_text(wanted)
    return python
