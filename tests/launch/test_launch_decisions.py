"""The launch's decisions, without a cluster: shares, failures, exit codes, folders, signals, the wheel."""

import errno
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ssrnn_data.errors import DataError
from ssrnn_dist.config import RunConfig, check_config
from ssrnn_dist.problems import RunFailed, UserError, user_error
from ssrnn_dist.run_lock import check_unlocked, is_locked, run_lock
from ssrnn_dist.runs import prepare_run
from ssrnn_launch.cli.errors import explain
from ssrnn_launch.cli.generate import read_prompt
from ssrnn_launch.guard import MARK_VARIABLE, end_marked, guarded, marked_processes
from ssrnn_launch.local import absolute_paths, train_locally
from ssrnn_launch.machine import available_cores, local_share, quickstart_workers
from ssrnn_launch.problems import LaunchFailed, Stopped, user_error_of
from ssrnn_launch.quickstart import quickstart_config
from ssrnn_launch.ray_session import _own_folder, connected_ray
from ssrnn_launch.rendezvous import interface_of
from ssrnn_launch.stop_signals import StopSignals, last_resort
from ssrnn_launch.wheel import build_wheel
from ssrnn_launch.worker import lasting_failure
from tests.helpers.launching import REPOSITORY


def config(**scale: object) -> RunConfig:
    return check_config({"name": "a", "data": {"index": "corpus"}, "scale": scale})


@pytest.mark.parametrize(
    ("scale", "cores", "expected"),
    [
        ({"workers": 2}, 2, (2, 1, 1)),
        ({"workers": 5}, 2, (5, 1, 1)),
        ({"workers": 2}, 16, (16, 1, 8)),
        ({"workers": 2, "cpus_per_worker": 3}, 2, (6, 3, 3)),
        ({"workers": [1, 4]}, 8, (8, 1, 2)),
    ],
)
def test_workers_share_the_cores(scale: dict[str, object], cores: int, expected: tuple[int, int, int]) -> None:
    share = local_share(config(**scale), cores)
    assert (share.ray_cpus, share.cpus_per_worker, share.threads_per_worker) == expected


def test_a_containers_quota_counts() -> None:
    everything = available_cores("max 100000")
    assert available_cores("100000 100000") == 1
    assert available_cores("150000 100000") == min(2, everything)
    assert available_cores("") == everything


@pytest.mark.parametrize(
    ("cores", "lanes", "free_gb", "workers"),
    [(2, 32, 16, 2), (1, 32, 16, 1), (64, 32, 500, 8), (8, 4, 64, 4), (8, 32, 3, 2), (4, 32, 0, 1)],
)
def test_quickstart_has_a_worker_a_core_as_far_as_memory_goes(
    cores: int, lanes: int, free_gb: int, workers: int
) -> None:
    assert quickstart_workers(cores, lanes, free_gb * 10**9) == workers


def test_quickstart_takes_the_users_number_of_workers() -> None:
    assert quickstart_config(["scale.workers=3"]).scale.workers == 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (user_error("a", "b", "c"), (True, ["a: b; c"])),
        (DataError("a: b; c"), (True, ["a: b; c"])),
        (RunFailed("not finite"), (False, ["not finite"])),
        (OSError(errno.ENOSPC, "full", "/x"), (False, ["/x: No space left on device"])),
        (KeyError("k"), (False, ["KeyError: 'k'"])),
        (RuntimeError("connection closed by peer"), None),
        (OSError(errno.ECONNRESET, "reset"), None),
        (ConnectionResetError("reset"), None),
    ],
)
def test_only_what_a_restart_may_mend_is_raised_in_a_worker(error: Exception, told: object) -> None:
    assert lasting_failure(error) == told


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (user_error("a", "b", "c"), 2, "a: b; c"),
        (DataError("a: b; c"), 2, "a: b; c"),
        (user_error_of(["data.index: no; yes: no; maybe"]), 2, "data.index: no; yes: no; maybe"),
        (RunFailed("no"), 1, "no"),
        (LaunchFailed("no", "/log"), 1, "no"),
        (OSError(errno.ENOSPC, "x", "/disk"), 1, "/disk: No space left on device"),
        (
            PermissionError(errno.EACCES, "x", "/locked/x"),
            2,
            "/locked/x: Permission denied; a path that can be read or written is wanted",
        ),
        (KeyboardInterrupt(), 130, "stopped"),
        (Stopped("done", signal.SIGTERM), 143, "done"),
        (RuntimeError("two\nlines"), 1, "RuntimeError: two lines"),
    ],
)
def test_every_exception_has_a_code_and_one_line(error: BaseException, code: int, line: str) -> None:
    failure = explain(error)
    assert (failure.exit_code, failure.lines) == (code, (line,))


def test_all_problems_of_an_error_are_told() -> None:
    error = UserError(*user_error("a", "b", "c").problems, *user_error("d", "e", "f").problems)
    assert explain(error).lines == ("a: b; c", "d: e; f")


def test_paths_are_made_absolute_and_stdlib_is_no_path() -> None:
    values = {"name": "a", "data": {"index": "corpus", "build": {"sources": ["stdlib:", "notes/*.md", "~/x"]}}}
    resolved = absolute_paths(check_config(values))
    assert resolved.data.index == str(Path("corpus").absolute())
    assert resolved.run_root == str(Path("runs").absolute())
    assert resolved.data.build is not None
    assert resolved.data.build.sources == ["stdlib:", str(Path("notes/*.md").absolute()), str(Path("~/x").expanduser())]
    assert absolute_paths(resolved) == resolved


