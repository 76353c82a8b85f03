"""The table of what the sweep of real processes has struck."""

from __future__ import annotations

import pytest

from tests.crash.sweep import table

ROW = "crash sweep"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a row for each sweep, as Markdown; `scripts/crash-sweep` shows it."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    rows = [value for report in reports for name, value in report.user_properties if name == ROW]
    if rows:
        terminalreporter.section("crash sweep")
        terminalreporter.write_line(table(sorted(rows)))
