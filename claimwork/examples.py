"""Two examples for the help of each command: what one wants, and the line that one types. A test parses each of them."""

from __future__ import annotations

_EXAMPLES = {
    "": (
        ("count the words of all files below data", "claimwork run data output"),
        ("the same by several machines: on each, with the share mounted", "claimwork worker /mnt/data /mnt/output"),
    ),
    "run": (
        ("a task of your own, eight inputs at a time", "claimwork run data output --task mytasks:lengths --slots 8"),
        ("any program; its standard output is the result", "claimwork run data sums --command 'sha256sum {input}'"),
    ),
    "plan": (
        ("create a job that stops at the eleventh broken input", "claimwork plan data output --max-quarantined 10"),
        ("add what is new in data, without its drafts", "claimwork plan data output --exclude 'draft-*'"),
    ),
    "worker": (
        (
            "join the job that somebody plans, as a service would",
            "claimwork worker data output --join --log-format json",
        ),
        ("two inputs at a time, and stay for what is planned later", "claimwork worker data output --slots 2 --stay"),
    ),
    "reduce": (
        ("make the summary once everything is settled", "claimwork reduce output --wait"),
        ("again, after the reducer was mended", "claimwork reduce output"),
    ),
    "status": (
        ("keep it in a corner of the screen", "claimwork status output --watch --interval 5"),
        ("for a script: what is left", "claimwork status output --json | jq .pending"),
    ),
    "why": (
        ("an input by its path below IN", "claimwork why output 2024/march.txt"),
        ("the same for a script", "claimwork why output 2024/march.txt --json"),
    ),
    "retry": (
        ("see which inputs would be tried again", "claimwork retry output --dry-run"),
        ("some of them, after their cause was mended", "claimwork retry output '2024/*' b.txt"),
    ),
    "export": (
        ("a table for a spreadsheet", "claimwork export output --format csv -o results.csv"),
        ("one object a line, into another program", "claimwork export output -f jsonl | head"),
    ),
    "report": (
        ("a page to send around", "claimwork report output -o report.html"),
        ("a job that was copied here", "claimwork report ~/copies/output -o report.html"),
    ),
    "dashboard": (
        ("for this machine only, at http://127.0.0.1:8765/", "claimwork dashboard output"),
        ("for others, who have to know the token", "CLAIMWORK_TOKEN=sesame claimwork dashboard output --host 0.0.0.0"),
    ),
    "doctor": (
        ("is this mount fit for a job?", "claimwork doctor /mnt/output"),
        ("and between two machines: on both, at about the same time", "claimwork doctor /mnt/output --pair apple"),
    ),
    "healthy": (
        ("what the image runs every ten seconds", "claimwork healthy"),
        ("in a container, by hand", "docker exec CONTAINER claimwork healthy"),
    ),
    "check": (
        ("look for damage, and only look", "claimwork check output"),
        ("mend what can be mended", "claimwork check output --repair"),
    ),
}


def examples(command: str) -> list[tuple[str, str]]:
    """What each example of a command is for, and its line; "" is the program itself."""
    return list(_EXAMPLES[command])
