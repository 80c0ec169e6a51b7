"""Readers of foreign label formats, by the name under which ``edgekp import`` knows them."""

from edgekp.importers.cvat import read_cvat
from edgekp.importers.found import Format
from edgekp.importers.labelme import read_labelme
from edgekp.importers.lsp import read_lsp
from edgekp.importers.mpii import read_mpii
from edgekp.importers.pts import read_pts
from edgekp.importers.via import read_via
from edgekp.importers.wflw import read_wflw
from edgekp.importers.yolo_pose import read_yolo_pose

FORMATS = {
    "labelme": Format(read_labelme, "folder of JSON files, or one", first_pixel=0.5, shown_upright=True),
    "via": Format(read_via, "VIA 2 project, or its annotations as JSON or CSV", first_pixel=0.0, shown_upright=True),
    "cvat": Format(read_cvat, "annotations.xml of 'CVAT for images 1.1', or JSON of 'COCO Keypoints 1.0'",
                   first_pixel=0.5, shown_upright=True),
    "mpii": Format(read_mpii, "mpii_human_pose_v1_u12_1.mat, or HRNet's JSON list", first_pixel=1.0,
                   skeleton="mpii16", one_skeleton=True, has_boxes=True),
    "wflw": Format(read_wflw, "list_98pt_rect_attr_*.txt", first_pixel=0.0, skeleton="wflw98", one_skeleton=True,
                   has_boxes=True),
    "300w": Format(read_pts, "folder of .pts files, or one", first_pixel=1.0, skeleton="ibug68"),
    "lsp": Format(read_lsp, "joints.mat, original or extended", first_pixel=1.0, skeleton="lsp14", one_skeleton=True),
    "yolo-pose": Format(read_yolo_pose, "folder of label files, or one", first_pixel=0.0, skeleton="coco17",
                        shown_upright=True, has_boxes=True),
}
