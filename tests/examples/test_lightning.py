"""The Lightning example works as it stands, without a network, and leaves nothing behind."""

import re
import subprocess
import sys
from pathlib import Path

from paths import ROOT

TRAIN = ROOT / "examples" / "lightning_fvd" / "train_autoencoder.py"


def test_the_fvd_that_lightning_logs_falls_while_the_model_trains(tmp_path: Path) -> None:
    offline = (
        "import runpy, socket, sys\n"
        "def refuse(*arguments): raise OSError('this example needs no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        f"sys.argv[1:] = ['--epochs', '2']; runpy.run_path({str(TRAIN)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", offline]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    lines = [re.fullmatch(r"step +(\d+)  fvd (\d+\.\d)", line) for line in out.stdout.splitlines()]
    assert all(lines)
    steps, values = zip(*((int(line[1]), float(line[2])) for line in lines if line), strict=True)
    assert steps == (0, 32, 64)
    assert values[0] > values[1] > values[2] > 500
    assert list(tmp_path.iterdir()) == []
