"""A jugfile: each input is a task of its own, and Jug keeps the result."""

from __future__ import annotations

import os

import noop
from jug import TaskGenerator

INPUTS = os.environ["BENCH_INPUTS"]
read = TaskGenerator(noop.read)
sizes = [read(f"{INPUTS}/{name}") for name in sorted(os.listdir(INPUTS))]
