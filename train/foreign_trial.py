"""A stranger's weights, read in a process that may end: PyTorch reads archives in C++."""

from __future__ import annotations

import sys

from edgekp.trial import read_here
from train.foreign_weights import weights_in

if __name__ == "__main__":
    sys.exit(read_here(weights_in))
