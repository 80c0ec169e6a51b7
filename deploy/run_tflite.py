"""``python deploy/run_tflite.py --camera 0``: keypoints of the people before a camera, by the TFLite runtime."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.runtime.loop.processor_command import run_on_processor


def main(argv: Sequence[str] | None = None) -> int:
    return run_on_processor("deploy/run_tflite.py", "the TFLite runtime", target="tflite", kind="tflite", argv=argv)


if __name__ == "__main__":
    sys.exit(main())
