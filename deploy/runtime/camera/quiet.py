"""Keeps the complaints of OpenCV's libraries off stderr, where our own lines say the same. Knows no camera."""

from __future__ import annotations

import os

import cv2

SILENT = 0  # LOG_LEVEL_SILENT of OpenCV
FFMPEG_QUIET = "-8"  # AV_LOG_QUIET of FFmpeg; read when OpenCV first uses it


def opencv() -> None:
    """Silence OpenCV and FFmpeg, unless the user has set how much they say."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)
    if "OPENCV_LOG_LEVEL" in os.environ:
        return
    if hasattr(cv2, "setLogLevel"):  # OpenCV 4
        cv2.setLogLevel(SILENT)
    else:
        cv2.utils.logging.setLogLevel(SILENT)
