"""``score --format html``: a page, and beside it a folder with a thumbnail of each picture and the rows."""

import json
from pathlib import Path

from moslens.bulk.page import ROWS, Entry, make_folder, thumbnail_name, write_page
from moslens.bulk.rows import Row, RowLine
from moslens.bulk.selection import Selection, Sort
from moslens.bulk.writers import FileWriter, SelectedLines
from moslens.errors import OutputError
from moslens.system.text import name_in


def folder_of(page: str) -> Path:
    """The folder beside a page: that of ``photos.html`` is ``photos_files``."""
    return Path(page).with_name(f"{Path(page).stem}_files")


class ScorePage:
    """A writer of rows into ``NAME_files/rows.jsonl``, and at the end the page ``NAME.html`` over them.

    ``folder`` is ``NAME_files``. ``done`` is that of :class:`~moslens.bulk.writers.FileWriter`. Raises OutputError
    where the page or the folder is there already, unless ``resume`` finds the rows of an earlier run in it.
    """

    def __init__(self, path: str, *, resume: bool = False) -> None:
        self.target = Path(path)
        self.folder = folder_of(path)
        if self.target.exists() and not (resume and (self.folder / ROWS).is_file()):
            raise OutputError(f"is there already: remove it and its folder {self.folder.name} first, or --resume", path)
        make_folder(self.folder, resume=resume)
        self._rows = FileWriter(str(self.folder / ROWS), "jsonl", resume=resume)
        self.done = self._rows.done

    def write(self, row: RowLine) -> None:
        self._rows.write(row)

    def close(self) -> None:
        self._rows.close()

    def write_page(self, selection: Selection, model_id: str) -> None:
        """Write the page over the selected rows of this model, worst first unless they are sorted otherwise."""
        sort = selection.sort or Sort.score
        lines = SelectedLines(str(self.folder / ROWS), "jsonl", Selection(sort, selection.worst), model_id)
        entries = map(self._entry, map(json.loads, lines))
        write_page(self.target, "Photos by quality", entries, scored=lines.scored, failed=lines.failed, sort=sort)

    def _entry(self, row: Row) -> Entry:
        return Entry(row, f"{self.folder.name}/{thumbnail_name(name_in(row))}")
