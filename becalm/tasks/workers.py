"""Executors for tiles: this process, processes that each have one thread, or the workers of a Dask cluster."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any

from becalm.core.files import InputError

ATTEMPTS = 3
"""How often a task is begun before the death of its worker is an error."""

CONNECT_SECONDS = 20
"""How long a Dask scheduler and its first worker may take to answer."""

ONE_THREAD: dict[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""The environment of a worker: spinning threads of several processes would keep each other from working."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def submitter(
    function: Callable, shared: Any, workers: int, cluster: str | None = None
) -> Iterator[tuple[Callable[..., Future], int]]:
    """Context of `submit(*arguments)`, which gives the Future of `function(shared, *arguments)`, and the number of workers.

    `shared` (a model, say) is sent to each worker once. With one worker the function runs in this process, at once; `cluster` is
    the address of a Dask scheduler, which takes precedence. Raises InputError where there is no such cluster.
    """
    if cluster is not None:
        with dask_client(cluster) as client:
            sent = client.scatter(shared, broadcast=True)
            executor: Executor = client.get_executor(pure=False)
            yield lambda *arguments: executor.submit(function, sent, *arguments), max(len(client.nthreads()), 1)
    elif workers > 1:
        with WorkerProcesses(function, shared, workers) as processes:
            yield processes.submit, workers
    else:
        yield lambda *arguments: _run_now(function, shared, *arguments), 1


def _run_now(function: Callable, *arguments: Any) -> Future:
    future: Future = Future()
    future.set_result(function(*arguments))
    return future


@contextmanager
def dask_client(address: str) -> Iterator[Any]:
    """A client of the Dask scheduler at an address such as tcp://10.0.0.1:8786. Raises InputError where none answers."""
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise InputError("--cluster: needs Dask: pip install 'becalm[cluster]'") from None
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"--cluster {address}: no Dask scheduler with workers answers there ({reason})") from None
    with client:
        yield client


class WorkerProcesses:
    """Processes that run `function(shared, *arguments)`, begun anew when they die, so that a death costs one task."""

    def __init__(self, function: Callable, shared: Any, number: int):
        self.function, self.shared = function, shared
        self.threads = ThreadPoolExecutor(number)
        self.local = threading.local()
        self.processes: list = []
        self.closing = False

    def __enter__(self) -> "WorkerProcesses":
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing = True
        for process in self.processes:
            process.kill()
        self.threads.shutdown(cancel_futures=True)
        for process in self.processes:
            process.join()

    def submit(self, *arguments: Any) -> Future:
        """The Future of `function(shared, *arguments)`."""
        return self.threads.submit(self._run, *arguments)

    def _run(self, *arguments: Any) -> Any:
        """Send the arguments to this thread's process and wait for its answer; begin another process where it has died."""
        for _ in range(0 if self.closing else ATTEMPTS):
            pipe = getattr(self.local, "pipe", None) or self._start()
            try:
                pipe.send(arguments)
                fine, answer = pipe.recv()
            except (EOFError, OSError):
                self.local.pipe = None
                if self.closing:
                    break
                continue
            if fine:
                return answer
            raise answer
        raise InputError(
            f"a worker ended {ATTEMPTS} times in the same tile, most likely for want of memory; "
            "give fewer --workers, or a smaller --tile"
        )

    def _start(self) -> Any:
        """Begin a process for this thread and give its end of the pipe."""
        context = get_context("spawn")
        self.local.pipe, end = context.Pipe()
        process = context.Process(target=serve_tasks, args=(end, self.function, self.shared), daemon=True)
        with _environment(ONE_THREAD):
            process.start()
        end.close()
        self.processes.append(process)
        return self.local.pipe


_environment_lock = threading.Lock()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are begun in the block."""
    with _environment_lock:
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def serve_tasks(pipe: Any, function: Callable, shared: Any) -> None:
    """A worker's life: tasks come and results go through the pipe; it ends with the process that began it."""
    import signal

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, function(shared, *arguments)
        except Exception as error:
            answer = False, error
        pipe.send(answer)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
