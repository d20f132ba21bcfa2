"""What all verbs share: bad input ends in one line and exit code 2, an interrupt in 130."""

from __future__ import annotations

import signal
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

INTERRUPTED = 130
#: what typer raises at a wrong option; which module it lives in depends on typer's version
MISUSE: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


class Verb(TyperCommand):
    """A command whose help is plain columns under headings: rich's panels take longer to import than all the rest."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options under the heading they were declared with."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            if (shown := each.get_help_record(ctx)) is not None:
                heading = "Arguments" if each.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(each, "rich_help_panel", None) or heading, []).append(shown)
        for heading, rows in sections.items():
            with formatter.section(typer.style(heading, bold=True)):
                formatter.write_dl([(typer.style(name, fg="cyan"), text) for name, text in rows])


def verb() -> typer.Typer:
    """The app of one verb."""
    return typer.Typer(add_completion=False, rich_markup_mode=None)


def run(app: typer.Typer) -> NoReturn:
    """Run a verb."""
    from mammo_lightning.errors import MammoError

    try:
        code = app(standalone_mode=False)
    except MammoError as error:
        fail(str(error))
    except MISUSE as error:
        fail(f"{error.format_message().rstrip('.')}. Try --help")  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("interrupted; the same command continues", file=sys.stderr)
    sys.exit(code or 0)


def fail(message: str) -> NoReturn:
    """End with one line and exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def named_values(values: list[str], option: str) -> dict[str, str]:
    """`name=value` options as a dict."""
    from mammo_lightning.errors import SettingsError

    split = [value.partition("=") for value in values]
    for value, (name, sign, text) in zip(values, split, strict=True):
        if not (name and sign and text):
            raise SettingsError(f"{option} {value!r} is not name=value, for instance {option} depth=3")
    return {name: text for name, _, text in split}


def stop_at_interrupt(progress: Any) -> None:
    """The first Ctrl-C ends the epoch and keeps what is finished; the second stops now."""

    def handle(number: int, frame: object) -> None:
        if progress.stopping:
            raise KeyboardInterrupt
        progress.stopping = True
        print("stopping after this epoch; again to stop now", file=sys.stderr)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
