"""The command-line manners of every tool here: one line per mistake, a non-zero exit, no traceback."""

import os
import sys
from typing import Any

import click


class RefusedError(Exception):
    """Input that cannot be used: the message says what, where, and what it must be."""


class Tool(click.Group):
    """A command group that reports every foreseen mistake in one line on standard error.

    Exit status: 0 done, 1 refused input or a failed check, 2 a wrong option, 130 interrupted.
    """

    def main(self, *args: Any, **options: Any) -> Any:
        program = options.get("prog_name") or self.name or "tool"
        try:
            status = super().main(*args, **(options | {"standalone_mode": False}))
            sys.exit(status if isinstance(status, int) else 0)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.UsageError as error:
            where = error.ctx.command_path if error.ctx else program
            fail(f"{where}: {error.format_message()}", status=2)
        except click.Abort:
            fail(f"{program}: interrupted", status=130)
        except (click.ClickException, RefusedError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(1)
            text = error.format_message() if isinstance(error, click.ClickException) else _explain(error)
            fail(f"{program}: {text}", status=1)


def fail(message: str, *, status: int) -> None:
    """Print one line on standard error and exit."""
    click.echo(" ".join(message.split()), err=True)
    sys.exit(status)


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error)
