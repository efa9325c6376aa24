"""The commands by name, each loaded when it is asked for: a server has no use for what the others stand on."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from orchestrator.cli.exit_codes import INTERRUPTED


class Commands(click.Group):
    """What the system refuses a command, such as room for its output, ends it with one line and no traceback."""

    def __init__(self, *words: Any, modules: Mapping[str, str], **options: Any) -> None:
        """`modules` says for each command in which module of this package it is."""
        super().__init__(*words, **options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = self._modules.get(cmd_name)
        return None if module is None else getattr(import_module(f"orchestrator.cli.{module}"), cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Nobody reads on: click ends in silence.
            raise
        except OSError as error:
            from orchestrator.cli.console import fail

            fail(69, f"{type(error).__name__}: {error.strerror}")
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
