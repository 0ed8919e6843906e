"""Sidecars as other programs write them: what is read from them, what a patch changes, and what is refused."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moslens.errors import SidecarError
from moslens.rating.xmp import OUR_MODEL, OUR_RATING, OUR_SCORE, RATING, Packet, is_unrated

DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:darktable="http://darktable.sf.net/"
   exif:DateTimeOriginal="2024:05:04 10:11:12.000"
   xmp:Rating="1"
   darktable:xmp_version="5"
   darktable:history_end="2">
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="exposure"
      darktable:params="gz02eJxjYA &amp; é"/>
    </rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
LIGHTROOM = """<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000">\r
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\r
  <rdf:Description rdf:about=""\r
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"\r
    xmlns:dc="http://purl.org/dc/elements/1.1/"\r
   crs:Exposure2012="+0.35"\r
   crs:HasSettings='True'>\r
   <dc:subject>\r
    <rdf:Bag>\r
     <rdf:li>lake</rdf:li>\r
    </rdf:Bag>\r
   </dc:subject>\r
  </rdf:Description>\r
 </rdf:RDF>\r
</x:xmpmeta>\r
"""
DIGIKAM = (
    """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<!-- kept -->
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:digiKam="http://www.digikam.org/ns/1.0/">
   <digiKam:TagsList><rdf:Seq><rdf:li>Orte/See</rdf:li></rdf:Seq></digiKam:TagsList>
  </rdf:Description>
  <rdf:Description rdf:about="" xmlns:xap="http://ns.adobe.com/xap/1.0/">
   <xap:Rating>4</xap:Rating><?note kept?>
   <xap:Label><![CDATA[Red]]></xap:Label>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
    + (" " * 99 + "\n") * 20
    + '<?xpacket end="w"?>'
)
IMMICH = """<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.96'>
<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>

 <rdf:Description rdf:about=''
  xmlns:tiff='http://ns.adobe.com/tiff/1.0/'>
  <tiff:ImageDescription>
   <rdf:Alt>
    <rdf:li xml:lang='x-default'>the lake</rdf:li>
   </rdf:Alt>
  </tiff:ImageDescription>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?>"""
OLD = {"darktable": "1", "lightroom": None, "digikam": "4", "immich": None}
SHAPES = {"darktable": DARKTABLE, "lightroom": LIGHTROOM, "digikam": DIGIKAM, "immich": IMMICH}
NEW = {RATING: "5", OUR_RATING: "5", OUR_SCORE: "91.5", OUR_MODEL: "m@1"}
ADDED = re.compile(r"\s+(xmlns:(xmp|moslens)|xmp:Rating|moslens:\w+)=\"[^\"]*\"")
HEAD = '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:p="http://ns.adobe.com/xap/1.0/"'


@pytest.mark.parametrize("shape", SHAPES)
def test_a_patch_changes_the_rating_and_adds_our_record_and_nothing_else(shape: str) -> None:
    text = SHAPES[shape]
    packet = Packet(text.encode())
    assert packet.get(RATING) == OLD[shape]
    patched = packet.patched(NEW)
    again = Packet(patched)
    assert {name: again.get(name) for name in NEW} == NEW
    if OLD[shape] is None:
        assert ADDED.sub("", patched.decode()) == text
    else:
        for old in ('xmp:Rating="1"', "<xap:Rating>4"):
            text = text.replace(old, old[:-2] + "5" + old[-1] if '"' in old else old[:-1] + "5")
        assert re.sub(r"\s+(xmlns:)?moslens(:\w+)?=\"[^\"]*\"", "", patched.decode()) == text
    ElementTree.fromstring(patched)


@pytest.mark.parametrize("shape", SHAPES)
def test_patched_back_it_has_the_same_values_and_a_second_patch_is_the_same_bytes(shape: str) -> None:
    once = Packet(SHAPES[shape].encode()).patched(NEW)
    assert Packet(once).patched(NEW) == once
    assert Packet(Packet(once).patched({**NEW, RATING: "-1"})).patched(NEW) == once


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (f'{HEAD}><r:Description r:about="" p:Rating="3"/></r:RDF>', "3"),
        (f"{HEAD}><r:Description r:about='' p:Rating=' 3 '/></r:RDF>", "3"),
        (f"{HEAD}><r:Description><p:Rating>3.0</p:Rating></r:Description></r:RDF>", "3.0"),
        (f"{HEAD}><r:Description><p:Rating/></r:Description></r:RDF>", ""),
        (f"{HEAD}><r:Description><p:Rating></p:Rating></r:Description></r:RDF>", ""),
        (f"{HEAD}><r:Description p:Rating='2'/><r:Description p:Rating='2'/></r:RDF>", "2"),
        (f"{HEAD}><r:Description p:Rating='1'/><r:Description p:Rating='2'/></r:RDF>", "1 and 2"),
        (f"{HEAD}><r:Description/></r:RDF>", None),
        (f"{HEAD}/>", None),
        (f"{HEAD}></r:RDF>", None),
        # another namespace, and a rating of something inside the photo, are no rating of it
        (f'{HEAD}><r:Description xmlns:xmp="urn:x" xmp:Rating="3"/></r:RDF>', None),
        (f"{HEAD}><r:Description><p:Part><r:Description p:Rating='3'/></p:Part></r:Description></r:RDF>", None),
        ('<RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><Description about=""/></RDF>', None),
        ('<RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>', None),
    ],
)  # fmt: skip
def test_every_form_is_read_and_can_be_patched(body: str, value: str | None) -> None:
    packet = Packet(body.encode())
    assert packet.get(RATING) == value
    patched = packet.patched(NEW)
    again = Packet(patched)
    assert {name: again.get(name) for name in NEW} == NEW
    ElementTree.fromstring(patched)


