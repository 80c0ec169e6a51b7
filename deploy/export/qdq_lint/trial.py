"""A mended model's checks in a process that may end: onnx 1.21 and ONNX Runtime 1.24 abort on some graphs."""

from __future__ import annotations

import sys

from deploy.export.qdq_lint.mend import check_and_run
from edgekp.trial import read_here

if __name__ == "__main__":
    sys.exit(read_here(check_and_run))
