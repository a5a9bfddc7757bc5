"""Who gets in: host, origin, token, and what every answer says."""

import pytest

pytest.importorskip("starlette", reason="needs the extra page")

from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from becalm.core.files import InputError
from becalm.page.guard import Guard, host_name
from becalm.page.server import Address

TOKEN = "a-token-of-many-letters"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def client(host="127.0.0.1", base="http://127.0.0.1:8642"):
    return TestClient(Guard(PlainTextResponse("in"), TOKEN, host), base_url=base, follow_redirects=False)


@pytest.mark.parametrize("name", ["127.0.0.1:8642", "localhost:8642", "[::1]:8642", "LOCALHOST"])
def test_the_own_names_get_in(name):
    assert client().get("/", headers={**BEARER, "host": name}).text == "in"


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example:8642", "192.168.1.5:8642", "", "[evil"])
def test_other_names_do_not(name):
    assert client().get("/", headers={**BEARER, "host": name}).status_code == 400


def test_off_loopback_numbers_get_in_and_names_do_not():
    assert client("0.0.0.0").get("/", headers={**BEARER, "host": "192.168.1.5:8642"}).text == "in"
    assert client("0.0.0.0").get("/", headers={**BEARER, "host": "evil.example:8642"}).status_code == 400
    assert client("box.lan").get("/", headers={**BEARER, "host": "box.lan:8642"}).text == "in"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://127.0.0.1"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_other_origins_do_not_get_in(origin, method):
    assert client().request(method, "/jobs", headers={**BEARER, "origin": origin}).status_code == 403


def test_the_own_origin_gets_in_and_a_foreign_form_does_not():
    assert client().post("/jobs", headers={**BEARER, "origin": "http://127.0.0.1:8642"}).text == "in"
    assert client().post("/jobs", headers={**BEARER, "sec-fetch-site": "cross-site"}).status_code == 403


def test_nobody_gets_in_without_the_token():
    page = client()
    assert page.get("/").status_code == page.get("/?token=wrong").status_code == page.post("/jobs").status_code == 401
    assert page.get("/", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert page.get("/", headers={"cookie": "becalm-8642=wrong"}).status_code == 401
    assert page.get(f"/api?token={TOKEN}").status_code == 401


def test_the_printed_address_sets_a_cookie_that_gets_in():
    page = client()
    answer = page.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("becalm-8642=") and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert page.get("/").text == "in"


@pytest.mark.parametrize("headers", [BEARER, {}, {"host": "evil.example"}])
def test_every_answer_has_the_headers(headers):
    answer = client().get("/", headers=headers)
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"


def test_names_of_hosts():
    assert host_name("[::1]:8000") == "::1" and host_name("LocalHost:1") == "localhost" and host_name("a") == "a"


def test_addresses():
    with pytest.raises(InputError, match=r"--host 0\.0\.0\.0: other computers .* --token SECRET"):
        Address("0.0.0.0")
    with pytest.raises(InputError, match="--token: give 16"):
        Address(token="short")
    with pytest.raises(InputError, match="--port 70000"):
        Address(port=70000)
    assert Address("0.0.0.0", 80, TOKEN).token == TOKEN
