"""claimwork turns a shared mount into a work queue.

Write a task, run it over every file of a directory on as many machines as share a mount::

    from claimwork import task


    @task
    def lengths(path):
        return {"bytes": path.stat().st_size}

Then ``claimwork run IN OUT --task mytasks:lengths``. Execution of a task is at-least-once, publication of its result is
exactly-once: a task with effects outside its result asks for the `Attempt` as its second parameter.
"""

from .errors import ClaimworkError, Exit, NotAJob, RecordError, UnfitFilesystem, UsageError, WorkerFault
from .task import Attempt, GiveUp, Result, Results, Task, task

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
