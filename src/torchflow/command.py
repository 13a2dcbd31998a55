"""The command for people: ``torchflow inspect``, ``verify`` and ``resume-plan`` look at the folder of a run, and only look.

``torchflow cache list`` looks at the caches in a folder, and ``torchflow cache clear`` removes those that nobody uses.

The exit status is 0; 1 where ``inspect`` or ``verify`` found damage, ``resume-plan`` nothing to go on from, or ``clear`` left something;
2 where there was no run, or no folder, to look at.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import torchflow
from torchflow import arguments
from torchflow.cached_folders import caches_in, clear_caches
from torchflow.errors import TorchflowError
from torchflow.inspection import inspect, resume_plan, verify
from torchflow.report import cache_lines, cleared_lines, escaped, inspection_lines, plain, plan_lines, verification_lines

FINE, BAD, NO_RUN, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The words after ``torchflow``; None: those of the process.
    """
    options = _parser().parse_args(argv)
    try:
        facts, lines, status = _answer(options)
        text = json.dumps(plain(dataclasses.asdict(facts)), indent=1, allow_nan=False) if options.json else "\n".join(lines)
    except (TorchflowError, OSError) as error:
        _print(f"torchflow {' '.join(filter(None, (options.command, options.action)))}: {' '.join(str(error).split())}", sys.stderr)
        return NO_RUN
    except KeyboardInterrupt:
        return INTERRUPTED
    _print(text, sys.stdout)
    return status


def _answer(options: argparse.Namespace) -> tuple[Any, Iterable[str], int]:
    """Return the facts, the lines that tell them, and the exit status."""
    folder: Path = arguments.path("FOLDER", options.folder)
    if options.action == "list":
        caches = caches_in(folder, options.older_than)
        return caches, cache_lines(caches), FINE
    if options.action == "clear":
        done = clear_caches(folder, options.older_than)
        return done, cleared_lines(done), BAD if done.left else FINE
    if options.command == "inspect":
        seen = inspect(folder, options.rows)
        return seen, inspection_lines(seen), FINE if all(entry.sound for entry in seen.checkpoints) else BAD
    if options.command == "verify":
        read = verify(folder)
        return read, verification_lines(read), FINE if all(entry.sound for entry in read.checkpoints) else BAD
    plan = resume_plan(folder)
    return plan, plan_lines(plan), BAD if plan.position is None else FINE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchflow",
        description="Look at the folder of a run, which changes nothing and may be done while it writes; list and clear caches.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"torchflow {torchflow.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (
        ("inspect", "its checkpoints, seed, data, environment and history; status 1 if a checkpoint is not sound"),
        ("verify", "read every byte of every checkpoint; status 1 if one is not sound"),
        ("resume-plan", "what fit(resume=True) would do; status 1 if there is nothing to go on from"),
    ):
        command = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        command.add_argument("folder", metavar="FOLDER", help="the folder that Checkpoints(...) was given")
        command.add_argument("--json", action="store_true", help="print JSON for programs instead of text for people")
        command.set_defaults(action=None)
        if name == "inspect":
            command.add_argument("--rows", metavar="N", type=_count, help="only the last N rows of the history")
    _add_cache(commands.add_parser("cache", help="list or clear the caches in a folder", allow_abbrev=False))
    return parser


def _add_cache(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, what in (
        ("list", "the caches in a folder: their room, when they were used last, and what they were made of"),
        ("clear", "remove the caches in a folder that nobody uses, and nothing else; status 1 if one was left"),
    ):
        action = actions.add_parser(name, help=what, description=what, allow_abbrev=False)
        action.add_argument(
            "folder", metavar="FOLDER", help="the folder that cache(...) or cache=... was given, or one cache in it"
        )
        action.add_argument(
            "--older-than", metavar="DAYS", type=_days, default=0.0, help="only those that nobody has used for so long"
        )
        action.add_argument("--json", action="store_true", help="print JSON for programs instead of text for people")


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not (math.isfinite(days) and days >= 0):
        raise argparse.ArgumentTypeError(f"DAYS must be a number from 0 on, got {escaped(text)!r}")
    return days


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"N must be a whole number from 0 on, got {escaped(text)!r}")
    return int(text)


def _print(text: str, stream: TextIO) -> None:
    """Print what the stream can spell, and spell out the rest."""
    encoding = stream.encoding or "utf-8"
    lines = "\n".join(escaped(line) for line in text.split("\n")) + "\n"
    try:
        stream.write(lines.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough; the interpreter must not flush into the pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
