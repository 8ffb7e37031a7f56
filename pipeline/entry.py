"""Entry point of the command ``hydrogate``; it also reports Ctrl-C during the slow imports in one line."""

import sys

INTERRUPTED = 130  # same value as in hydrogate.pipeline.program, which is slow to import


def main() -> None:
    """Run the console command."""
    try:
        from hydrogate.pipeline.cli import main as command
    except KeyboardInterrupt:
        print("interrupted before anything was done", file=sys.stderr)
        sys.exit(INTERRUPTED)
    command()
