"""A first run of a detector in a process that may end: ONNX Runtime 1.24 aborts on some graphs."""

from __future__ import annotations

import sys

from deploy.runtime.detectors.detector import first_run
from edgekp.trial import read_here

if __name__ == "__main__":
    sys.exit(read_here(first_run))
