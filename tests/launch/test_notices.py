"""Preemption notices: what a text means, and real services on 127.0.0.1 that answer, are silent, or answer nonsense."""

import json
import logging
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.config.cluster import NoticeSection
from ssrnn_launch import notices
from ssrnn_launch.notices import Notice, look, parse_aws, parse_deadline, parse_file, parse_gcp

AT = datetime(2026, 11, 24, 8, 22, tzinfo=UTC).timestamp()
AWS = NoticeSection(metadata="aws")
GCP = NoticeSection(metadata="gcp")
Answer = Callable[[BaseHTTPRequestHandler], tuple[int, str]]


@pytest.fixture(autouse=True)
def told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_told", set())


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], list[str]]]:
    """Starts a metadata service that answers so; the requests that it got."""
    servers: list[ThreadingHTTPServer] = []

    def serve(answer: Answer) -> list[str]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                asked.append(f"{self.command} {self.path}")
                status, text = answer(self)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_PUT = _answer

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv(notices.URL_VARIABLE, f"http://127.0.0.1:{server.server_port}")
        return asked

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def aws_service(action: tuple[int, str]) -> Answer:
    """IMDSv2: no token, no answer."""

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, str]:
        if request.command == "PUT" and request.path == "/latest/api/token":
            return (200, "t0ken") if request.headers["X-aws-ec2-metadata-token-ttl-seconds"] else (400, "")
        if request.headers["X-aws-ec2-metadata-token"] != "t0ken":
            return 401, ""
        return action if request.path == "/latest/meta-data/spot/instance-action" else (404, "")

    return answer


def gcp_service(preempted: str, maintenance: str = "NONE") -> Answer:
    values = {"preempted": preempted, "maintenance-event": maintenance}

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, str]:
        if request.headers["Metadata-Flavor"] != "Google":
            return 403, ""
        folder, _, name = request.path.rpartition("/")
        return (200, values[name]) if folder == "/computeMetadata/v1/instance" else (404, "")

    return answer


def test_nothing_to_look_at_is_no_notice() -> None:
    assert look(NoticeSection()) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Notice("gone exists", None)),
        ("120\n", Notice("gone exists", 1000.0 + 120)),
        (f"{AT:.1f}", Notice("gone exists", AT)),
        ("2026-11-24T08:22:00Z\n", Notice("gone exists", AT)),
        ("2026-11-24T10:22:00+02:00", Notice("gone exists", AT)),
        ("2026-11-24T08:22:00", Notice("gone exists", AT)),
        ("rack 7 loses power\nsorry", Notice("rack 7 loses power", None)),
        ('{"action": "terminate", "time": "2026-11-24T08:22:00Z"}', Notice("terminate", AT)),
        ('{"reason": "power", "deadline": 30}', Notice("power", 1030.0)),
        ('{"deadline": "soon"}', Notice("gone exists", None)),
        ('{"deadline": true}', Notice("gone exists", None)),
        ("[1, 2]", Notice("[1, 2]", None)),
        ("nan", Notice("nan", None)),
        ("-5", Notice("-5", None)),
    ],
)
def test_what_a_file_says(text: str, expected: Notice) -> None:
    assert parse_file(text, "gone", written_at=1000.0) == expected


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    notice = parse_file(text, "gone", written_at=1000.0)
    assert notice.reason
    assert notice.deadline is None or math.isfinite(notice.deadline)


@given(st.floats(0, 1e9, exclude_max=True))
def test_a_small_number_counts_from_the_writing_of_the_file(seconds: float) -> None:
    assert parse_deadline(seconds, 50.0) == parse_deadline(repr(seconds), 50.0) == 50.0 + seconds


