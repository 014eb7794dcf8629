"""The house: folder names that shadow nobody, a wheel that is complete, and what may be imported when."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("room", ["kernels", "launch", "data_pipelines"])
def test_rooms_are_no_packages(room: str) -> None:
    """A folder `kernels` with an __init__.py would shadow, or be shadowed by, other people's `kernels`."""
    assert not (ROOT / room / "__init__.py").exists()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout and installed into an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    target = folder / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    return target


def run_installed(installed: Path, code: str) -> str:
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=installed, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_package_and_its_files(installed: Path) -> None:
    code = """
import ssrnn_data, ssrnn_dist.train, ssrnn_kernels.cells, ssrnn_launch.cli.main
from ssrnn_launch.folders import configs_folder
print(ssrnn_data.__file__, ssrnn_dist.__file__, ssrnn_kernels.__file__, ssrnn_launch.__file__, configs_folder())
print(sorted(path.name for path in configs_folder().glob('*.yaml')))
"""
    files, configs = run_installed(installed, code).strip().splitlines()
    assert all(each.startswith(str(installed)) for each in files.split())
    assert configs == str(sorted(path.name for path in (ROOT / "launch" / "configs").glob("*.yaml")))
    assert (installed / "ssrnn_dist/tracking/report/template.html.j2").is_file()


def test_the_configs_load_without_torch(installed: Path) -> None:
    code = """
import sys
from ssrnn_dist.config import load_config
from ssrnn_launch.folders import configs_folder
print(*(load_config(path).name for path in sorted(configs_folder().glob('*.yaml'))))
assert not {'torch', 'ray', 'mlflow', 'deepspeed'} & set(sys.modules), 'a heavy import'
"""
    assert "quickstart" in run_installed(installed, code)
