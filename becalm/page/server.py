"""The server of the page: a fixed table of static files, uploads, jobs and their results, on this computer only."""

import asyncio
import re
import secrets
import socket
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from becalm.core.files import InputError
from becalm.page.guard import LOOPBACK, Guard
from becalm.page.jobs import Job, JobLimits, Jobs, TooManyJobsError
from becalm.page.options import cloud_models, model_sizes, read_name, read_options

STATIC = Path(__file__).parent / "static"

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""All static files: address -> name and type. No address ever becomes a path."""

PARTS = {"scan": "scan.safetensors", "run": "run.safetensors", "facts": "facts.json", "frames": "frames.bin"}
"""What is drawn: address -> name in the job's folder."""


@dataclass(frozen=True)
class Address:
    """Where a server listens, and who may ask."""

    host: str = "127.0.0.1"
    """The address of this computer that it listens on."""
    port: int = 0
    """The port; 0 takes any that is free."""
    token: str | None = None
    """The secret that opens the page: at least 16 letters, digits, - and _. None makes one up."""

    def __post_init__(self):
        if self.host not in LOOPBACK and self.token is None:
            raise InputError(
                f"--host {self.host}: other computers can reach that address; give --token SECRET too, or leave --host out"
            )
        if self.token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,128}", self.token):
            raise InputError("--token: give 16 to 128 letters, digits, - and _")
        if not 0 <= self.port < 65536:
            raise InputError(f"--port {self.port}: must be from 0 to 65535")


def page_app(jobs: Jobs, files: list[Path], token: str, host: str = "127.0.0.1") -> Guard:
    """The page as an ASGI application, on which the scans in `files` are shown; it stops the jobs when it shuts down."""

    @asynccontextmanager
    async def lifespan(app: Any):
        given = [start_job(jobs, path.name, {}, path) for path in files]
        app.state.given = [job.id for job in given]
        yield
        await asyncio.to_thread(jobs.stop)

    def static(name: str, kind: str) -> Callable:
        content = (STATIC / name).read_bytes()
        return lambda request: Response(content, media_type=kind)

    app = Starlette(
        routes=[
            *(Route(address, static(*file)) for address, file in PAGE.items()),
            Route("/api", describe),
            Route("/jobs", upload, methods=["POST"]),
            Route("/jobs/{id}", job_state, methods=["GET"]),
            Route("/jobs/{id}", remove_job, methods=["DELETE"]),
            Route("/jobs/{id}/cancel", cancel_job, methods=["POST"]),
            Route("/jobs/{id}/again", repeat_job, methods=["POST"]),
            Route("/jobs/{id}/result", result_file),
            Route("/jobs/{id}/{part}", bundle_file),
        ],
        exception_handlers={HTTPException: answer_error, InputError: answer_error, TooManyJobsError: answer_error},
        lifespan=lifespan,
    )
    app.state.jobs = jobs
    return Guard(app, token, host)


async def answer_error(request: Request, error: Any) -> Response:
    """One line of plain text, with the status that fits."""
    status = (
        error.status_code if isinstance(error, HTTPException) else 503 if isinstance(error, TooManyJobsError) else 400
    )
    return PlainTextResponse(str(getattr(error, "detail", error)), status)


def jobs_of(request: Request) -> Jobs:
    """The jobs of the server."""
    return request.app.state.jobs


def find_job(request: Request) -> Job:
    """The job of the address. Raises HTTPException where there is none."""
    job = jobs_of(request).jobs.get(request.path_params["id"])
    if job is None:
        raise HTTPException(404, "There is no such job. It may have been removed to make room for newer ones.")
    return job


def start_job(jobs: Jobs, name: str, options: dict, path: Path) -> Job:
    """A job of a file that is there already."""
    job = jobs.create(name, options, path)
    jobs.start(job)
    return job


async def describe(request: Request) -> Response:
    """What the page needs to know at its start: version, models of clouds, suffixes, limits, scans of the command line."""
    from becalm import __version__
    from becalm.page.bundle import MOST_DRAWN
    from becalm.points.formats import FORMATS

    return JSONResponse(
        {
            "version": __version__,
            "models": cloud_models(),
            "shapes": model_sizes("vary"),
            "images": model_sizes("likelihood"),
            "suffixes": [*FORMATS, ".safetensors"],
            "upload": jobs_of(request).limits.upload,
            "most_drawn": MOST_DRAWN,
            "jobs": request.app.state.given,
        }
    )