def test_a_file_is_a_notice_from_when_it_exists(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "notice"
    section = NoticeSection(file=str(path))
    assert look(section) is None
    path.parent.mkdir()
    assert look(section) is None
    path.write_text("60")
    os.utime(path, (5000.0, 5000.0))
    assert look(section) == Notice(f"{path} exists", 5060.0)


def test_a_file_that_cannot_be_read_is_still_a_notice(tmp_path: Path) -> None:
    path = tmp_path / "a-folder-in-its-place"
    path.mkdir()
    assert look(NoticeSection(file=str(path))) == Notice(f"{path} exists", None)


def test_aws_without_an_interruption_is_no_notice(serve: Callable[[Answer], list[str]]) -> None:
    asked = serve(aws_service((404, "")))
    assert look(AWS) is None
    assert asked == ["PUT /latest/api/token", "GET /latest/meta-data/spot/instance-action"]


def test_aws_interruption(serve: Callable[[Answer], list[str]]) -> None:
    serve(aws_service((200, json.dumps({"action": "stop", "time": "2026-11-24T08:22:00Z"}))))
    assert look(AWS) == Notice("AWS spot: stop", AT)


def test_an_aws_time_that_nobody_can_read_is_still_a_notice() -> None:
    assert parse_aws('{"action": "terminate", "time": "?"}') == Notice("AWS spot: terminate", None)


def test_gcp(serve: Callable[[Answer], list[str]]) -> None:
    serve(gcp_service("FALSE"))
    assert look(GCP) is None
    serve(gcp_service("FALSE", "MIGRATE_ON_HOST_MAINTENANCE"))
    assert look(GCP) is None
    serve(gcp_service("FALSE", "TERMINATE_ON_HOST_MAINTENANCE"))
    assert look(GCP) == Notice("GCP: ends for maintenance of its host", None)
    serve(gcp_service("TRUE"))
    found = look(GCP)
    assert found is not None
    assert found.reason == "GCP: preempted"


def test_gcp_leaves_thirty_seconds() -> None:
    assert parse_gcp("TRUE\n", None, now=100.0) == Notice("GCP: preempted", 130.0)


@pytest.mark.parametrize("section", [AWS, GCP])
@pytest.mark.parametrize("answer", [(500, "down"), (403, ""), (200, "<html>log in</html>"), (404, "")])
def test_a_service_that_answers_something_else_is_told_once(
    section: NoticeSection,
    answer: tuple[int, str],
    serve: Callable[[Answer], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = serve(lambda _: answer)
    with caplog.at_level(logging.WARNING):
        assert [look(section) for _ in range(3)] == [None] * 3
    assert len(caplog.records) == 1
    assert section.metadata in caplog.text
    assert len(asked) >= 3  # it is asked again all the same


def test_a_service_that_is_silent_closed_or_no_service(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notices, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv(notices.URL_VARIABLE, f"http://127.0.0.1:{port}")
        assert look(AWS) is None
    assert look(GCP) is None  # the port is closed now
    assert len(caplog.records) == 2


def test_a_service_that_speaks_no_http(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ESMTP\r\n\r\n")

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        monkeypatch.setenv(notices.URL_VARIABLE, f"http://127.0.0.1:{server.getsockname()[1]}")
        assert look(GCP) is None
        thread.join(5)
    assert len(caplog.records) == 1


def test_a_file_counts_where_the_service_is_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(notices.URL_VARIABLE, "http://127.0.0.1:1")
    (tmp_path / "notice").write_text("soon")
    assert look(NoticeSection(file=str(tmp_path / "notice"), metadata="aws")) == Notice("soon", None)


def test_the_metadata_service_is_never_asked_by_a_proxy(
    monkeypatch: pytest.MonkeyPatch, serve: Callable[[Answer], list[str]]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    serve(aws_service((200, '{"action": "stop", "time": "2026-11-24T08:22:00Z"}')))
    assert look(AWS) == Notice("AWS spot: stop", AT)


def test_every_cloud_of_the_config_is_there() -> None:
    allowed = NoticeSection.model_json_schema()["properties"]["metadata"]["enum"]
    assert set(allowed) == {"none", *notices.CLOUDS}
