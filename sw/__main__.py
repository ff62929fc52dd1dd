"""Command line of the software side: ``python -m sw --help``."""

from importlib import import_module

import click

from hdl.console import Tool

# Where each command is: module and object.
COMMANDS = {
    "train": "train:train",
    "import": "published:import_checkpoint",
    "export": "export:export",
    "pack": "pack:pack",
    "plan": "plan:plan",
    "run": "run:run",
    "verify": "verify:verify",
    "levels": "levels:levels",
    "tables": "tables:tables",
    "compare": "compare:compare",
}


class Commands(Tool):
    """Imports a command's module when it is asked for."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(f"sw.{module}"), name)
        assert isinstance(command, click.Command)
        return command


@click.command(
    cls=Commands,
    epilog="""\b
    Examples:
      python -m sw train --progressive --bits 4/4 -o build/net.pt
      python -m sw export build/net.pt -o build/net.safetensors
      python -m sw import model_best.pth.tar --model resnet20 --bits 4 -o build/theirs.pt
      python -m sw levels --family laplace --planes 3
    """,
)
def main() -> None:
    """Train quantized networks and prepare them for the hardware."""


if __name__ == "__main__":
    main(prog_name="python -m sw")
