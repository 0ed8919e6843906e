"""The folders that the server may read: whatever paths and links say, nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers.linked_photos import SECRET, tools_over
from moslens import Scorer, UnreadableImage
from moslens.errors import ConfigError
from moslens.mcp_server.roots import Forbidden, Roots
from moslens.mcp_server.tools import Tools


class TestRoots:
    def test_links_and_dots_are_resolved_first(self, photos: Path) -> None:
        roots = Roots([photos], max_pictures=9, max_bytes=1000)
        assert roots.resolve("trip/../good.png") == str(photos.resolve() / "good.png")
        assert roots.resolve(str(photos / "trip")) == str(photos.resolve() / "trip")
        for path in (
            f"../{SECRET}", "link.png", "linked/private.png", "linked", "/etc/passwd", "trip/../../photos2",
            str(photos) + "-not", "..", "/", "../nothing-here", "\0", "",
        ):  # fmt: skip
            with pytest.raises(Forbidden):
                roots.resolve(path)

    def test_a_refusal_does_not_tell_whether_a_file_exists(self, photos: Path) -> None:
        roots = Roots([photos], max_pictures=9, max_bytes=1000)
        words = set()
        for path in (f"../{SECRET}/private.png", f"../{SECRET}/nothing.png"):
            with pytest.raises(Forbidden) as found:
                roots.resolve(path)
            words.add(str(found.value).removeprefix(path))
        assert len(words) == 1

    def test_a_link_within_the_roots_is_fine(self, photos: Path) -> None:
        (photos / "again.png").symlink_to(photos / "good.png")
        assert Roots([photos], max_pictures=9, max_bytes=1000).pictures(["again.png"]).names == ["again.png"]

    def test_several_roots(self, photos: Path, tmp_path: Path) -> None:
        roots = Roots([photos, tmp_path / SECRET], max_pictures=9, max_bytes=1000)
        assert roots.pictures(["private.png", "good.png", "link.png"]).names == ["private.png", "good.png", "link.png"]

    def test_folders_that_links_lead_to_are_not_even_listed(
        self, photos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listed = []
        scandir = os.scandir
        monkeypatch.setattr(os, "scandir", lambda path: (listed.append(os.path.realpath(path)), scandir(path))[1])
        listing = Roots([photos], max_pictures=9, max_bytes=1000).pictures([str(photos)])
        assert SECRET not in "".join(listing.files)
        assert sorted(listed) == sorted(os.path.realpath(one) for one in (photos, photos / "trip"))

    def test_counts_and_bytes_are_limited(self, photos: Path, map_model: Path) -> None:
        with pytest.raises(Forbidden, match="more than 3"):
            Roots([photos], max_pictures=3, max_bytes=1000).pictures(["."])
        (row,) = tools_over(map_model, photos, max_bytes=50).score(["good.png"])["photos"]
        assert row["error"]["code"] == "unreadable"
        assert "more than the limit of 50" in row["error"]["message"]
        (row,) = Tools(Scorer(map_model), Roots([photos], max_pictures=9, max_bytes=10**6), max_pixels=1000).score(
            ["good.png"]
        )["photos"]
        assert row["error"]["code"] == "too_large"

    def test_what_is_no_file_is_not_waited_for(self, photos: Path, map_model: Path) -> None:
        os.mkfifo(photos / "pipe.jpg")
        (row,) = tools_over(map_model, photos).score(["pipe.jpg"])["photos"]
        assert row["error"]["code"] == "unreadable"
        (row,) = tools_over(map_model, photos).score(["missing.jpg"])["photos"]
        assert row["error"]["message"] == "missing.jpg: No such file or directory"

    def test_a_file_replaced_by_a_link_after_the_check_is_not_followed(self, photos: Path) -> None:
        roots = Roots([photos], max_pictures=9, max_bytes=10**6)
        (source,) = roots.sources(roots.pictures(["good.png"]))
        (photos / "good.png").unlink()
        (photos / "good.png").symlink_to(photos.parent / SECRET / "private.png")
        with pytest.raises(UnreadableImage):
            source.read()

    def test_a_missing_root(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no such folder"):
            Roots([tmp_path / "none"], max_pictures=1, max_bytes=1)
