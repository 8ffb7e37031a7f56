"""Where the command ``hydrogate`` starts: Ctrl-C during its imports is said in one line too."""

import sys

INTERRUPTED = 130  # as hydrogate.pipeline.program has it, which is slow to import


def main() -> None:
    """The console command's entry point."""
    try:
        from hydrogate.pipeline.cli import main as command
    except KeyboardInterrupt:
        print("interrupted before anything was done", file=sys.stderr)
        sys.exit(INTERRUPTED)
    command()
