"""The job that a user wants: what the options that describe one mean together."""

from __future__ import annotations

import math
import os
import shlex
import time
from typing import Any

from .. import __version__
from ..compose import Mount, new_id
from ..errors import UsageError
from ..fs import decode_path
from ..job import default_claims
from ..records import Job, is_suffix


def names_a_task(options: dict[str, Any]) -> bool:
    """Whether the options say what to run, rather than leave it to the job or the default."""
    return options["task"] is not None or options["command"] is not None


def wanted_job(mount: Mount, options: dict[str, Any]) -> Job:
    """The job that `job_options` describe. Raises UsageError for what does not fit together."""
    task, command = options["task"], options["command"]
    if task is not None and command is not None:
        raise UsageError("--task and --command exclude each other; give one")
    if options["errors"] not in ("strict", "replace"):
        raise UsageError(f"--errors {options['errors']!r} is unknown; there are strict and replace")
    if options["claims"] not in (None, "rename", "marker"):
        raise UsageError(f"--claims {options['claims']!r} is unknown; there are rename and marker")
    if not is_suffix(options["suffix"]):
        raise UsageError(f"--suffix {options['suffix']!r} is not a dot and a few letters or digits, such as .json")
    for name in ("timeout", "backoff", "patience", "grace"):
        if not math.isfinite(options.get(name) or 0.0):
            raise UsageError(f"--{name} must be a number of seconds")
    timeout = options["timeout"]
    if timeout is not None and timeout <= 0:
        raise UsageError("--timeout must be more than 0 seconds")
    argv = _arguments(command)
    if argv and options["split"] is not None:
        raise UsageError("--split needs a task that says how parts are merged; a program cannot: leave one of both out")
    name = "command" if argv else task or "wordcount"
    if not argv and name != "wordcount" and ":" not in name:
        raise UsageError(f"--task {name!r} is neither built in nor of the form module:name; built in is wordcount")
    return Job(
        id=new_id(),
        task=name,
        command=argv,
        errors=options["errors"],
        suffix=options["suffix"],
        claims=options["claims"] or default_claims(mount.fs.kind),
        include=[decode_path(os.fsencode(each)) for each in options["include"]],
        exclude=[decode_path(os.fsencode(each)) for each in options["exclude"]],
        recurse=options["recurse"],
        hidden=options["hidden"],
        timeout_s=timeout,
        max_attempts=options["max_attempts"],
        backoff_s=options["backoff"],
        patience_s=options["patience"],
        split_bytes=options["split"],
        backups=options["backups"],
        max_quarantined=0 if options["fail_fast"] else options["max_quarantined"],
        created_at=time.time(),
        created_by=f"claimwork {__version__} on {os.uname().nodename}",
    )


def _arguments(command: str | None) -> list[str]:
    """The program and its arguments; never a shell."""
    if command is None:
        return []
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--command cannot be split into arguments: {error}") from None
    if not argv:
        raise UsageError("--command is empty; give a program and its arguments")
    if not any("{input}" in each for each in argv):
        raise UsageError("--command names no {input}; write it where the input's path belongs")
    return argv
