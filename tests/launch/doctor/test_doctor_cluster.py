"""`ssrnn doctor` on this machine and on a real cluster of two nodes on loopback, good and bad; and its probes here."""

import json
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ssrnn_launch.doctor import network_probes, probes, storage_probes
from ssrnn_launch.doctor.before import check_corpora, check_price
from ssrnn_launch.doctor.facts import NodeFacts
from ssrnn_launch.guard import MARK_VARIABLE, end_marked
from ssrnn_launch.ray_session import why_unreachable
from tests.helpers.launching import RAY_ON_LOOPBACK, environment, only_json, ssrnn, tiny, write_config


@dataclass(frozen=True)
class Cluster:
    address: str
    env: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """two_nodes.py, ended by the pids that carry its mark."""
    folder, mark = Path(tempfile.mkdtemp(prefix="ssrnn-two-", dir="/tmp")), secrets.token_hex(16)
    env = environment(**RAY_ON_LOOPBACK, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(16))
    program = Path(__file__).with_name("two_nodes.py")
    with (folder / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, program, folder],
            env={**env, MARK_VARIABLE: mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, (folder / "errors.txt").read_text()
        yield Cluster(address, env, folder)
    finally:
        process.communicate("", timeout=60)
        end_marked(mark, folder)
        shutil.rmtree(folder, ignore_errors=True)


def doctor(cluster: Cluster, folder: Path, values: dict[str, Any], *more: str) -> tuple[int, dict[str, Any]]:
    path = write_config(folder, values)
    done = ssrnn("doctor", path, "--address", cluster.address, "--json", *more, cwd=folder, env=cluster.env)
    assert "Traceback" not in done.stderr
    return done.returncode, only_json(done.stdout)


def failed(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["detail"] for check in report["checks"] if check["state"] == "fail"}


def test_a_good_cluster_and_a_trial(cluster: Cluster, corpus: Path, tmp_path: Path) -> None:
    code, report = doctor(cluster, tmp_path, tiny(corpus, train__steps=5000))
    assert (code, failed(report)) == (0, {})
    states = {check["name"]: check["state"] for check in report["checks"]}
    for name in ("room", "versions", "code", "clocks", "run_root", "connections", "all-reduce", "trial"):
        assert states[name] == "ok", report
    assert report["warnings"] == 0, report
    assert list((tmp_path / "runs").iterdir()) == []  # the trial and the tokens are gone


def test_a_run_root_of_each_nodes_own_and_no_room(cluster: Cluster, corpus: Path, tmp_path: Path) -> None:
    """Each node was started in a folder of its own, which /proc/self/cwd is for its workers."""
    values = tiny(corpus, run_root="/proc/self/cwd/runs", scale__workers=3, cluster__secrets={"NO_SUCH": "x"})
    code, report = doctor(cluster, tmp_path, values)
    assert code == 1
    assert set(failed(report)) == {"room", "run_root", "secrets"}
    assert "is not shared" in failed(report)["run_root"]
    assert report["checks"][-1]["name"] == "trial"  # not made, and said so
    assert report["checks"][-1]["state"] == "warn"
    for name in "ab":
        assert list((cluster.folder / name / "runs").iterdir()) == []


def test_a_wrong_token_is_one_line(cluster: Cluster, corpus: Path, tmp_path: Path) -> None:
    """Ray itself tries it again for 20 s, and writes a line each time."""
    path, env = write_config(tmp_path, tiny(corpus)), {**cluster.env, "RAY_AUTH_TOKEN": "0" * 32}
    done = ssrnn("train", path, "--set", f"cluster.address={cluster.address}", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cluster.address: {cluster.address}: no Ray cluster that takes our token")
    assert done.stderr.count("\n") == 1


def test_nobody_there_and_a_wrong_config(corpus: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, tiny(corpus))
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    done = ssrnn("doctor", path, "--address", f"127.0.0.1:{port}", cwd=tmp_path)
    assert done.returncode == 1
    assert f"FAIL  ray — 127.0.0.1:{port}: " in done.stdout
    done = ssrnn("doctor", path, "--set", "model.x=1", cwd=tmp_path)
    assert done.returncode == 2


def test_the_facts_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "hunter2")
    facts = NodeFacts(**probes.node_facts(["HERE", "GONE"], {"run_root": str(tmp_path / "not" / "yet")}, False))
    assert facts.missing_secrets == ["GONE"]
    assert "hunter2" not in repr(facts)
    assert facts.versions["ray"] is not None
    assert facts.interfaces["lo"] == ["127.0.0.1"]
    assert (facts.free_bytes["run_root"] or 0) > 0
    assert facts.code == probes.code_hash() is not None


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_tokens_are_written_read_and_removed(form: str, tmp_path: Path) -> None:
    folder = form.format(tmp_path / "runs" / "tokens")
    assert storage_probes.write_token(folder, "0.txt", "a") is None
    assert storage_probes.read_tokens(folder, {"0.txt": "a"}) == []
    assert storage_probes.remove_token(folder, "0.txt") is None
    assert list((tmp_path / "runs").iterdir()) == []


def test_tokens_that_are_missing_or_not_the_right_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_probes, "SHARED_SECONDS", 0.0)
    storage_probes.write_token(str(tmp_path), "0.txt", "another cluster's")
    assert storage_probes.read_tokens(str(tmp_path), {"0.txt": "a", "1.txt": "b"}) == ["0.txt", "1.txt"]
    assert storage_probes.read_tokens(str(tmp_path / "none"), {"0.txt": "a"}) == ["0.txt"]


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in (storage_probes.write_token(str(tmp_path / "file" / "runs"), "0.txt", "a") or "")
    assert storage_probes.offload_error(str(tmp_path / "file" / "nvme")) is not None
    assert storage_probes.offload_error(str(tmp_path / "nvme")) is None


