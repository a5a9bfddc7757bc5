"""Jobs of the page: a queue, a process for each, their progress, and their files, which are removed when the server ends."""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from becalm.core.files import InputError
from becalm.core.limits import Limits


@dataclass(frozen=True)
class JobLimits:
    """What the jobs of a server may cost."""

    files: Limits = field(default_factory=Limits)
    """What one file may hold and unpack to."""
    upload: int = 4 << 30
    """Bytes of a file that is sent to the server."""
    memory: int = 16 << 30
    """Bytes of address space of a job's process."""
    seconds: float = 6 * 3600
    """Time that a job may take."""
    parallel: int = 1
    """Jobs that run at the same time; others wait."""
    kept: int = 32
    """Jobs whose files are kept; the oldest that has ended is removed for a new one."""
    patience: float = 30.0
    """Seconds that the next part of an upload may take to arrive."""


class TooManyJobsError(RuntimeError):
    """All jobs that may be kept are waiting or running."""


@dataclass
class Job:
    """One thing to do, such as a scan to clean or a puzzle to solve; the server's threads change its fields."""

    id: str
    """Random, and the only name under which a client can reach it."""
    name: str
    """The file's name, for display and for the download."""
    folder: Path
    """Its files; nobody else's."""
    path: Path
    """What was sent: in the folder, or a file named on the command line."""
    options: dict[str, Any]
    """How it is done: of a scan, keyword arguments of `becalm.tasks.denoise.steps`."""
    output: str
    """Name of the result."""
    state: str = "receiving"
    """receiving, waiting, running, done, failed or cancelled."""
    done: float = 0.0
    """Share of the work that is done."""
    started: float | None = None
    """Time of `time.monotonic` when it began to run."""
    scan: bool = False
    """Whether something can be drawn already: the scan, or the first of several pictures."""
    run: bool = False
    """Whether the result can be drawn."""
    bytes: int | None = None
    """Size of the result's file, once there is one."""
    warnings: list[str] = field(default_factory=list)
    """What the reader and the writer had to say."""
    error: str | None = None
    """Why it failed, in one line."""
    process: subprocess.Popen | None = None
    """Its process while it runs."""
    kind: str = "scan"
    """What is done: scan, puzzle, shapes or images."""

    @property
    def result(self) -> Path:
        """Where its process writes the result: under a fixed name, as the name of a client never becomes a path."""
        return self.folder / f"output{Path(self.output).suffix.lower()}"

    def public(self) -> dict[str, Any]:
        """What a client is told."""
        names = ("id", "kind", "name", "output", "state", "done", "scan", "run", "bytes", "warnings", "error")
        options = {} if self.kind == "shapes" else {"options": self.options}  # which hold places of this computer
        return {name: getattr(self, name) for name in names} | options | {"seconds_left": self.seconds_left()}

    def seconds_left(self) -> float | None:
        """The time that is left, by the time taken so far; None while there is no telling."""
        if self.state != "running" or self.started is None or self.done < 0.02:
            return None
        return (time.monotonic() - self.started) * (1 - self.done) / self.done


