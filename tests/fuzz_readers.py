"""Coverage-guided fuzzing of the readers, by atheris: `nox -s fuzz -- sdf 20m`. No test of the suite; finds new ones.

A reader may read what it is given or refuse it with the errors that it declares. Anything else is a finding: the input
that made it is kept as ``crash-…`` in the folder it was started in.
"""

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import atheris
import yaml

with atheris.instrument_imports(include=["hydrogate", "ase.io", "ase.db", "h5py"]):
    from hydrogate.checks.errors import BadParams, UnreadableData
    from hydrogate.checks.render.html.page import html_page
    from hydrogate.models.student_file import UnreadableStudent, load_student
    from hydrogate.pipeline.decision import decide, plan
    from hydrogate.pipeline.formats import FORMATS, read
    from hydrogate.pipeline.params import load_params
    from hydrogate.pipeline.reports import report
    from hydrogate.pipeline.reports.report_html import gather
    from hydrogate.pipeline.stages.guard import readable_reports

ROOT = Path(__file__).resolve().parents[1]


def reported(path: Path) -> None:
    """Decide and report where ``path`` is one of the files in ``metrics/``."""
    root = path.parents[1]
    with suppress(ValueError):  # says what was not measured
        plan.run(root)
    report.run(root, stale=[])
    html_page(gather(root, decide.run(root, lambda _: []), tuple(readable_reports(root))))


# What opens each kind of file, in a folder of its own, and what the file is called there.
MOUTHS: dict[str, tuple[str, Callable[[Path], object]]] = {
    name: (f"input{(*item.suffixes, '.h5')[0]}", partial(read, input_format=name)) for name, item in FORMATS.items()
} | {
    "params": ("params.yaml", load_params),
    "student": ("student.safetensors", load_student),
    "metrics": ("metrics/validation.json", reported),
}
ODD: tuple[object, ...] = (None, True, -1, 0, 2**63, 1e308, float("nan"), "", "é\0", "0", [], {}, [[]], {"": 0}, [None])
SECONDS = {"s": 1, "m": 60, "h": 3600}
SLOWEST, MEMORY = 60, 4096  # s and MB for one input; HDF5 has 5 s of processor time at each place


def main() -> None:
    """Fuzz the reader that is named for as long as is said; of files named behind it the fuzzer learns the format."""
    kind, duration, *seeds = [*sys.argv[1:], "sdf", "20m"][: max(2, len(sys.argv) - 1)]
    if kind not in MOUTHS:
        sys.exit(f"{kind}: no reader; known: {', '.join(MOUTHS)}")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    name, opened = MOUTHS[kind]
    if kind == "metrics":  # a project, of which that file is spoiled whose name the seed has
        shutil.copytree(ROOT / "metrics", folder / "metrics")
        shutil.copy(ROOT / "params.yaml", folder)
        name = f"metrics/{Path(seeds[0]).name}" if seeds else name
    path = folder / name

    def one(content: bytes) -> None:
        path.write_bytes(content)
        try:
            opened(path)
        except (BadParams, UnreadableData, UnreadableStudent):
            return
        except Exception:
            # Left to atheris, the interpreter is taken down first, and the input may be lost.
            traceback.print_exc()
            Path(f"crash-{hashlib.sha256(content).hexdigest()[:16]}").write_bytes(content)
            os._exit(1)

    corpus = folder / "corpus"
    corpus.mkdir()
    longest = 65536
    for index, seed in enumerate(seeds):
        (corpus / str(index)).write_bytes(content := Path(seed).read_bytes())
        longest = max(longest, 2 * len(content))  # a seed that is cut is no file of its kind
    mutator = {"custom_mutator": MUTATORS[kind]} if kind in MUTATORS else {}
    limits = [f"-max_total_time={int(duration[:-1]) * SECONDS[duration[-1]]}", f"-timeout={SLOWEST}"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, f"-rss_limit_mb={MEMORY}", f"-max_len={longest}"], one, **mutator)
    atheris.Fuzz()


def reshaped(content: bytes, most: int, seed: int) -> bytes:
    """``content`` with one value, however deep, replaced, removed or put elsewhere; other bytes where that fails."""
    rng = random.Random(seed)
    try:
        value = yaml.load(content, yaml.CSafeLoader)
        places = list(_places(value))
        holder, key = rng.choice(places)
        if rng.random() < 0.2:
            del holder[key]
        else:
            donor, of = rng.choice(places)
            # Through JSON, so that no value holds itself.
            holder[key] = json.loads(json.dumps(rng.choice([*ODD, donor[of], donor[of]])))
        changed = json.dumps(value).encode()
    except (yaml.YAMLError, TypeError, ValueError, IndexError, RecursionError):
        changed = b""
    return changed if 0 < len(changed) <= most else atheris.Mutate(content, most)


def reshaped_student(content: bytes, most: int, seed: int) -> bytes:
    """As `reshaped`, of the header of a safetensors file, or of what a student says of itself in there."""
    end = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:end])
        if seed % 4:
            about = reshaped(header["__metadata__"]["hydrogate"].encode(), most, seed)
            header["__metadata__"]["hydrogate"] = about.decode()
            changed = json.dumps(header).encode()
        else:
            changed = reshaped(content[8:end], most, seed)
        changed = len(changed).to_bytes(8, "little") + changed + content[end:]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        changed = b""
    return changed if 0 < len(changed) <= most else atheris.Mutate(content, most)


# Of nested text, bytes changed at random leave none, and nothing behind the parser is reached.
MUTATORS = {"json": reshaped, "params": reshaped, "metrics": reshaped, "student": reshaped_student}


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


if __name__ == "__main__":
    main()
