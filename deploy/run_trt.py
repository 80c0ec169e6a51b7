"""``python deploy/run_trt.py --camera 0``: keypoints of the people before a camera, by TensorRT.

The engine is built on the first start, which takes minutes; ``deploy/build_engine.py`` builds one with other settings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.runtime.loop.trt_command import run_on_tensorrt


def main(argv: Sequence[str] | None = None) -> int:
    return run_on_tensorrt("deploy/run_trt.py", argv)


if __name__ == "__main__":
    sys.exit(main())
