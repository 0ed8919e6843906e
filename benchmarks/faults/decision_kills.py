"""Kill `rate`, its undo and `pick` at random moments over a mixed folder, repeat, and compare with an unbroken run.

    python -m benchmarks.faults.decision_kills --data DIR             20 kills of each over 500 photos
    python -m benchmarks.faults.decision_kills --data DIR --kills 3 --pictures 60 --output FILE

Every kill is a SIGKILL: one in four anywhere between the start and the end of the command, the others while it works.
After each one the same command is repeated. The folder (:mod:`benchmarks.faults.mixed_album`) is made anew for each
round. As root the commands run without capabilities, by setpriv of util-linux: then read-only folders bind them too.
Writes into the section ``kills`` of results/reliability.json.
"""

import hashlib
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import (
    add_data_option,
    argument_parser,
    moslens_command,
    read_lines,
)
from benchmarks.faults.kills import KilledCommand, entries, outcome, run_series, size, timed
from benchmarks.faults.mixed_album import UNKNOWN, make_album


class Kept(NamedTuple):
    """What is known of a file: its bytes by their hash, its permissions, and its time in nanoseconds."""

    sha256: str
    mode: int
    modified: int


State = Mapping[str, Kept]


class Trial:
    """A folder with an album that can be made anew, and the commands over it."""

    def __init__(self, folder: Path, photos: Path, pictures: int, rng: random.Random) -> None:
        from helpers.tiny_model import make_tiny_model

        self.folder, self.rng = folder, rng
        self.model = make_tiny_model(folder / "model")
        self.album = folder / "album"
        self.whole = folder / "whole"
        make_album(self.whole, photos, pictures, rng)
        self.reset()
        self.before = state(self.album)

    def reset(self) -> None:
        """The album as it was made, and nothing beside it that a run leaves there."""
        for name in ("album", "out"):
            unlock(self.folder / name)
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("plan", "rows.jsonl"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.copytree(self.whole, self.album)

    def target(self, command: list[str], progress: Callable[[], Any], after: Callable[[], None]) -> KilledCommand:
        return KilledCommand(command, self.rng, progress, signals=(signal.SIGKILL,), after=after)


def command_of(*words: str) -> list[str]:
    """The command line of ``moslens WORDS``, without the rights of root."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*(["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if root else []), *moslens_command(*words)]


def state(folder: Path) -> State:
    """Every file in and below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = Kept(digest, status.st_mode, status.st_mtime_ns)
    return found


def unlock(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def contents(found: State) -> dict[str, str]:
    return {name: one.sha256 for name, one in found.items()}


def kill_rating(trial: Trial, kills: int) -> dict[str, dict[str, Any]]:
    """`rate --write` and then its undo: the sidecars of an unbroken run, and then the folder as it was."""
    options = ("--model", str(trial.model), "--workers", "2", "--plan", str(trial.folder / "plan"))
    write = command_of("rate", str(trial.album), "--write", *options)
    undo = command_of("rate", "--undo", str(trial.folder / "plan"))
    whole, work = timed(write, trial.folder / "plan")
    rated = state(trial.album)
    facts: dict[str, Any] = {"files": len(trial.before), **look_at_sidecars(trial, rated)}
    back, _ = timed(undo, trial.folder / "nothing")
    undone = state(trial.album) == trial.before
    allowed = {name: {found[name].sha256 for found in (trial.before, rated) if name in found} for name in rated}
    torn: set[str] = set()

    def look() -> None:
        """Every file but scratch files is what it was or what an unbroken run makes of it."""
        for name, one in state(trial.album).items():
            if not name.endswith(".partial") and one.sha256 not in allowed.get(name, ()):
                torn.add(name)

    writing = trial.target(write, lambda: size(trial.folder / "plan"), look)
    undoing = trial.target(undo, lambda: state_of_sidecars(trial.album), look)
    equal = back_again = True
    while min(writing.kills, undoing.kills) < kills:
        trial.reset()
        writing.run(kills, work / 4, whole)
        equal = equal and contents(state(trial.album)) == contents(rated)
        undoing.run(kills, back / 4, back)
        back_again = back_again and state(trial.album) == trial.before
    facts["torn"] = sorted(torn)
    return {
        "rate --write": outcome(writing, equal=equal, **facts),
        "rate --undo": outcome(undoing, equal=back_again and undone, files=len(trial.before), torn=sorted(torn)),
    }


def state_of_sidecars(folder: Path) -> int:
    """Changes with each sidecar that is written or removed."""
    found = 0
    for path in folder.rglob("*.xmp*"):
        try:
            found ^= hash((path.name, path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found


def look_at_sidecars(trial: Trial, rated: State) -> dict[str, int]:
    """What a run made of the sidecars: those written, a person's that it changed, properties of others that it lost."""
    from moslens.errors import SidecarError
    from moslens.rating.xmp import RATING, Packet, is_unrated

    persons = changed = lost = 0
    for name in (name for name in trial.before if name.endswith(".xmp")):
        before, after = ((folder / name).read_bytes() for folder in (trial.whole, trial.album))
        try:
            by_person = not is_unrated(Packet(before).get(RATING))
        except SidecarError:  # a broken one is left as it is, too
            by_person = True
        persons += by_person
        changed += by_person and after != before
        lost += before != after and not any(UNKNOWN.encode(encoding) in after for encoding in ("utf-8", "utf-16-le"))
    written = sum(contents(trial.before).get(name) != one.sha256 for name, one in rated.items())
    return {
        "sidecars_written": written,
        "persons_or_broken": persons,
        "persons_or_broken_changed": changed,
        "unknown_properties_lost": lost,
    }


def kill_picking(trial: Trial, kills: int) -> dict[str, dict[str, Any]]:
    """`pick --move-to`: every file is where an unbroken run puts it, none is lost and none is there twice."""
    out, rows = trial.folder / "out", trial.folder / "rows.jsonl"
    command = command_of(
        "pick", str(trial.album), "--model", str(trial.model), "--workers", "2", "--scores", str(rows),
        "--move-to", str(out), "--yes",
    )  # fmt: skip
    log = out / "moslens-pick.jsonl"
    whole, work = timed(command, log)
    expected = contents(state(trial.album)), without_log(out)
    files = Counter(contents(trial.before).values())
    lost: set[str] = set()

    def look() -> None:
        """Every file is there, here or in the target folder."""
        found = Counter(contents(state(trial.album)).values()) + Counter(contents(state(out)).values())
        lost.update((files - found).keys())

    target = trial.target(command, lambda: (size(rows), entries(out)), look)
    moving = trial.target(command, lambda: entries(out), look)
    equal, doubled = True, 0
    while target.kills + moving.kills < 2 * kills:
        trial.reset()
        one = target if target.kills < kills else moving
        one.run(kills, whole / 4 if one is target else work / 2, whole)
        found = contents(state(trial.album)), without_log(out)
        equal = equal and found == expected
        doubled += sum((Counter(found[0].values()) + Counter(found[1].values()) - files).values())
    moved = sum("source" in row for row in read_lines(log))
    target.killed += moving.killed
    target.rounds += moving.rounds
    target.complaints += moving.complaints
    facts = {"files": len(trial.before), "moved": moved, "kills_while_it_moved": moving.kills}
    return {"pick --move-to": outcome(target, lost=len(lost), doubled=doubled, equal=equal, **facts)}


def without_log(folder: Path) -> dict[str, str]:
    return {name: one for name, one in contents(state(folder)).items() if name != "moslens-pick.jsonl"}


SERIES = {"rate": kill_rating, "pick": kill_picking}


def main() -> int:
    """Run the series, print and record what came out; 1 where anything was lost, torn or different."""
    parser = argument_parser(__doc__, "reliability.json")
    add_data_option(parser)
    parser.add_argument(
        "--kills", type=int, default=20, help="of rate, of its undo; of pick at work and while it moves"
    )
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--only", choices=SERIES, action="append", help="repeatable; all without it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    def run(name: str, folder: Path, rng: random.Random) -> Mapping[str, dict[str, Any]]:
        try:
            trial = Trial(folder, options.data / "livec" / "images", options.pictures, rng)
            return SERIES[name](trial, options.kills)
        finally:
            unlock(folder)

    return run_series(options.only or SERIES, run, options.output, options.seed)


if __name__ == "__main__":
    sys.exit(main())
