"""The server: what it takes, what it answers, and what becomes of a job."""

import json
import socket
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the extra page")

from starlette.testclient import TestClient

from becalm.core.files import InputError
from becalm.page import jobs as page_jobs
from becalm.page.jobs import Job, JobLimits, Jobs
from becalm.page.options import read_name, read_options
from becalm.page.server import Address, listen, page_app, page_url

TOKEN = "a-token-of-many-letters"
WORKER = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
task = json.loads((folder / "task.json").read_text())
data = pathlib.Path(task["path"]).read_bytes()
(folder / "scan.safetensors").write_bytes(b"scan of " + data)
print(json.dumps({"scan": True, "warning": "a word"}), flush=True)
print(json.dumps({"done": 0.5}), flush=True)
if data == b"wrong":
    print(json.dumps({"error": "wrong data"}), flush=True)
elif data != b"crash":
    time.sleep(60 if data == b"slow" else 0)
    (folder / "run.safetensors").write_bytes(b"run")
    (folder / task["output"]).write_bytes(data.upper())
    print(json.dumps({"done": 1.0, "run": True, "bytes": len(data)}), flush=True)
"""


@pytest.fixture(autouse=True)
def quick_worker(monkeypatch):
    """A process without torch in place of the worker."""
    monkeypatch.setattr(page_jobs, "worker_command", lambda folder: [sys.executable, "-I", "-c", WORKER, str(folder)])


@pytest.fixture
def open_page():
    """A function that opens a page with given limits and files; all are shut at the end."""
    opened = []

    def open_client(files=(), **limits):
        client = TestClient(page_app(Jobs(JobLimits(**limits)), list(files), TOKEN), base_url="http://127.0.0.1")
        client.headers["authorization"] = f"Bearer {TOKEN}"
        client.jobs = client.app.app.state.jobs
        opened.append(client.__enter__())
        return client

    yield open_client
    for client in opened:
        client.__exit__(None, None, None)


def send(client, content=b"data", name="scan.ply", **options):
    return client.post("/jobs", params={"name": name, **options}, content=content)


def wait(client, number, *states):
    end = time.monotonic() + 120
    while (job := client.get(f"/jobs/{number}").json())["state"] not in states:
        assert time.monotonic() < end, job
        time.sleep(0.01)
    return job


def test_a_scan_is_taken_shown_and_given_back(open_page):
    client = open_page()
    sent = send(client, name="../My scan.PLY", outliers="remove", noise="0.5")
    assert sent.status_code == 201
    job = wait(client, sent.json()["id"], "done")
    assert job["name"] == "My scan.PLY" and job["output"] == "My scan.denoised.PLY" and job["warnings"] == ["a word"]
    assert job["options"] == {"model": "jets", "outliers": "remove", "sigma": 0.5} and job["bytes"] == 4
    assert client.get(f"/jobs/{job['id']}/scan").content == b"scan of data"
    assert client.get(f"/jobs/{job['id']}/run").content == b"run"
    result = client.get(f"/jobs/{job['id']}/result")
    assert result.content == b"DATA" and "My%20scan.denoised.PLY" in result.headers["content-disposition"]
    again = client.post(f"/jobs/{job['id']}/again", params={"outliers": "flag"}).json()
    assert again["id"] != job["id"] and again["name"] == job["name"]
    assert wait(client, again["id"], "done")["options"]["outliers"] == "flag"


def test_the_files_of_the_command_line_are_shown_from_where_they_are(open_page, tmp_path):
    path = tmp_path / "given.ply"
    path.write_bytes(b"abc")
    client = open_page([path])
    (number,) = client.get("/api").json()["jobs"]
    assert wait(client, number, "done")["name"] == "given.ply"
    assert client.get(f"/jobs/{number}/result").content == b"ABC"
    wait(client, client.post(f"/jobs/{number}/again").json()["id"], "done")
    client.delete(f"/jobs/{number}")
    assert path.read_bytes() == b"abc" and list(tmp_path.iterdir()) == [path]


def test_the_page_is_a_fixed_table(open_page):
    client = open_page()
    assert client.get("/").headers["content-type"].startswith("text/html")
    assert client.get("/page.js").status_code == client.get("/page.css").status_code == 200
    about = client.get("/api").json()
    assert about["models"] == ["jets"] and ".laz" in about["suffixes"] and about["jobs"] == []
    for place in ("/../pyproject.toml", "/..%2f..%2fpyproject.toml", "/static/page.js", "/page.py", "//etc/passwd"):
        assert client.get(place).status_code == 404


@pytest.mark.parametrize(
    "part", ["task.json", "log", "shapes.npy", "frames.bin", "..%2f..%2flog", "input.ply", "scan.safetensors", "cancel"]
)
def test_only_the_parts_of_a_job_are_served(open_page, part):
    client = open_page()
    number = send(client).json()["id"]
    wait(client, number, "done")
    assert client.get(f"/jobs/{number}/{part}").status_code == 404
    assert client.get(f"/jobs/..%2f{number}/scan").status_code == 404


def test_no_list_of_jobs_and_numbers_that_nobody_guesses(open_page):
    client = open_page()
    numbers = {send(client).json()["id"] for _ in range(3)}
    assert client.get("/jobs").status_code == 405 and len(numbers) == 3
    assert all(len(number) == 22 for number in numbers)
    assert client.get("/api").json()["jobs"] == []


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"name": "scan.exe"}, "of a kind that becalm does not read"),
        ({"name": ""}, "of a kind"),
        ({"model": "/etc/passwd"}, "model: '/etc/passwd' is none of jets"),
        ({"model": "mnist"}, "is none of"),
        ({"outliers": "eat"}, "outliers: 'eat'"),
        ({"noise": "-1"}, "noise: '-1' is no length above 0"),
        ({"noise": "nan"}, "noise"),
        ({"max_displacement": "much"}, "max_displacement: 'much'"),
        ({"device": "cuda"}, "device: is no option"),
        ({"kind": "poem"}, "kind: 'poem' is none of"),
        ({"kind": "puzzle"}, "it reads .png"),
        ({"kind": "puzzle", "name": "a.png", "mask": "0101"}, "mask: must have 16 or 81 signs"),
        ({"kind": "puzzle", "name": "a.png", "side": "5"}, "side: '5' is none of 4, 9"),
        ({"kind": "puzzle", "name": "a.png", "mask_from": "-1"}, "mask_from: '-1' is no number"),
        ({"kind": "puzzle", "name": "a.png", "steps": "1e9"}, "steps: '1e9' is no number from 2 to 50"),
        ({"kind": "images", "name": "a.npy", "draws": "nan"}, "draws: 'nan'"),
        ({"kind": "images", "name": "a.npy", "model": "../x"}, "model: '../x' is none of"),
        ({"kind": "shapes", "verb": "fly"}, "verb: 'fly' is none of"),
        ({"kind": "shapes", "number": "1000"}, "number: '1000' is no number from 1 to 48"),
        ({"kind": "shapes", "verb": "vary"}, "one: must name a job"),
        ({"kind": "shapes", "verb": "vary", "one": "../../etc:0"}, "shape: is no longer there"),
    ],
)
def test_wrong_requests_are_told_why(open_page, query, reason):
    client = open_page()
    answer = send(client, **query)
    assert answer.status_code == 400 and reason in answer.text and not client.jobs.jobs


def test_names_are_for_display_only():
    assert read_name("C:\\scans\\a.las") == "a.las" and read_name("../../a\n.las") == "a.las"
    assert len(read_name("x" * 500 + ".laz")) == 120
    assert read_options({"noise": "auto", "force": "yes"}) == {"model": "jets", "outliers": "keep", "force": True}


def test_a_job_works_on_the_shapes_of_another_one_only(open_page):
    client = open_page()
    scan, first = send(client).json()["id"], send(client, b"", kind="shapes", name="made").json()
    assert first["kind"] == "shapes" and first["output"] == "made.npz"
    wait(client, first["id"], "done")
    assert send(client, b"", kind="shapes", verb="vary", one=f"{scan}:0").status_code == 400
    path = client.jobs.jobs[first["id"]].folder / "shapes.npy"
    path.write_bytes(b"shapes")
    later = send(client, b"", kind="shapes", verb="mesh", format="stl", one=f"{first['id']}:3", name="a/shape4").json()
    assert later["output"] == "shape4.stl"
    assert client.jobs.jobs[later["id"]].options["one"] == [str(path), 3]


def test_frames_are_given_from_a_place_on_while_they_come(open_page):
    client = open_page()
    number = send(client, b"slow", kind="puzzle", name="a.png").json()["id"]
    path = client.jobs.jobs[number].folder / "frames.bin"
    path.write_bytes(b"0123456789")
    for first, content in (("0", b"0123456789"), ("6", b"6789"), ("10", b""), ("99", b""), ("-1", b"0123456789")):
        assert client.get(f"/jobs/{number}/frames", params={"from": first}).content == content


def test_large_uploads_are_refused_before_and_while_they_arrive(open_page):
    client = open_page(upload=1000)
    assert send(client, b"x" * 1001).status_code == 413

    def parts():
        for _ in range(30):
            yield b"y" * 100

    answer = client.post("/jobs", params={"name": "a.ply"}, content=parts())
    assert answer.status_code == 413 and "becalm denoise" in answer.text
    assert not client.jobs.jobs and not list(client.jobs.folder.iterdir())


def test_slow_uploads_end(open_page):
    import asyncio

    client = open_page(patience=0.05)
    sent = []

    async def receive():
        if sent:
            return {"type": "http.disconnect"}
        await asyncio.sleep(30)

    async def send_part(message):
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {TOKEN}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/jobs", "query_string": b"name=a.ply", "headers": headers}
    started = time.monotonic()
    asyncio.run(client.app({**scope, "app": client.app.app}, receive, send_part))
    assert sent[0]["status"] == 408 and time.monotonic() - started < 20 and not client.jobs.jobs


def test_cancel_ends_the_process_and_the_next_runs(open_page):
    client = open_page()
    slow, waiting, last = (send(client, content).json()["id"] for content in (b"slow", b"slow", b"data"))
    job = wait(client, slow, "running")
    while not job["scan"]:
        job = wait(client, slow, "running")
    assert client.get(f"/jobs/{waiting}").json()["state"] == "waiting"
    assert client.post(f"/jobs/{waiting}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/jobs/{slow}/cancel").json()["state"] == "cancelled"
    wait(client, last, "done")
    assert client.get(f"/jobs/{slow}").json()["state"] == "cancelled"
    assert client.jobs.jobs[slow].process.poll() is not None and client.jobs.jobs[waiting].process is None
    assert client.get(f"/jobs/{slow}/scan").content == b"scan of slow"
    assert client.get(f"/jobs/{slow}/result").status_code == 404


def test_errors_crashes_and_lateness_are_told(open_page):
    client = open_page()
    wrong, crash = (send(client, content).json()["id"] for content in (b"wrong", b"crash"))
    assert wait(client, wrong, "failed")["error"] == "wrong data"
    assert "without a result" in wait(client, crash, "failed")["error"]
    hasty = open_page(seconds=0.2)
    assert "longer than the 0.2 seconds" in wait(hasty, send(hasty, b"slow").json()["id"], "failed")["error"]


def test_old_jobs_make_room_and_full_servers_say_so(open_page):
    client = open_page(kept=2)
    first, second = send(client).json()["id"], send(client).json()["id"]
    wait(client, second, "done")
    third = send(client, b"slow").json()["id"]
    assert client.get(f"/jobs/{first}").status_code == 404 and not (client.jobs.folder / first).exists()
    send(client, b"slow")
    full = send(client)
    assert full.status_code == 503 and "wait until one is done" in full.text
    assert client.delete(f"/jobs/{third}").status_code == 204
    assert send(client).status_code == 201


def test_two_clients_do_not_disturb_each_other(open_page):
    client = open_page(parallel=2)
    one, other = send(client, b"one").json()["id"], send(client, b"other").json()["id"]
    for number, result in ((one, b"ONE"), (other, b"OTHER")):
        wait(client, number, "done")
        assert client.get(f"/jobs/{number}/result").content == result


def test_jobs_and_files_end_with_the_server():
    jobs = Jobs(JobLimits())
    with TestClient(page_app(jobs, [], TOKEN), base_url="http://127.0.0.1") as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        number = send(client, b"slow").json()["id"]
        wait(client, number, "running")
        process = jobs.jobs[number].process
    assert process.poll() is not None and not jobs.folder.exists()


def test_time_left_follows_the_time_taken():
    job = Job("1", "a.ply", Path(), Path(), {}, "b.ply", "running", 0.25, time.monotonic() - 10)
    assert job.seconds_left() == pytest.approx(30, abs=1)
    job.done = 0.001
    assert job.seconds_left() is None and json.dumps(job.public())


def test_the_listener_says_why_it_cannot_listen():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot listen there"):
            listen(Address(port=taken.getsockname()[1]))
    assert page_url("0.0.0.0", 80, "t") == "http://127.0.0.1:80/?token=t"
    assert page_url("::1", 80, "t") == "http://[::1]:80/?token=t"
