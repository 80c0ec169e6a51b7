"""Rotations about the axes of a body: x to its left, y up, z forward. Knows nothing else."""

from __future__ import annotations

import numpy as np

from edgekp.sample import Float


def about_x(degrees: float) -> Float:
    """(3, 3); a positive turn brings what is up to the front."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


def about_y(degrees: float) -> Float:
    """(3, 3); a positive turn brings what is in front to the left."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def about_z(degrees: float) -> Float:
    """(3, 3); a positive turn brings what hangs down to the left."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