def test_an_index_and_its_shards(corpus: Path) -> None:
    index, shard = str(corpus / "index.json"), next(corpus.glob("*.tar"))
    size = shard.stat().st_size
    good = storage_probes.index_state(index, {str(shard): size})
    assert (good["error"], good["odd_shards"]) == (None, 0)
    assert storage_probes.index_state(index, {str(shard): size + 1, "/gone": 1})["odd_shards"] == 2
    assert storage_probes.index_state(str(corpus / "none.json"), {})["error"]


def test_peers_connect_and_measure() -> None:
    peer = network_probes.Peer()
    port = peer.serve("127.0.0.1")
    assert peer.send("127.0.0.1", port, 0.0)["error"] is None
    assert peer.send("127.0.0.1", port, 0.05)["bytes_per_second"] > 0
    with socket.create_server(("127.0.0.1", 0)) as found:
        closed = found.getsockname()[1]
    assert "refused" in peer.send("127.0.0.1", closed, 0.0)["error"]
    assert why_unreachable(f"ray://127.0.0.1:{closed}") is not None
    assert why_unreachable(f"127.0.0.1:{port}") is None
    assert why_unreachable("auto") is None


def test_an_mlflow_server_is_alive_and_takes_our_token(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                status, body = 200, b"OK"
            elif self.headers["Authorization"] != "Bearer t0ken":
                status, body = 401, b"no"
            else:
                status, body = 404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        assert network_probes.mlflow_error(uri, "a b") == "HTTP 401 Unauthorized"
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
        assert network_probes.mlflow_error(f"{uri}/", "a b") is None
        server.shutdown()
    assert "refused" in (network_probes.mlflow_error(uri, "a b") or "")


def test_before_any_cluster(corpus: Path, tmp_path: Path) -> None:
    from ssrnn_dist.config import check_config

    good = check_config(tiny(corpus))
    assert check_corpora(good)[0].state == "ok"
    assert check_price(good).state == "ok"
    assert check_corpora(check_config(tiny(tmp_path / "none")))[0].state == "fail"
    assert check_corpora(check_config(tiny(tmp_path / "none", data__build={"sources": ["x"]})))[0].state == "warn"
    assert check_price(check_config(tiny(corpus, cost={}))).state == "warn"
    assert check_price(check_config(tiny(corpus, cost={"price_file": str(tmp_path / "none")}))).state == "fail"
    prices = tmp_path / "prices.yaml"
    for on_demand, state in ((2.0, "ok"), (-1, "fail")):
        entry = {"instance_type": "b", "on_demand": on_demand, "per": "node"}
        prices.write_text(json.dumps({"date": "2026-11-01", "currency": "USD", "source": "us", "prices": [entry]}))
        cost = {"price_file": str(prices), "instance_type": "b"}
        assert check_price(check_config(tiny(corpus, cost=cost))).state == state
        if state == "ok":
            unknown = check_price(check_config(tiny(corpus, cost={**cost, "instance_type": "c"})))
            assert unknown.state == "warn"
            assert "an entry with instance_type: c" in unknown.detail
