"""GStreamer pipelines for OpenCV: CSI cameras of a Jetson, and what a user wrote. Knows no V4L2."""

from __future__ import annotations

import re

import cv2

from deploy.runtime.camera import quiet
from deploy.runtime.camera.pictures import Capture
from edgekp.errors import CameraError

SINK = "appsink drop=1 max-buffers=1 sync=false"  # the newest picture, at once
CSI_HINT = ("is the camera's ribbon in its place, and no other program using it? "
            "try: sudo systemctl restart nvargus-daemon, then: nvgstcapture-1.0")
GST_HINT = "try the pipeline in gst-launch-1.0, with fakesink in place of its sink"


def built_in(what: str) -> bool:
    """Whether OpenCV itself was built with GStreamer or FFMPEG; its registry lists plugins that may not be there."""
    return re.search(rf"^\s*{what}:\s+YES", cv2.getBuildInformation(), re.MULTILINE) is not None


def csi_pipeline(sensor: str, size_wh: tuple[int, int] | None, fps: float | None) -> str:
    """From a CSI sensor through the Jetson's own image processor to BGRx in the memory of the host."""
    if not (sensor.isdecimal() and len(sensor) < 5):
        said = sensor if re.fullmatch(r"[\w.-]{0,20}", sensor) else "..."  # an address may hold a password
        raise CameraError(f"csi://{said}: expected the number of a sensor, such as csi://0")
    caps = ["video/x-raw(memory:NVMM)", "format=NV12"]
    if size_wh is not None:
        caps += [f"width={size_wh[0]}", f"height={size_wh[1]}"]
    if fps is not None:
        caps += [f"framerate={round(fps * 1000)}/1000"]
    return (f"nvarguscamerasrc sensor-id={int(sensor)} ! {','.join(caps)} ! nvvidconv ! "
            f"video/x-raw,format=BGRx ! {SINK}")


def stream_pipeline(address: str) -> str:
    """For an OpenCV without FFmpeg."""
    quoted = address.replace('"', "%22")
    return f'uridecodebin uri="{quoted}" ! videoconvert ! video/x-raw,format=BGR ! {SINK}'


def with_sink(pipeline: str) -> str:
    """A user's pipeline, led to OpenCV unless it is already."""
    return pipeline if "appsink" in pipeline else f"{pipeline} ! videoconvert ! video/x-raw,format=BGR ! {SINK}"


def open_pipeline(shown: str, pipeline: str) -> Capture:
    """Start a pipeline.

    Raises:
        CameraError: OpenCV was built without GStreamer, or the pipeline does not start.
    """
    if not built_in("GStreamer"):
        raise CameraError(f"{shown}: needs GStreamer, without which this OpenCV {cv2.__version__} ({cv2.__file__}) "
                          "was built; on a Jetson uninstall opencv-python and opencv-python-headless with pip and: "
                          "sudo apt install libopencv-python")
    quiet.opencv()
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise CameraError(f"{shown}: the pipeline does not start; {CSI_HINT if shown.startswith('csi') else GST_HINT}")
    return capture
