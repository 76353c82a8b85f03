"""Images without a registry: a docker daemon that only builds, and whose store the nodes of the lab start with.

The base image is a stand-in for python:3.13-slim, made from Debian's packages. ``BASE_IMAGE`` names another one, for machines
that can pull it. What was built is kept below `ROOT`, so that the next build is a matter of seconds.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

from tests.swarm.lab.shell import LabError, environment, is_alive, run, wait_until

ROOT = Path("/var/tmp/claimwork-swarm")
PROJECT = Path(__file__).resolve().parents[3]
IMAGE = "claimwork"
_STAND_IN = "claimwork-lab/python:3.13-trixie"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_LIMIT_S = 600.0


class Builder:
    """The daemon that builds; one at a time on a machine. It uses the host's network and leaves that as it is.

    With *seeds_only* it does not run, and `seed` may be called.
    """

    def __init__(self, *, seeds_only: bool = False) -> None:
        self._seeds_only = seeds_only
        self.directory = ROOT / "builder"
        self._data = self.directory / "data"

    def __enter__(self) -> Builder:
        ROOT.mkdir(mode=0o711, exist_ok=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self._lock = (self.directory / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            if not self._seeds_only:
                self._start()
        except BaseException:
            self.stop()
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._lock.close()

    def _start(self) -> None:
        pid_file = self.directory / "pid"
        pid_file.unlink(missing_ok=True)  # we hold the lock: of a builder that was killed
        log = (self.directory / "log").open("wb")
        # with "none" dockerd would remove the bridge of another dockerd on this machine
        bridge = "docker0" if Path("/sys/class/net/docker0").exists() else "none"
        with log:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "dockerd"),
                    *("--data-root", str(self._data), "--exec-root", str(self.directory / "exec")),
                    *("--pidfile", str(pid_file), "-H", self._host, "--storage-driver", "overlay2"),
                    *("--bridge", bridge, "--iptables=false", "--ip-forward=false", "--ip-masq=false"),
                ],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def answers() -> bool:
            if self._process.poll() is not None:
                tail = (self.directory / "log").read_text(errors="replace")[-2000:]
                raise LabError(f"the docker daemon that builds does not start: {tail}")
            return (
                subprocess.run(
                    ["docker", "-H", self._host, "version"], env=environment(), capture_output=True, check=False
                ).returncode
                == 0
            )

        wait_until(answers, "the docker daemon that builds answers")

    @property
    def _host(self) -> str:
        return f"unix://{self.directory}/docker.sock"

    def stop(self) -> None:
        """Stop the daemon, so that its store can be copied; the lock stays."""
        process = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()
            contained = self.directory / "exec/containerd/containerd.pid"
            if contained.exists():
                wait_until(lambda: not is_alive(int(contained.read_text())), "the builder's containerd ends")

    def docker(self, *args: str | Path, limit_s: float = _LIMIT_S) -> str:
        """Run the docker client against this daemon; what it said."""
        return run("docker", "-H", self._host, *args, env={"DOCKER_CONFIG": str(self.directory)}, limit_s=limit_s)

    def build(self, tag: str, context: Path, *options: str) -> None:
        """Build a directory with a Dockerfile in it. No registry is asked when what it builds upon is here."""
        self.docker("build", "--network", "host", "-q", "-t", tag, *options, context)

    def build_claimwork(self) -> None:
        """The image of this checkout, from its own Dockerfile."""
        self.build(IMAGE, PROJECT, "--build-arg", f"BASE_IMAGE={self.base()}")

    def base(self) -> str:
        """The image to build upon: ``BASE_IMAGE``, or a stand-in for it."""
        told = os.environ.get("BASE_IMAGE")
        if told:
            return told
        if not self.docker("image", "ls", "-q", _STAND_IN).strip():
            self._make_stand_in()
        return _STAND_IN

    def _make_stand_in(self) -> None:
        """Debian's Python with what the official image has besides: `python`, and the certificates of this machine."""
        tar = self.directory / "base.tar"
        excluded = [f"path-exclude=/usr/share/{each}/*" for each in ("man", "doc", "locale", "info")]
        hooks = [
            'mkdir -p "$1/usr/local/bin"',
            'ln -s /usr/bin/python3 "$1/usr/local/bin/python"',
            'ln -s /usr/bin/python3 "$1/usr/local/bin/python3"',
            f"upload {_CERTIFICATES} {_CERTIFICATES}",
        ]
        run(
            *("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"),
            *(f"--dpkgopt={each}" for each in excluded),
            *(f"--customize-hook={each}" for each in hooks),
            *("trixie", tar),
            limit_s=_LIMIT_S,
        )
        changes = [
            "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ENV LANG=C.UTF-8",
            f"ENV PIP_CERT={_CERTIFICATES}",
        ]
        self.docker("import", *(word for each in changes for word in ("-c", each)), tar, _STAND_IN)
        tar.unlink()

    def seed(self, target: Path) -> None:
        """Give a node that never ran all images. Layers are never written to, so hard links do."""
        target.mkdir()
        run("cp", "-a", self._data / "image", target)
        run("cp", "-al", self._data / "overlay2", target)
