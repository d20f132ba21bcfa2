"""`mammo VERB ...`: the same verbs as `python -m experiments.VERB`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from experiments.cli import run

PRIVATE = {"__init__", "__main__", "cli", "display"}


def main() -> None:
    """Hand over to the verb named first."""
    verbs = sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - PRIVATE)
    if len(sys.argv) < 2 or sys.argv[1] not in verbs:
        asked = len(sys.argv) > 1 and sys.argv[1] not in ("-h", "--help")
        print(f"usage: mammo VERB ...\nverbs: {', '.join(verbs)}\n`mammo VERB --help` says more", file=sys.stderr)
        sys.exit(2 if asked or len(sys.argv) < 2 else 0)
    verb = sys.argv.pop(1)
    run(importlib.import_module(f"experiments.{verb}").app)


if __name__ == "__main__":
    main()
