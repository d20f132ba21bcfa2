"""What all verbs share: bad input ends in one line and exit code 2, an interrupt in 130."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer


def run(app: typer.Typer) -> NoReturn:
    """Run a verb."""
    from mammo_lightning.errors import MammoError

    try:
        app()
    except MammoError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def pairs(values: list[str], option: str) -> dict[str, str]:
    """`name=value` options as a dict."""
    from mammo_lightning.errors import SettingsError

    split = [value.partition("=") for value in values]
    for value, (name, sign, text) in zip(values, split, strict=True):
        if not (name and sign and text):
            raise SettingsError(f"{option} {value!r} is not name=value, for instance {option} depth=3")
    return {name: text for name, _, text in split}
