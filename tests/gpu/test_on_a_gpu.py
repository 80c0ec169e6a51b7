"""What only a GPU can prove; everything that does not need one is tested on an emulated GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu_check.__main__ import main
from deploy.runtime.gpu.backend import open_driver
from edgekp.errors import DeviceError


@pytest.mark.gpu
def test_no_check_fails(tmp_path: Path) -> None:
    try:
        open_driver().close()
    except DeviceError as error:
        pytest.skip(str(error))
    assert main(["--out", str(tmp_path / "gpu-check.json")]) == 0
    assert "pass" in {record["verdict"] for record in json.loads((tmp_path / "gpu-check.json").read_text())}
