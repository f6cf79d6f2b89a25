"""The studio's server lets in its own page, and nobody else."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from torch import nn

from eyeshot.errors import UnknownName
from eyeshot.web_studio import Session, Subject
from eyeshot.web_studio.server import Server
from eyeshot.web_studio.web_page import PAGE_FILES, SCRIPTS, export_page, one_script


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    found = Server(Session(Subject("two", net), size=(1, 12, 12)))
    thread = threading.Thread(target=found.run)
    thread.start()
    yield found
    found.stop()
    thread.join()


def get(
    server: Server, path: str = "", method: str = "GET", body: bytes | None = None, **headers: Any
) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(server.address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    target = path if path.startswith("/") else parts.path + path
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, target, body, named)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content


def test_the_page_and_its_files_are_served_with_a_policy(server: Server) -> None:
    for name in ("", *PAGE_FILES):
        status, headers, content = get(server, name)
        assert (status, bool(content)) == (200, True)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in headers


def test_the_page_begins_in_the_language_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = Session(Subject("one", nn.Conv2d(1, 2, 3).eval()), size=(1, 5, 5))
    for language, tag in (("", 'lang="en"'), ("zh_CN.UTF-8", 'lang="zh" data-language="zh"')):
        monkeypatch.setenv("EYESHOT_LANG", language)
        found = Server(session)
        thread = threading.Thread(target=found.run)
        thread.start()
        try:
            served = get(found)[2].decode()
        finally:
            found.stop()
            thread.join()
        export_page(session, tmp_path / "page.html", [])
        for page in (served, (tmp_path / "page.html").read_text()):
            assert f"\n<html {tag}>\n" in page
    monkeypatch.setenv("EYESHOT_LANG", "fr")
    with pytest.raises(UnknownName, match="unknown language 'fr'"):
        Server(session)


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/api/state", "/wrong/studio.js"])
def test_without_the_token_there_is_nothing(server: Server, path: str) -> None:
    status, _, content = get(server, path)
    assert status in (403, 404)
    assert b"two" not in content


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_another_page_is_refused(server: Server, headers: dict[str, Any]) -> None:
    assert get(server, "api/state", **headers)[0] == 403


@pytest.mark.parametrize("path", ["../server.py", "%2e%2e%2fserver.py", "server.py", "nothing.js"])
def test_only_the_pages_own_files_are_served(server: Server, path: str) -> None:
    assert get(server, path)[0] in (403, 404)


def test_questions_are_answered_and_mistakes_named(server: Server) -> None:
    status, _, content = get(server, "api/state")
    length = int.from_bytes(content[:4], "little")
    assert status == 200
    assert json.loads(content[4 : 4 + length])["network"]["name"] == "two"
    status, _, content = get(server, "api/maps?layer=nine")
    assert status == 400
    assert "nine" in json.loads(content)["error"]
    assert get(server, "api/draw?size=1,1", "POST", b"x" * (5 << 20))[0] == 413


def test_modules_can_be_put_into_one() -> None:
    script = one_script()
    assert "\nimport " not in script
    assert "\nexport " not in script
    assert "function mount(" in script
    top = re.compile(r"^(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
    names = top.findall(script)
    assert len(set(names)) == len(names)
    for name in SCRIPTS:
        assert f"// {name}" in script