def test_a_mixtures_folders_are_made_absolute_and_urls_stay() -> None:
    sources = [{"index": "a/index.json"}, {"index": "~/b", "weight": 2}, {"index": "s3://bucket/c"}]
    resolved = absolute_paths(check_config({"name": "a", "data": {"mixture": sources}}))
    found = [each.index for each in resolved.data.sources]
    assert found == [str(Path("a/index.json").absolute()), str(Path("~/b").expanduser()), "s3://bucket/c"]
    assert resolved.data.sources[1].weight == 2
    assert absolute_paths(resolved) == resolved


def test_only_one_command_trains_a_run(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    for second in (lambda: run_lock(tmp_path).__enter__(), lambda: check_unlocked(tmp_path)):
        with run_lock(tmp_path), pytest.raises(UserError, match="another command trains this run now"):
            second()
    assert not is_locked(tmp_path)
    with run_lock(tmp_path):
        assert is_locked(tmp_path)


def test_a_second_command_touches_nothing_of_the_first_ones_run(tmp_path: Path) -> None:
    config = check_config({"name": "a", "data": {"index": "nowhere"}, "run_root": str(tmp_path)})
    folder = prepare_run(config).folder
    before = (folder / "config.yaml").read_text()
    changed = config.model_copy(update={"scale": config.scale.model_copy(update={"max_restarts": 7})})
    with run_lock(folder), pytest.raises(UserError, match="another command trains this run now"):
        train_locally(changed)
    assert (folder / "config.yaml").read_text() == before


def test_the_first_signal_asks_and_the_second_insists() -> None:
    stop, before = StopSignals(), signal.getsignal(signal.SIGTERM)
    with stop.watching():
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.asked, stop.insisted, stop.number) == (True, False, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert (stop.insisted, stop.number) == (True, signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_prompt_is_any_utf8_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes("é😀\0\r\n".encode())
    (tmp_path / "bad").write_bytes(b"abc\xff")
    assert read_prompt(None, str(tmp_path / "good")) == "é😀\0\r\n"
    assert read_prompt(None, None) == ""
    assert read_prompt("", None) == ""
    with pytest.raises(UserError, match=r"bad: not UTF-8 \(byte 3\)"):
        read_prompt(None, str(tmp_path / "bad"))
    with pytest.raises(UserError, match="--prompt: not UTF-8"):
        read_prompt(os.fsdecode(b"abc\xff"), None)


def sleeper(mark: str, **given: Any) -> subprocess.Popen[bytes]:
    """A process with a child, both of which sleep."""
    child = "import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]); {child}"
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, MARK_VARIABLE: mark}, **given)


def test_the_processes_of_a_session_are_found_and_ended_with_their_children(tmp_path: Path) -> None:
    process = sleeper("test-mark-1")
    while len(marked_processes("test-mark-1", tmp_path)) < 2:
        assert process.poll() is None
    assert end_marked("test-mark-1", tmp_path) == []
    assert process.wait(5) == -signal.SIGKILL
    assert marked_processes("test-mark-1", tmp_path) == []


def test_a_process_that_lost_its_environment_is_known_by_its_log(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        process = sleeper("another mark", stdout=log)
    assert process.pid in marked_processes("test-mark-4", tmp_path)
    assert end_marked("test-mark-4", tmp_path) == []
    assert process.wait(5) == -signal.SIGKILL


def test_the_guard_ends_what_a_killed_command_leaves(tmp_path: Path) -> None:
    folder = tmp_path / "left"
    folder.mkdir()
    orphan = sleeper("test-mark-2")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom ssrnn_launch.guard import guarded\n"
        f"with guarded('test-mark-2', Path({str(folder)!r})):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "launch")}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert orphan.wait(10) == -signal.SIGKILL
    until = time.monotonic() + 5
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not folder.exists()


def test_the_last_resort_ends_a_process_that_hangs() -> None:
    code = (
        "import signal, sys, time\nfrom ssrnn_launch.stop_signals import last_resort\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "with last_resort(lambda: print('ended', flush=True), 0.3):\n    print('ready', flush=True)\n"
        "    while True: time.sleep(1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "launch")}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.stdout.read() == "ended\n"
    assert process.wait(5) == 128 + signal.SIGTERM


def test_the_last_resort_is_not_needed_where_all_ends_in_time() -> None:
    stop = StopSignals()
    with stop.watching(), last_resort(lambda: pytest.fail("too early"), 30):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked


def test_a_guard_spares_the_command_that_it_guards(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    with (folder / "lock").open("w"), guarded("test-mark-3", folder):
        pass
    assert not folder.exists()


def test_folders_of_killed_commands_are_swept_away_and_those_in_use_are_not() -> None:
    with _own_folder() as in_use:
        abandoned = in_use.with_name(in_use.name + "-abandoned")
        abandoned.mkdir()
        (abandoned / "lock").touch()
        os.utime(abandoned, (0, 0))
        os.utime(in_use, (0, 0))
        with _own_folder():
            assert in_use.is_dir()
            assert not abandoned.exists()
    assert not in_use.exists()


def test_the_loopback_interface_is_found() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.7") is None


def test_a_dashboards_address_is_no_heads() -> None:
    told = r"127\.0\.0\.1:8265, the address of a dashboard; IP:PORT of a head.* `ssrnn submit --address http://127"
    with pytest.raises(UserError, match=told), connected_ray("http://127.0.0.1:8265"):
        pass


def test_our_wheel_holds_what_hatchlings_holds(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "hatchling")]
    subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True)
    (theirs,) = (tmp_path / "hatchling").glob("*.whl")
    ours = build_wheel(tmp_path)
    assert build_wheel(tmp_path).name == ours.name  # the same content, the same name

    def contents(wheel: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if ".dist-info/" not in name]
            return {name: archive.read(name) for name in names}

    assert contents(ours) == contents(theirs)
    with zipfile.ZipFile(ours) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        assert b"Requires-Dist" not in archive.read(metadata)
