"""The properties of an XMP packet, and the same packet with other values of some and every other byte as it was.

XMP is RDF in XML (ISO 16684-1). expat, the parser of the standard library, checks the text and says where its elements
lie. The new values are then put into the text itself: libraries that write a tree back lose the padding behind it, the
quotes and line breaks between attributes, or the prefixes that other programs chose.
"""

import codecs
import re
from collections.abc import Mapping
from html import escape
from typing import NamedTuple
from xml.parsers import expat

from moslens import __version__
from moslens.errors import SidecarError
from moslens.system.text import readable

NAMESPACE = "https://github.com/moslens/moslens/ns/1.0/"
"""Of what moslens records beside a rating: a name, not an address."""

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMP = "http://ns.adobe.com/xap/1.0/"
_MICROSOFT = "http://ns.microsoft.com/photo/1.0/"

# Properties are named as expat does: namespace, space, local name.
RATING = f"{_XMP} Rating"
MICROSOFT_RATING = f"{_MICROSOFT} Rating"
# exiftool copies tags by their last name: a property "Model" would end up in the camera model of a photo.
OUR_RATING, OUR_SCORE, OUR_MODEL, OUR_PHOTO = (
    f"{NAMESPACE} {name}" for name in ("RatingWritten", "QualityScore", "QualityModel", "ScoredPhoto")
)
_ALIASES = {f"{_MICROSOFT.rstrip('/')} Rating": MICROSOFT_RATING}
"""exiftool leaves the last slash of this namespace out."""
_KNOWN = {RATING, MICROSOFT_RATING, OUR_RATING, OUR_SCORE, OUR_MODEL, OUR_PHOTO}
_PREFIXES = {_XMP: "xmp", NAMESPACE: "moslens", _RDF: "rdf"}

MOST_BYTES = 1 << 26
_DEEPEST = 200

_EMPTY = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="moslens {__version__}">
 <rdf:RDF xmlns:rdf="{_RDF}">
  <rdf:Description
   rdf:about=""/>
 </rdf:RDF>
