"""Coverage-guided fuzzing of the readers, by atheris: `nox -s fuzz -- sdf 20m`. No test of the suite; finds new ones.

A reader may read what it is given or refuse it with the errors that it declares. Anything else is a finding: the input
that made it is kept as ``crash-…`` in the folder it was started in.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hydrogate", "ase.io", "ase.db", "h5py"]):
    from hydrogate.checks.dataset import UnreadableData
    from hydrogate.checks.declared import BadParams, load_yaml
    from hydrogate.pipeline.formats import FORMATS, read

SUFFIX = {name: item.suffixes[0] for name, item in FORMATS.items() if item.suffixes} | {"yaml": ".yaml"}
SECONDS = {"s": 1, "m": 60, "h": 3600}
SLOWEST, MEMORY = 20, 4096  # s and MB for one input


def main() -> None:
    """Fuzz the reader that is named for as long as is said; of files named behind it the fuzzer learns the format."""
    kind, duration, *seeds = [*sys.argv[1:], "sdf", "20m"][: max(2, len(sys.argv) - 1)]
    if kind not in SUFFIX:
        sys.exit(f"{kind}: no reader; known: {', '.join(SUFFIX)}")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    path = folder / f"input{SUFFIX[kind]}"

    def one(content: bytes) -> None:
        path.write_bytes(content)
        try:
            if kind == "yaml":
                load_yaml(path)
            else:
                read(path, kind)
        except (BadParams, UnreadableData):
            return

    corpus = folder / "corpus"
    corpus.mkdir()
    for index, seed in enumerate(seeds):
        (corpus / str(index)).write_bytes(Path(seed).read_bytes())
    limits = [f"-max_total_time={int(duration[:-1]) * SECONDS[duration[-1]]}", f"-timeout={SLOWEST}"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, f"-rss_limit_mb={MEMORY}", "-max_len=65536"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
