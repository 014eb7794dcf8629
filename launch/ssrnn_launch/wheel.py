"""The code of this distribution as a wheel, for a cluster: from a checkout and from an installed wheel alike.

It names no dependencies: the cluster's environment has them, and Ray's installation of a py_module with dependencies
would fetch them all again. Its version ends in a hash of its content, because Ray keeps wheels by file name."""

import base64
import hashlib
import re
import zipfile
from collections.abc import Collection
from importlib import metadata, util
from pathlib import Path

from ssrnn_launch.folders import configs_folder

DISTRIBUTION = "ssrnn-dist"
PACKAGES = ("ssrnn_data", "ssrnn_dist", "ssrnn_kernels", "ssrnn_launch")
CONFIGS = "ssrnn_launch/configs"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes


def build_wheel(folder: Path) -> Path:
    """Write the wheel into a folder; its path."""
    files = wheel_files()
    version = f"{base_version()}+{_hash(files)[:12]}"
    stem = f"{DISTRIBUTION.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    files |= {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: ssrnn\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return path


def wheel_files() -> dict[str, bytes]:
    """Every file of the packages and the configs, by its path in the wheel."""
    files: dict[str, bytes] = {}
    for package in PACKAGES:
        for root in _package_folders(package):
            files |= {f"{package}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in _files_in(root)}
    configs = configs_folder()
    files |= {
        f"{CONFIGS}/{path.relative_to(configs).as_posix()}": path.read_bytes() for path in configs.rglob("*.yaml")
    }
    return dict(sorted(files.items()))


def base_version() -> str:
    """The version of the installed distribution, without a local part."""
    return metadata.version(DISTRIBUTION).partition("+")[0]


def requirements(extras: Collection[str] = ()) -> list[str]:
    """What a node's environment needs besides the wheel, Ray as it is here: a cluster has one Ray everywhere."""
    found = []
    for line in metadata.requires(DISTRIBUTION) or []:
        wanted, _, marker = (part.strip() for part in line.partition(";"))
        extra = re.search(r"""extra\s*==\s*['"]([\w.-]+)['"]""", marker)
        if not marker or (extra is not None and extra[1] in extras):
            found.append(re.sub(r"^ray(\[[\w,-]+\])?.*", rf"ray\1=={metadata.version('ray')}", wanted))
    return found


def _package_folders(package: str) -> list[Path]:
    found = util.find_spec(package)
    return [Path(place) for place in (found.submodule_search_locations or ())] if found else []


def _files_in(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


def _hash(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _record(files: dict[str, bytes], own_name: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{own_name},,", ""]).encode()
