"""claimwork turns a shared mount into a work queue.

Write a task, run it over every file of a directory on as many machines as share a mount::

    from claimwork import task


    @task
    def lengths(path):
        return {"bytes": path.stat().st_size}

Then ``claimwork run IN OUT --task mytasks:lengths``. Execution of a task is at-least-once, publication of its result is
exactly-once: a task with effects outside its result asks for the `Attempt` as its second parameter.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ClaimworkError, Exit, NotAJob, RecordError, UnfitFilesystem, UsageError, WorkerFault
    from .tasks import Attempt, GiveUp, Result, Results, Task, task

__version__ = "0.1.0"

__all__ = [
    "Attempt",
    "ClaimworkError",
    "Exit",
    "GiveUp",
    "NotAJob",
    "RecordError",
    "Result",
    "Results",
    "Task",
    "UnfitFilesystem",
    "UsageError",
    "WorkerFault",
    "__version__",
    "task",
]

_OF_TASKS = frozenset({"Attempt", "GiveUp", "Result", "Results", "Task", "task"})


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for (PEP 562): a command line that only prints its help needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(".tasks" if name in _OF_TASKS else ".errors", __name__), name)
