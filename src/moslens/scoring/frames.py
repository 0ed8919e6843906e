"""Results as a pandas DataFrame."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from moslens.errors import MissingExtra
from moslens.scoring.result import COLUMNS, Failure, Score

if TYPE_CHECKING:
    import pandas

_RAW_NAME = "path_base64"


def to_pandas(results: Iterable[Score | Failure] | Score | Failure) -> "pandas.DataFrame":
    """A row for every result, as ``score_many`` gives them, or for one, with the columns of :meth:`Score.to_dict`.

    ``error`` is the message of a failure and ``error_code`` its code; both are None for a score. A failure has no
    numbers: NaN for ``score``, ``low`` and ``high``, NA for ``width`` and ``height``. ``distortions``, ``notes`` and
    ``worst_block`` stay lists and dicts. A column ``path_base64`` is there where a name is not UTF-8, with its bytes.
    Raises MissingExtra where pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise MissingExtra("frames", "pandas", alone=True) from None
    rows: list[dict[str, Any]] = []
    for result in (results,) if isinstance(results, Score | Failure) else results:
        row = {name: value for name, value in result.to_row().items() if name in (*COLUMNS, _RAW_NAME)}
        error = row.pop("error") or {"code": None, "message": None}
        rows.append({**row, "error_code": error["code"], "error": error["message"]})
    columns = [*(name for name in COLUMNS if name != "error"), "error_code", "error"]
    if any(_RAW_NAME in row for row in rows):
        columns.insert(1, _RAW_NAME)
    frame = pandas.DataFrame(rows, columns=columns)
    numbers = dict.fromkeys(("score", "low", "high"), "float64") | dict.fromkeys(("width", "height"), "Int64")
    return frame.astype(numbers)
