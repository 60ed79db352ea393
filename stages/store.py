"""Show what the store holds, by table and recipe, and what can go: it can all be made again."""

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pipeline.commands import gc
from pipeline.config.machine import machine
from pipeline.store.context import open_store
from stages import command


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.store", description=__doc__)
    parser.add_argument(
        "--unneeded",
        action="store_true",
        help="what no dvc.lock of the branches, tags and experiments leads to",
    )
    parser.add_argument("--unused", type=float, metavar="DAYS", help="what was not used for DAYS")
    parser.add_argument("--remove", action="store_true", help="remove it; without, only show it")
    parser.add_argument(
        "--also",
        type=Path,
        nargs="*",
        default=[],
        metavar="CHECKOUT",
        help="other checkouts that use the store",
    )
    parser.add_argument(
        "--grace", type=float, default=24, metavar="HOURS", help="keep what is younger (24)"
    )
    return parser.parse_args()


def size_of(pieces: Sequence[gc.StoredPiece]) -> str:
    """Return the size of *pieces* with its unit."""
    size: float = sum(piece.size for piece in pieces)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 - decimal units
            return f"{size:,.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def print_table(
    stored: Sequence[gc.StoredPiece], needs: gc.Needs, removable: Sequence[gc.StoredPiece]
) -> None:
    """Print a line for every table and recipe."""
    ids = {id(piece) for piece in removable}
    groups = defaultdict(list)
    for item in stored:
        name = (item.piece.table, item.piece.recipe[:12]) if item.piece else ("(no piece)", "")
        groups[name].append(item)
    print(f"{'table':<12} {'recipe':<13} {'pieces':>7} {'size':>8} {'can go':>8}  used        for")
    for (table, recipe), items in sorted(groups.items()):
        users = {user for item in items if item.piece for user in needs.by.get(item.piece, ())}
        free = size_of([item for item in items if id(item) in ids])
        day = time.strftime("%Y-%m-%d", time.localtime(max(item.used for item in items)))
        print(
            f"{table:<12} {recipe:<13} {len(items):>7,} {size_of(items):>8} "
            f"{free:>8}  {day}  {', '.join(sorted(users)[:4])}"
        )


@command
def main() -> int:
    """Show what the store holds, and remove what can go if asked to."""
    asked = options()
    store = open_store(machine())
    needs = gc.needs([Path.cwd(), *asked.also])
    stored = gc.stored_pieces(store)
    removable = gc.removable(
        stored,
        needs.by,
        unneeded=asked.unneeded,
        unused_days=asked.unused,
        grace_s=asked.grace * 3600,
    )
    print_table(stored, needs, removable)
    if needs.unread and asked.unneeded:
        print("not in DVC's cache here, so it is unknown which pieces they need:")
        print("\n".join(f"  {item}" for item in needs.unread))
        print("get them with `dvc fetch --all-branches --all-tags`, or go by --unused DAYS")
        return 3
    if asked.remove:
        gc.remove(store, removable)
        store.storage.tidy()
    what = "removed" if asked.remove else "can go"
    print(f"{size_of(removable)} {what}: {store.storage.url}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
