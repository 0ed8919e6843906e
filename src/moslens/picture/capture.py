"""When and by which camera a photo was taken, from its EXIF data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import IO, Any

from moslens.picture.formats import identify, muted_decoders, read_header

_MOST_EXIF = 4 << 20  # each value in it would become an object
_MAKE, _MODEL, _EXIF = 0x010F, 0x0110, 0x8769
_ORIGINAL, _OFFSET, _SUBSECONDS, _SERIAL = 0x9003, 0x9011, 0x9291, 0xA431
_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_ZONE = re.compile(r"([+-])(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Capture:
    """``taken`` is DateTimeOriginal with SubSecTimeOriginal and OffsetTimeOriginal, None where EXIF has no valid one.

    It is naive, the clock of the camera, where the offset is missing. ``camera`` is the maker, model and serial number
    that EXIF has, empty without any.
    """

    taken: datetime | None = None
    camera: tuple[str, ...] = ()

    def seconds_to(self, other: "Capture") -> float | None:
        """Seconds between two captures by one camera; None where a time is missing or the cameras differ.

        Times with an offset are compared in UTC; where one has none, both are read as the clock of the camera.
        """
        if self.taken is None or other.taken is None or self.camera != other.camera:
            return None
        one, two = self.taken, other.taken
        if one.tzinfo is None or two.tzinfo is None:
            one, two = one.replace(tzinfo=None), two.replace(tzinfo=None)
        return abs((one - two).total_seconds())


def read_capture(stream: IO[bytes]) -> Capture:
    """The capture of a picture file. Nothing that its EXIF data holds is an error: what cannot be read is missing."""
    try:
        with muted_decoders():
            image = read_header(stream, identify(stream))
            if len(image.info.get("exif") or b"") > _MOST_EXIF:
                return Capture()
            exif = image.getexif()
            return capture_of(exif, exif.get_ifd(_EXIF))
    except Exception:  # decoders raise whatever they like on broken data
        return Capture()


def capture_of(main: Mapping[int, Any], exif: Mapping[int, Any]) -> Capture:
    """The capture in the values of a main and an Exif directory."""
    names = (_text(main.get(_MAKE)), _text(main.get(_MODEL)), _text(exif.get(_SERIAL)))
    return Capture(_taken(exif), tuple(name for name in names if name))


def _taken(exif: Mapping[int, Any]) -> datetime | None:
    found = _TIME.match(_text(exif.get(_ORIGINAL)))
    if found is None:
        return None
    fraction = re.match(r"\d{1,6}", _text(exif.get(_SUBSECONDS)))
    zone = _ZONE.fullmatch(_text(exif.get(_OFFSET)))
    offset = None
    try:
        if zone is not None:
            ahead = timedelta(hours=int(zone[2]), minutes=int(zone[3]))
            offset = timezone(-ahead if zone[1] == "-" else ahead) if ahead else UTC
        year, month, day, hour, minute, second = map(int, found.groups())
        microsecond = int(fraction[0].ljust(6, "0")) if fraction else 0
        return datetime(year, month, day, hour, minute, second, microsecond, offset)
    except ValueError:  # "0000:00:00 00:00:00" is how some cameras say that they do not know
        return None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return value.replace("\0", " ").strip() if isinstance(value, str) else ""