class Jobs:
    """All jobs of a server, in the order of their beginning. `stop` ends their processes and removes their files."""

    def __init__(self, limits: JobLimits | None = None):
        self.limits = limits or JobLimits()
        self.folder = Path(tempfile.mkdtemp(prefix="becalm-page-"))
        self.jobs: dict[str, Job] = {}
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(self.limits.parallel, thread_name_prefix="becalm-job")

    def create(self, name: str, options: dict[str, Any], path: Path | None = None, kind: str = "scan") -> Job:
        """A new job that does not wait yet; without a path its file is to be written to `job.path`. Raises TooManyJobsError."""
        from becalm.page.options import output_name

        with self.lock:
            self._make_room()
            number = secrets.token_urlsafe(16)
            folder = self.folder / number
            folder.mkdir()
            place = path or folder / f"input{Path(name).suffix.lower()}"
            job = Job(number, name, folder, place, options, output_name(name, kind, options), kind=kind)
            self.jobs[number] = job
        return job

    def _make_room(self) -> None:
        """Remove the oldest job that has ended where no further one may be kept."""
        if len(self.jobs) < self.limits.kept:
            return
        ended = next((job for job in self.jobs.values() if job.state in ("done", "failed", "cancelled")), None)
        if ended is None:
            raise TooManyJobsError(f"{len(self.jobs)} jobs are waiting or running; wait until one is done")
        self._discard(ended)

    def _discard(self, job: Job) -> None:
        """Forget a job and remove its files."""
        del self.jobs[job.id]
        shutil.rmtree(job.folder, ignore_errors=True)

    def repeat(self, job: Job, options: dict[str, Any]) -> Job:
        """A new job with the same scan and other options. Raises TooManyJobsError; OSError where the scan is gone."""
        inside, example = job.path.parent == job.folder, "example" in job.options
        options = options | {"example": True} if example else options
        again = self.create(job.name, options, None if inside else job.path, job.kind)
        if inside and not example:
            try:
                again.path.hardlink_to(job.path)
            except OSError:
                self.remove(again)
                raise
        return again

    def shapes_file(self, number: str) -> Path:
        """The file of the shapes that a job has made. Raises InputError where there is none."""
        job = self.jobs.get(number)
        if job is None or job.kind != "shapes" or not (job.folder / "shapes.npy").is_file():
            raise InputError("shape: is no longer there; make shapes anew")
        return job.folder / "shapes.npy"

    def start(self, job: Job) -> None:
        """Let a job wait for its turn."""
        job.state = "waiting"
        self.pool.submit(self._run, job)

    def _run(self, job: Job) -> None:
        """Run the process of a job to its end, and take its reports."""
        task = {name: getattr(job, name) for name in ("name", "options", "kind")} | {"path": str(job.path)}
        task |= {"output": job.result.name, "memory": self.limits.memory}
        task |= {"limits": asdict(self.limits.files)}
        with self.lock:
            if job.state != "waiting":
                return
            (job.folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
            with open(job.folder / "log", "wb") as log:
                job.process = subprocess.Popen(worker_command(job.folder), stdin=-1, stdout=-1, stderr=log)
            job.state, job.started = "running", time.monotonic()
        timer = threading.Timer(self.limits.seconds, self._stop_late, (job,))
        timer.start()
        assert job.process.stdout
        for line in job.process.stdout:
            take_report(job, json.loads(line))
        timer.cancel()
        job.process.wait()
        for stream in (job.process.stdin, job.process.stdout):
            assert stream
            stream.close()
        with self.lock:
            if job.state == "running":
                job.state = "done" if job.run and not job.error else "failed"
                if job.state == "failed" and job.error is None:
                    job.error = f"{job.name}: the work ended without a result: memory ran out, or becalm has a fault"

    def _stop_late(self, job: Job) -> None:
        """End a job that takes longer than allowed."""
        job.error = f"{job.name}: took longer than the {self.limits.seconds:g} seconds given to a job"
        self._kill(job)

    def cancel(self, job: Job) -> None:
        """End a job: its process is killed, its scan stays."""
        with self.lock:
            if job.state in ("receiving", "waiting", "running"):
                job.state = "cancelled"
        self._kill(job)

    def remove(self, job: Job) -> None:
        """End a job and remove its files."""
        self.cancel(job)
        with self.lock:
            if job.id in self.jobs:
                self._discard(job)

    def _kill(self, job: Job) -> None:
        if job.process is not None and job.process.poll() is None:
            job.process.kill()

    def stop(self) -> None:
        """End all jobs and remove their files."""
        for job in list(self.jobs.values()):
            self.cancel(job)
        self.pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def worker_command(folder: Path) -> list[str]:
    """The words that start the process of the job in a folder."""
    return [sys.executable, "-m", "becalm.page.worker", str(folder)]


def take_report(job: Job, report: dict[str, Any]) -> None:
    """Change a job by one report of its process."""
    if "warning" in report:
        job.warnings.append(report["warning"])
    if "done" in report:
        job.done = max(job.done, min(float(report["done"]), 1.0))
    for name in ("scan", "run", "bytes", "error"):
        if name in report:
            setattr(job, name, report[name])
