"""becalm view, becalm serve: the page in the browser."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Serve:
    """Serve the page on this computer: clean scans, solve puzzles, make shapes, measure images."""

    port: int = 8642
    """The port to listen on; 0 takes any that is free."""
    host: str = "127.0.0.1"
    """The address to listen on; any but this computer's own needs --token."""
    token: str | None = None
    """The secret in the page's address, 16 letters, digits, - and _ or more; by default a new one each time."""
    upload: float = 4.0
    """Largest file that is taken, in GB."""
    memory: float = 16.0
    """Memory that a job may take, in GB of address space."""
    hours: float = 6.0
    """Time that a job may take."""
    browser: bool = False
    """Open the page in the browser."""

    def run(self) -> None:
        """Serve until interrupted."""
        self.serve([])

    def serve(self, files: list[Path]) -> None:
        """Serve the page with these files on it until interrupted."""
        from becalm.core.files import InputError
        from becalm.core.limits import STRICT, Limits
        from becalm.page.guard import LOOPBACK
        from becalm.page.jobs import JobLimits
        from becalm.page.server import Address, serve

        for name in ("upload", "memory", "hours"):
            if not 0 < getattr(self, name) < 1e6:
                raise InputError(f"--{name} {getattr(self, name):g}: must be above 0")
        limits = JobLimits(
            Limits() if self.host in LOOPBACK else STRICT,  # files of strangers come from elsewhere only
            int(self.upload * 2**30),
            int(self.memory * 2**30),
            self.hours * 3600,
        )
        serve(Address(self.host, self.port, self.token), files, limits, self.announce)

    def announce(self, url: str) -> None:
        """Print the page's address, and open it where that is wanted."""
        print(url, flush=True)
        print("Open this address in a browser. Ctrl+C ends the server and removes its files.", file=sys.stderr)
        if self.browser:
            import webbrowser

            webbrowser.open(url)


@dataclass(frozen=True)
class View(Serve):
    """Look at scans in the browser, before and after denoising; or at a run that `denoise --record` has written."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Scans, or .safetensors of recorded runs."""
    port: int = 0
    """The port to listen on; 0 takes any that is free."""
    browser: bool = True
    """Open the page in the browser."""

    def run(self) -> None:
        """Serve the page with the files on it."""
        from becalm.core.files import InputError
        from becalm.page.options import read_name
        from becalm.points.formats.scan_files import file_size

        for path in self.files:
            file_size(path)
            read_name(path.name)
        if len(self.files) > 32:
            raise InputError(f"{len(self.files)} files: the page shows 32 at most")
        self.serve([path.resolve() for path in self.files])