async def upload(request: Request) -> Response:
    """Take a scan or another file, the request's body, and let the work on it wait for its turn."""
    query, jobs = dict(request.query_params), jobs_of(request)
    kind = query.pop("kind", "scan")
    name, options = read_name(query.pop("name", ""), kind), read_options(query, kind, jobs.shapes_file)
    check_size(jobs.limits, int(request.headers.get("content-length", 0)))
    job = jobs.create(name, options, kind=kind)
    try:
        await receive_file(request, job.path, jobs.limits)
    except BaseException as error:
        jobs.remove(job)
        if isinstance(error, ClientDisconnect | TimeoutError):
            raise HTTPException(408, "The file did not arrive.") from error
        raise
    if job.state == "receiving":
        jobs.start(job)
    return JSONResponse(job.public(), 201)


def check_size(limits: JobLimits, size: int) -> None:
    """Raise HTTPException where a file is larger than is taken."""
    if size > limits.upload:
        raise HTTPException(
            413, f"The file is larger than the {limits.upload / 1e6:,.0f} MB that are taken here. "
            "Use the command “becalm denoise”, which has no such limit."
        )  # fmt: skip


async def receive_file(request: Request, path: Path, limits: JobLimits) -> None:
    """Write the body of a request to a path as it arrives. Raises HTTPException where it is too large, TimeoutError."""
    size, chunks = 0, request.stream()
    with open(path, "xb") as file:
        while chunk := await asyncio.wait_for(anext(chunks, b""), limits.patience):
            size += len(chunk)
            check_size(limits, size)
            await asyncio.to_thread(file.write, chunk)


async def job_state(request: Request) -> Response:
    """What is known of a job."""
    return JSONResponse(find_job(request).public())


async def cancel_job(request: Request) -> Response:
    """End a job; what is there of it stays."""
    job = find_job(request)
    jobs_of(request).cancel(job)
    return JSONResponse(job.public())


async def remove_job(request: Request) -> Response:
    """End a job and remove its files."""
    jobs_of(request).remove(find_job(request))
    return Response(status_code=204)


async def repeat_job(request: Request) -> Response:
    """Work on the file of a job again, with other options."""
    jobs, job = jobs_of(request), find_job(request)
    if job.state == "receiving":
        raise HTTPException(409, "The file has not arrived yet.")
    try:
        again = jobs.repeat(job, read_options(request.query_params, job.kind, jobs.shapes_file))
    except OSError as error:
        raise HTTPException(410, "The scan is no longer there.") from error
    jobs.start(again)
    return JSONResponse(again.public(), 201)


async def bundle_file(request: Request) -> Response:
    """What is drawn of a job; of its frames those `from` a byte on."""
    job, name = find_job(request), PARTS.get(request.path_params["part"], "")
    if not name or not (job.folder / name).is_file():
        raise HTTPException(404, "That is not there.")
    if name != "frames.bin":
        return FileResponse(job.folder / name, media_type="application/octet-stream")
    first = request.query_params.get("from", "0")
    content = await asyncio.to_thread(read_from, job.folder / name, int(first) if first.isdecimal() else 0)
    return Response(content, media_type="application/octet-stream")


def read_from(path: Path, first: int) -> bytes:
    """The bytes of a file, which may still be growing, from a place on."""
    with open(path, "rb") as file:
        file.seek(min(first, path.stat().st_size))
        return file.read()


async def result_file(request: Request) -> Response:
    """The denoised scan, in the format of the file that was sent."""
    job = find_job(request)
    path = job.result
    if job.state != "done" or not path.is_file():
        raise HTTPException(404, "There is no result yet.")
    return FileResponse(path, media_type="application/octet-stream", filename=job.output)


def serve(address: Address, files: list[Path], limits: JobLimits, on_start: Callable[[str], object]) -> None:
    """Serve the page until it is interrupted; `on_start` is called with its address once it can be opened.

    Raises InputError where it cannot listen there.
    """
    import uvicorn

    listener, token = listen(address), address.token or secrets.token_urlsafe(24)
    app = page_app(Jobs(limits), files, token, address.host)

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            on_start(page_url(address.host, listener.getsockname()[1], token))

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=2,
        limit_concurrency=100,
    )
    with suppress(KeyboardInterrupt):  # how a server ends
        Server(config).run(sockets=[listener])


def listen(address: Address) -> socket.socket:
    """A socket that listens at the address. Raises InputError."""
    family: Literal[socket.AddressFamily.AF_INET, socket.AddressFamily.AF_INET6]
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"--host {address.host} --port {address.port}: cannot listen there ({error.strerror})"
        ) from None
    return listener


def page_url(host: str, port: int, token: str) -> str:
    """The address that opens the page."""
    name = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/?token={token}"
