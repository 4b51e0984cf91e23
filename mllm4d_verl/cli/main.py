"""The `mllm4d` command: finds the group that was asked for and imports only that one."""

from __future__ import annotations

import errno
import importlib
import re
import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from mllm4d_verl import __version__
from mllm4d_verl.data_tools.errors import InputError

# name: (module with a typer `app`, one-line help). The help stands here so that `mllm4d --help` imports no group.
GROUPS: dict[str, tuple[str, str]] = {
    "data": ("mllm4d_verl.cli.data", "Make clips, questions and training files; convert released formats."),
    "train": ("mllm4d_verl.cli.train", "Run a recipe: sft, cold-start, grpo (prints the verl command)."),
    "eval": ("mllm4d_verl.cli.eval", "Generate answers with vLLM and score them."),
    "study": (
        "mllm4d_verl.cli.study",
        "Compare rewards, or any settings, from one YAML: arms x seeds, tables and curves.",
    ),
    "reward": ("mllm4d_verl.cli.reward", "Score, explain, compare and replay responses, without a model."),
    "doctor": ("mllm4d_verl.cli.doctor", "Check that plugin, versions, reward, dataset and prompts fit together."),
    "demo": ("mllm4d_verl.cli.demo", "World, questions, tiny model, SFT, cold start, GRPO, table: the whole way."),
}

# Exit codes: 0 all well, 1 the command ran and found a fault (doctor), 2 bad input or an error of the system (a full
# disk), 130 interrupted.
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class _LazyGroups(TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:
        return list(GROUPS)

    def get_command(self, ctx: typer.Context, cmd_name: str):
        if cmd_name not in GROUPS:
            return None
        module = importlib.import_module(GROUPS[cmd_name][0])
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: typer.Context, formatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in GROUPS.items()])


# Plain help at the top: typer's rich help would ask every group for its command, and so import all of them.
app = typer.Typer(
    cls=_LazyGroups,
    help="Teach video language models to reason in 4D with stock verl.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mllm4d {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


# What the operating system refuses, and what a user can do about it.
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some room and run the same command again"),
    errno.EFBIG: "The file system or `ulimit -f` limits the size of files: raise it, or write elsewhere",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Change its permissions, or name another place"),
    errno.EROFS: "The file system is read-only: name another place",
    errno.ENOTDIR: "A part of the path is a file, not a folder: correct it",
    errno.EISDIR: "It is a folder: name a file",
    errno.ENOENT: "Correct the path",
    errno.ENAMETOOLONG: "Shorten the name",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Too many files are open: raise `ulimit -n`, or use fewer workers"),
    errno.ENOMEM: "Use fewer workers, or a machine with more memory",
    errno.EAGAIN: "The machine has no more processes or threads to give: raise `ulimit -u`, or use fewer workers",
    errno.EIO: "The disk reports a fault: look at it before you go on",
    errno.ELOOP: "Links of the path point to each other: correct it",
}
# Libraries such as Arrow put the number into their message only.
_ERRNO = re.compile(r"\[Errno ([0-9]{1,3})\]")


def system_message(error: OSError | MemoryError) -> str | None:
    """One line about an error of the operating system, with a remedy; None where it is none that a user can mend."""
    if isinstance(error, MemoryError):
        return f"memory ran out{f' ({error})' if str(error) else ''}. {_REMEDIES[errno.ENOMEM]}"
    number = error.errno
    if number is None and (match := _ERRNO.search(str(error))):
        number = int(match[1])
    if number not in _REMEDIES:
        return None
    place = f"file {error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}. {_REMEDIES[number]}"


def _complain(message: str) -> None:
    from mllm4d_verl.terminal import visible

    print(f"mllm4d: {visible(message)}", file=sys.stderr)


def main() -> None:
    """Console entry point: bad input and what the system refuses become a message and exit code 2, not a traceback."""
    try:
        app(prog_name="mllm4d")
    except InputError as error:
        _complain(str(error))
        sys.exit(EXIT_BAD_INPUT)
    except (OSError, MemoryError) as error:
        message = system_message(error)
        if message is None:
            raise
        _complain(message)
        sys.exit(EXIT_BAD_INPUT)
    except (KeyboardInterrupt, SystemExit) as end:
        # typer turns Ctrl-C into a silent exit with this code.
        if isinstance(end, SystemExit) and end.code != EXIT_INTERRUPTED:
            raise
        print("mllm4d: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
