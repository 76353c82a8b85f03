"""Wordcount: the built-in task's kernel beside the plain definition, and beside GNU ``wc -w``.

One process after the other counts the same file, which is in memory by then. Rates are of processor time, since that is what
they take on a machine that does other things as well; a process's start is in none but `wc`'s, where it takes a millisecond.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import needs
from tests.bench.measure import Measure, Options
from tests.bench.programs import environment

SIZE_BYTES = 16 << 20
SAMPLES = ("ascii", "english", "russian", "chinese")  # ascii: the English one without its few other characters
LARGE = needs.ROOT / "tests" / "samples" / "large"
COUNT = Path(__file__).parent / "count.py"
EXTRA, PLAIN, DEFINITION, WC = "extra", "plain", "definition", "wc"
NAMES = {EXTRA: "with the extra", PLAIN: "standard library", DEFINITION: "plain definition", WC: "GNU wc -w"}
# The project's targets: for the extra on ASCII, the extra on other texts, and the standard library on ASCII. Those of the
# extra are for processors with AVX-512, and half as high without it.
TO_DEFINITION = (100.0, 12.0, 12.0)
TO_WC = (10.0, 3.5, 1.4)


def measure(options: Options) -> list[Measure]:
    """Rates of all for each text, and ratios of those of one turn."""
    found = []
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
        for sample in SAMPLES:
            text = (LARGE / f"{'english' if sample == 'ascii' else sample}.txt").read_bytes()
            if sample == "ascii":
                text = text.decode().encode("ascii", "ignore")
            path = Path(root) / sample
            path.write_bytes(text * (SIZE_BYTES // len(text)))
            rates: dict[str, list[float]] = {how: [] for how in NAMES}
            for _ in range(options.repeats):
                answers = {how: _count(how, path) for how in (EXTRA, PLAIN, DEFINITION)}
                if len({tuple(counted) for counted, _ in answers.values()}) != 1:
                    raise AssertionError(f"the kernels disagree about {sample}: {answers}")
                took = {**{how: took_s for how, (_, took_s) in answers.items()}, WC: _wc(path)}
                for how, took_s in took.items():
                    rates[how].append(path.stat().st_size / took_s / 1e6)
            found += _of(sample, rates)
    return found


def _of(sample: str, rates: dict[str, list[float]]) -> list[Measure]:
    found = [Measure(f"{sample}, {NAMES[how]}", "MB/s", values) for how, values in rates.items()]
    for how in (EXTRA, PLAIN):
        for other in (DEFINITION, WC):
            ratios = [one / another for one, another in zip(rates[how], rates[other], strict=True)]
            least = _target(sample, how, *(TO_DEFINITION if other == DEFINITION else TO_WC))
            found.append(Measure(f"{sample}, {NAMES[how]} to {NAMES[other]}", "", ratios, least=least))
    return found


def _target(sample: str, how: str, on_ascii: float, on_others: float, alone: float) -> float | None:
    if how == PLAIN:
        return alone if sample == "ascii" else None
    wide = "avx512bw" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    return (on_ascii if sample == "ascii" else on_others) * (1.0 if wide else 0.5)


def _count(how: str, path: Path) -> tuple[list[int], float]:
    argv = [sys.executable, str(COUNT), how, str(path)]
    answer = json.loads(subprocess.check_output(argv, env=environment(), stdin=subprocess.DEVNULL))
    return answer["counted"], answer["took_s"]


def _wc(path: Path) -> float:
    """Seconds of the processor; GNU's, whatever else is called wc."""
    program = shutil.which("gwc") or "wc"
    process = subprocess.Popen(
        [program, "-w", str(path)], env={**environment(), "LC_ALL": "C.UTF-8"}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, program)
    return used.ru_utime + used.ru_stime
