"""What a run was made with: recorded beside the scores, never part of them."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vdm_bench.leaderboards.record import Environment
from vdm_bench.version import __version__

# What can change a number or the reading of a clip.
_PACKAGES = ("torch", "numpy", "av", "pillow", "safetensors")


def describe_environment(device: str) -> Environment:
    """Describe this process: Python, platform, packages, device and revision of the code."""
    revision, dirty = _revision(Path(__file__).resolve().parents[2])
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages={name: found for name in _PACKAGES if (found := _version(name))},
        device=_device_name(device),
        code_version=__version__,
        code_revision=revision,
        code_dirty=dirty,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return device


def _revision(folder: Path) -> tuple[str | None, bool | None]:
    """Give commit and state of the checkout this code runs from; an installed package has none."""
    if not (folder / ".git").exists():
        return None, None
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