</x:xmpmeta>
""".encode()

# Both are used on tags that expat has read, so they meet well-formed ones only.
_TAG = re.compile(rb"<([^\s/>]+)((?:\s+[^\s=]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*)\s*(/?)>")
_ATTRIBUTE = re.compile(rb"(\s+)([^\s=]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_DECLARATION = re.compile(r"<\?xml\s[^>]*?encoding\s*=\s*[\"']([^\"']*)[\"']")
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_unrated(rating: str | None) -> bool:
    """Whether a rating is missing, empty or 0, which is how programs and cameras write that there is none."""
    try:
        return not rating or float(rating) == 0
    except ValueError:
        return False


def same_rating(one: str | None, other: str) -> bool:
    """Whether two ratings are the same number."""
    try:
        return one is not None and float(one) == float(other)
    except ValueError:
        return False


class _Tag(NamedTuple):
    """A start tag in the text, with the prefixes that hold in it."""

    name: bytes
    start: int
    end: int
    attributes_end: int
    indent: bytes  # the white space before its last attribute
    closed: bool  # <like this/>
    prefixes: dict[str | None, str]


class _Value(NamedTuple):
    """A value of a property: what it is, and which bytes of the text to replace by ``before``, another, ``after``."""

    name: str
    text: str | None  # None: it is no plain text
    start: int
    end: int
    before: bytes = b""
    after: bytes = b""


class Packet:
    """An XMP packet, from the bytes of a sidecar or from inside a photo.

    Raises SidecarError for what is not well-formed, has a document type (and with it entities), is larger than 64 MB
    or nested more than 200 deep, or is not in UTF-8 or UTF-16.
    """

    def __init__(self, data: bytes = _EMPTY) -> None:
        if len(data) > MOST_BYTES:
            raise SidecarError(f"larger than {MOST_BYTES:,} bytes")
        self._mark, self._encoding, text = _decoded(data)
        self._text = text.encode()
        found = _Reader(self._text)
        self._values, self._node, self._rdf = found.values, found.node, found.rdf

    def get(self, name: str) -> str | None:
        """The value of one of the properties that this module names, as text; None where it is missing.

        A value that is no plain text, and values that differ, come as words that are no number.
        """
        values = {"a structure" if one.text is None else one.text.strip() for one in self._values if one.name == name}
        return " and ".join(sorted(values)) if values else None

    def patched(self, properties: Mapping[str, str]) -> bytes:
        """The packet with these properties. Raises SidecarError where one is not plain text, or if this is no XMP."""
        edits: list[tuple[int, int, bytes]] = []
        missing: dict[str, bytes] = {}
        for name, value in properties.items():
            new = escape(_NOT_XML.sub("\ufffd", readable(value))).encode()
            places = [one for one in self._values if one.name == name]
            if any(one.text is None for one in places):
                raise SidecarError(f"its {name.partition(' ')[2]} is no plain text, so it is not changed")
            edits += [(one.start, one.end, one.before + new + one.after) for one in places]
            if not places:
                missing[name] = new
        if missing:
            edits.append(self._added(missing))
        text = self._text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return self._mark + text.decode().encode(self._encoding)

    def _added(self, properties: Mapping[str, bytes]) -> tuple[int, int, bytes]:
        """The edit that adds attributes to the first description, or a description to an empty ``rdf:RDF``."""
        if self._rdf is None:
            raise SidecarError("not XMP: it has no rdf:RDF")
        tag = self._node
        if tag is not None:
            return tag.attributes_end, tag.attributes_end, _attributes(properties, tag.prefixes, tag.indent)
        tag = self._rdf
        about = {f"{_RDF} about": b"", **properties}
        # The element needs a prefix of RDF even where that is the default namespace.
        prefix = next((one for one, uri in tag.prefixes.items() if one and uri == _RDF), None)
        declared = b"" if prefix else f' xmlns:rdf="{_RDF}"'.encode()
        prefixes = tag.prefixes | {prefix or "rdf": _RDF}
        node = b"\n  <%s:Description%s%s/>" % ((prefix or "rdf").encode(), declared, _attributes(about, prefixes, b" "))
        if tag.closed:
            return tag.attributes_end, tag.end, b">" + node + b"\n </" + tag.name + b">"
        return tag.end, tag.end, node


def _attributes(properties: Mapping[str, bytes], prefixes: Mapping[str | None, str], space: bytes) -> bytes:
    """Properties as attributes, with the declarations of the prefixes that do not hold yet."""
    known = {uri: prefix for prefix, uri in prefixes.items() if prefix}
    declared, written = b"", b""
    for name, value in properties.items():
        uri, _, local = name.partition(" ")
        if uri not in known:
            prefix, number = _PREFIXES[uri], 1
            while prefix in prefixes:
                prefix, number = f"{_PREFIXES[uri]}{number}", number + 1
            known[uri] = prefix
            declared += b'%sxmlns:%s="%s"' % (space, prefix.encode(), uri.encode())
        written += b'%s%s:%s="%s"' % (space, known[uri].encode(), local.encode(), value)
    return declared + written


def _decoded(data: bytes) -> tuple[bytes, str, str]:
    """The byte order mark, the encoding and the text."""
    mark, encoding = next(
        (
            (mark, encoding)
            for mark, encoding in (
                (codecs.BOM_UTF8, "utf-8"),
                (codecs.BOM_UTF16_LE, "utf-16-le"),
                (codecs.BOM_UTF16_BE, "utf-16-be"),
            )
            if data.startswith(mark)
        ),
        (b"", "utf-8"),
    )
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise SidecarError(f"not {encoding.upper()} at byte {error.start + len(mark):,}") from error
    if "\0" in text:  # expat would take it for UTF-16, and its places would be others than ours
        raise SidecarError(f"not {encoding.upper()}: it holds NUL")
    declared = _DECLARATION.match(text)
    family = encoding[:6].rstrip("-")
    if declared and not declared[1].lower().startswith((family, "us-ascii")):
        raise SidecarError(f"declared as {declared[1][:40]!r}, but only UTF-8 and UTF-16 (with its mark) are read")
    return mark, encoding, text


def _known(name: str) -> str:
    """The name of a property as this module has it; empty for any other property."""
    name = _ALIASES.get(name, name)
    return name if name in _KNOWN else ""


class _Reader:
    """One pass over the text: the values of the known properties, and the tags that can take new ones."""

    def __init__(self, text: bytes) -> None:
        self.values: list[_Value] = []
        self.node: _Tag | None = None
        self.rdf: _Tag | None = None
        self._text = text
        self._open: list[str] = []
        self._depth = 0  # of the rdf:RDF that was found
        self._scopes: dict[str | None, list[str]] = {}
        self._element: tuple[str, _Tag, list[str]] | None = None  # an open property and its text
        parser = self._parser = expat.ParserCreate("utf-8", " ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartNamespaceDeclHandler = self._begin_prefix
        parser.EndNamespaceDeclHandler = self._end_prefix
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(text, True)
        except expat.ExpatError as error:
            raise SidecarError(f"not well-formed XML: {error}") from error

    def _doctype(self, *declaration: object) -> None:
        raise SidecarError("has a document type declaration: XMP has none, and entities are not expanded")

    def _begin_prefix(self, prefix: str | None, uri: str | None) -> None:
        self._scopes.setdefault(prefix, []).append(uri or "")

    def _end_prefix(self, prefix: str | None) -> None:
        self._scopes[prefix].pop()

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append(name)
        depth = len(self._open)
        if depth > _DEEPEST:
            raise SidecarError(f"nested more than {_DEEPEST} deep")
        if name == f"{_RDF} RDF" and self.rdf is None:
            self.rdf, self._depth = self._tag(), depth
        elif not self._depth:
            return
        elif depth == self._depth + 1 and name == f"{_RDF} Description":
            tag = self._tag()
            self.node = self.node or tag
            self._keep_attributes(tag, attributes)
        elif depth == self._depth + 2 and (known := _known(name)) and self._open[-2] == f"{_RDF} Description":
            self._element = known, self._tag(), []

    def _end(self, name: str) -> None:
        depth = len(self._open)
        self._open.pop()
        if depth == self._depth:
            self._depth = 0
        elif depth == self._depth + 2 and self._element is not None:
            (known, tag, text), self._element = self._element, None
            end = tag.end if tag.closed else self._parser.CurrentByteIndex
            attributes = _ATTRIBUTE.finditer(self._text, tag.start, tag.attributes_end)
            bare = all(one[2].startswith(b"xmlns") for one in attributes)
            plain = bare and b"<" not in self._text[tag.end : end]
            value = "".join(text) if plain else None
            if tag.closed:
                closing = b"</" + tag.name + b">"
                self.values.append(_Value(known, value, tag.attributes_end, tag.end, b">", closing))
            else:
                self.values.append(_Value(known, value, tag.end, end))

    def _characters(self, data: str) -> None:
        if self._element is not None:
            self._element[2].append(data)

    def _tag(self) -> _Tag:
        start = self._parser.CurrentByteIndex
        found = _TAG.match(self._text, start)
        if found is None:  # expat has just read it
            raise SidecarError(f"has a tag at byte {start:,} that is not understood")
        spaces = [one[1] for one in _ATTRIBUTE.finditer(self._text, found.start(2), found.end(2))]
        prefixes = {prefix: uris[-1] for prefix, uris in self._scopes.items() if uris}
        return _Tag(found[1], start, found.end(), found.end(2), (spaces or [b" "])[-1], bool(found[3]), prefixes)

    def _keep_attributes(self, tag: _Tag, attributes: Mapping[str, str]) -> None:
        for one in _ATTRIBUTE.finditer(self._text, tag.start, tag.attributes_end):
            prefix, _, local = one[2].decode().rpartition(":")
            written = f"{tag.prefixes.get(prefix, '')} {local}"
            name = _known(written)
            if prefix and name:
                group = 3 if one[3] is not None else 4
                self.values.append(_Value(name, attributes[written], one.start(group), one.end(group)))
