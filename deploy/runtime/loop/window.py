"""A window that shows the newest picture. Knows no keypoint."""

from __future__ import annotations

import os
import re

import cv2

from edgekp.sample import Image

TITLE = "edgekp"
ENDING_KEYS = (ord("q"), 27)  # 27 is Escape


def why_no_window() -> str | None:
    """What keeps this OpenCV on this machine from opening a window; None where nothing is known to."""
    toolkit = re.search(r"^\s*(?:GUI|highgui)\s*:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE | re.IGNORECASE)
    if not hasattr(cv2, "imshow") or (toolkit and toolkit[1].upper() == "NONE"):
        return "this OpenCV was built without windows"
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display here"
    return None


class Window:
    """Opened by the first picture; only the main thread may use it."""

    def __init__(self) -> None:
        self._is_open = False

    def show(self, bgr: Image | None) -> bool:
        """Show a picture, if there is a new one; False when the user closed the window or pressed q or Escape."""
        if bgr is not None:
            cv2.imshow(TITLE, bgr)
            self._is_open = True
        if not self._is_open:
            return True
        pressed = cv2.waitKey(1) & 0xFF
        return pressed not in ENDING_KEYS and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        if self._is_open:
            cv2.destroyWindow(TITLE)
