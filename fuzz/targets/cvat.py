"""CVAT's XML, and its export as COCO."""

from __future__ import annotations

from edgekp.importers.cvat import read_cvat
from edgekp.importers.found import Wanted
from fuzz.drawn import HEIGHT, PICTURE, WIDTH, as_json, coco, importer
from fuzz.target import Target

XML = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><image id="0" name="{PICTURE}" width="{WIDTH}" height="{HEIGHT}">
<skeleton label="person" group_id="3"><points label="nose" outside="0" occluded="1" points="20.5,9.25"></points>
<points label="left_eye" outside="1" occluded="0" points="22.5,8.25"></points></skeleton>
<points label="right_eye" occluded="0" points="18.0,8.0" group_id="3"/>
<box label="person" xtl="2" ytl="3" xbr="40" ybr="45" group_id="3"/>
<polygon label="person" points="2,3;40,45;9,40.5" group_id="3"/>
</image></annotations>
"""
BOMB = b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><annotations><image name="&d;"/></annotations>'

TARGET = Target((XML.encode(), as_json(coco()), BOMB),
                importer("coco17", lambda source, known: read_cvat(source, Wanted(known, None, 0.5), label=""),
                         lambda data: ".json" if data[:1] == b"{" else ".xml"),
                (b"<image", b"<points", b"<skeleton", b"</skeleton>", b"<!DOCTYPE", b"<!ENTITY", b"&#0;", b"&lt;",
                 b"<![CDATA[", b' points="', b";", b",", b"1e999", b"nan", b'encoding="utf-16"', b'encoding="x"'))
