"""The contract that every stage agrees on: skeletons, geometry, codecs and the artifact folder. Numpy only."""

__version__ = "0.1.0"
