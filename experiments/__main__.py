"""`mammo VERB ...`: the same verbs as `python -m experiments.VERB`."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

from experiments.cli import fail, run

PRIVATE = {"__init__", "__main__", "cli", "display", "data_options"}


def main() -> None:
    """Hand over to the verb named first."""
    verbs = files()
    verb = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if verb in ("", "-h", "--help"):
        print("usage: mammo VERB ...")
        for each, path in verbs.items():  # what a verb does is the first line of its file; reading it imports nothing
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            print(f"  {each:8} {text.partition(chr(10))[0].partition(':')[0]}")
        print("`mammo VERB --help` says more")
        sys.exit(0 if verb else 2)
    if verb not in verbs:
        fail(f"no verb {verb!r}; known: {', '.join(verbs)}")
    package = verbs[verb].name == "__main__.py"
    run(importlib.import_module(f"experiments.{verb}{'.__main__' if package else ''}").app)


def files() -> dict[str, Path]:
    """The file of each verb: a module of this folder, or a package's `__main__`."""
    here = Path(__file__).parent
    found = {path.stem: path for path in here.glob("*.py") if path.stem not in PRIVATE}
    found |= {path.parent.name: path for path in here.glob("*/__main__.py")}
    return dict(sorted(found.items()))


if __name__ == "__main__":
    main()