@pytest.mark.parametrize(
    "inner",
    [
        "<p:Rating r:parseType='Resource'><r:value>3</r:value></p:Rating>",
        "<p:Rating><r:Bag><r:li>3</r:li></r:Bag></p:Rating>",
        "<p:Rating>3<!-- three --></p:Rating>",
        "<p:Rating r:resource='urn:3'/>",
    ],
)
def test_a_rating_that_is_no_plain_text_counts_as_one_and_is_not_patched(inner: str) -> None:
    packet = Packet(f"{HEAD}><r:Description>{inner}</r:Description></r:RDF>".encode())
    assert packet.get(RATING) == "a structure"
    assert not is_unrated(packet.get(RATING))
    with pytest.raises(SidecarError, match="its Rating is no plain text"):
        packet.patched(NEW)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_encoding_stays(encoding: str) -> None:
    text = IMMICH.removeprefix("\ufeff")
    patched = Packet(text.encode(encoding)).patched(NEW)
    assert patched[:2] == text.encode(encoding)[:2]
    assert ADDED.sub("", patched.decode(encoding)) == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not well-formed"),
        (DARKTABLE.encode()[:-30], "not well-formed"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type"),
        (b'<!DOCTYPE a [<!ENTITY a0 "lol"><!ENTITY a1 "&a0;&a0;">]><a>&a1;</a>', "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        (b"<a>&unknown;</a>", "not well-formed"),
        (b"<a>" * 201 + b"</a>" * 201, "nested more than 200 deep"),
        (b"<a>" * 1_000_000, "nested more than 200 deep"),
        (b"<a>\xff</a>", "not UTF-8 at byte 3"),
        (b'<?xml version="1.0" encoding="ISO-8859-1"?><a>\xe4</a>', "not UTF-8"),
        (b'<?xml version="1.0" encoding="ISO-8859-1"?><a/>', "declared as 'ISO-8859-1'"),
        (b'\xff\xfe<\0?\0x\0m\0l\0 \0e\0n\0c\0o\0d\0i\0n\0g\0=\0"\0U\0T\0F\0-\0008\0"\0?\0>\0', "declared as 'UTF-8'"),
        ("<a/>".encode("utf-16-le"), "it holds NUL"),
        (b'<a b="1" b="2"/>', "not well-formed"),
        (b"<p:a/>", "not well-formed"),
        (b" " * ((1 << 26) + 1), "larger than"),
    ],
)
def test_hostile_and_broken_text_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(SidecarError, match=re.escape(message)):
        Packet(data)


def test_xml_that_is_no_xmp_is_not_patched() -> None:
    with pytest.raises(SidecarError, match="it has no rdf:RDF"):
        Packet(b"<svg/>").patched(NEW)


def test_a_prefix_with_another_meaning_is_not_taken() -> None:
    text = DIGIKAM.replace("digiKam", "moslens")
    patched = Packet(text.encode()).patched(NEW).decode()
    assert 'xmlns:moslens="http://www.digikam.org/ns/1.0/"' in patched
    assert 'moslens1:RatingWritten="5"' in patched


def test_a_new_sidecar_is_xmp() -> None:
    root = ElementTree.fromstring(Packet().patched(NEW))
    (node,) = root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert node.get("{http://ns.adobe.com/xap/1.0/}Rating") == "5"
    assert node.get("{https://github.com/moslens/moslens/ns/1.0/}QualityScore") == "91.5"


@given(st.text(), st.sampled_from(sorted(SHAPES)))
def test_any_text_can_be_a_value(value: str, shape: str) -> None:
    patched = Packet(SHAPES[shape].encode()).patched({OUR_MODEL: value})
    read = Packet(patched).get(OUR_MODEL)
    assert read is not None
    if value.isprintable():
        assert read == value.strip()


@given(st.binary(max_size=200), st.integers(0, len(DIGIKAM)), st.integers(0, 40))
def test_damaged_text_is_read_or_refused(noise: bytes, at: int, cut: int) -> None:
    data = DIGIKAM.encode()
    damaged = data[:at] + noise + data[at + cut :]
    try:
        patched = Packet(damaged).patched(NEW)
    except SidecarError:
        return
    assert Packet(patched).get(RATING) == "5"


@pytest.mark.parametrize(
    ("text", "unrated"), [(None, True), ("", True), ("0", True), ("0.0", True), ("-1", False), ("x", False)]
)
def test_zero_is_no_rating(text: str | None, unrated: bool) -> None:
    assert is_unrated(text) is unrated
