"""``python deploy/run_onnx.py --camera 0``: keypoints of the people before a camera, by ONNX Runtime."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.runtime.loop.processor_command import run_on_processor


def main(argv: Sequence[str] | None = None) -> int:
    return run_on_processor("deploy/run_onnx.py", "ONNX Runtime", target="cpu", kind="onnx", argv=argv)


if __name__ == "__main__":
    sys.exit(main())
