"""`mammo VERB ...`: the same verbs as `python -m experiments.VERB`."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

from experiments.cli import fail, run

PRIVATE = {"__init__", "__main__", "cli", "display"}


def main() -> None:
    """Hand over to the verb named first."""
    verbs = sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - PRIVATE)
    verb = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if verb in ("", "-h", "--help"):
        print("usage: mammo VERB ...")
        for each in verbs:  # what a verb does is the first line of its file; reading it imports nothing
            text = ast.get_docstring(ast.parse((Path(__file__).parent / f"{each}.py").read_text())) or ""
            print(f"  {each:8} {text.partition(chr(10))[0].partition(':')[0]}")
        print("`mammo VERB --help` says more")
        sys.exit(0 if verb else 2)
    if verb not in verbs:
        fail(f"no verb {verb!r}; known: {', '.join(verbs)}")
    run(importlib.import_module(f"experiments.{verb}").app)


if __name__ == "__main__":
    main()
