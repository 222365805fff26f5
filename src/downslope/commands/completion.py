"""`downslope completion`: completion of commands and options in a shell."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from downslope.commands.common import COMMON, Common, Switch, show


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="the shell of the script")],
    /,
    *,
    install: Annotated[
        Switch, Parameter(help="write the script to where the shell finds it, and print where")
    ] = False,
    common: Common = COMMON,
) -> int:
    """Complete commands and options in a shell.

    Prints a script for the shell, or installs it: for bash and zsh a line is added to
    ~/.bashrc or ~/.zshrc.

    Example:
        $ downslope completion bash --install
        $ source <(downslope completion bash)
    """
    from downslope.cli import application

    app = application()
    make = app.install_completion if install else app.generate_completion
    show(make(shell=shell), as_json=False)
    return 0
