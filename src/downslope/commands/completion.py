"""`downslope completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from downslope.commands.common import COMMON, Common, show


def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], Parameter(help="the shell that the script is for")
    ],
    /,
    *,
    install: Annotated[
        bool,
        Parameter(negative="", help="write it where the shell finds it, and say where"),
    ] = False,
    common: Common = COMMON,
) -> int:
    """Complete commands and options in a shell.

    Prints a script to be read by the shell, or installs it: for bash and zsh a line is added to
    ~/.bashrc or ~/.zshrc.

    Example:
        $ downslope completion bash --install
        $ source <(downslope completion bash)
    """
    from downslope.cli import application

    app = application()
    if install:
        show(app.install_completion(shell=shell), as_json=False)
    else:
        show(app.generate_completion(shell=shell), as_json=False)
    return 0
