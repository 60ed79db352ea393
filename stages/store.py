"""Show what the store holds, by table and recipe; with --remove, remove what need not be kept.

usage: python -m stages.store [--unneeded] [--unused DAYS] [--remove]
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pipeline.commands import gc
from pipeline.config.machine import machine
from pipeline.core.errors import QuadratError
from pipeline.store.context import open_store


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.store",
        description="Show what the store holds; remove what can be made again and is not needed.",
    )
    parser.add_argument(
        "--unneeded",
        action="store_true",
        help="what no dvc.lock of the branches, tags and experiments leads to",
    )
    parser.add_argument("--unused", type=float, metavar="DAYS", help="what was not used for DAYS")
    parser.add_argument("--remove", action="store_true", help="remove it; without, only show")
    parser.add_argument(
        "--also", type=Path, nargs="*", default=[], metavar="CHECKOUT", help="that use the store"
    )
    parser.add_argument(
        "--grace", type=float, default=24, metavar="HOURS", help="keep what is younger (24)"
    )
    return parser.parse_args()


def shown(size: float) -> str:
    """Give a size in bytes for a person."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 - decimal units
            return f"{size:,.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def table(found: Sequence[gc.StoredPiece], needed: gc.Needs, gone: set[int]) -> None:
    """Print a line for every table and recipe."""
    rows = defaultdict(list)
    for group in found:
        piece = group.piece
        rows[(piece.table, piece.recipe[:12]) if piece else ("(no piece)", "")].append(group)
    print(f"{'table':<12} {'recipe':<13} {'pieces':>7} {'size':>8} {'can go':>8}  used        for")
    for (name, recipe), some in sorted(rows.items()):
        users = {user for group in some if group.piece for user in needed.by.get(group.piece, ())}
        free = sum(group.size for group in some if id(group) in gone)
        day = time.strftime("%Y-%m-%d", time.localtime(max(group.used for group in some)))
        print(
            f"{name:<12} {recipe:<13} {len(some):>7,} {shown(sum(g.size for g in some)):>8} "
            f"{shown(free):>8}  {day}  {', '.join(sorted(users)[:4])}"
        )


def main() -> int:
    """Show, and remove where asked to."""
    asked = options()
    try:
        store = open_store(machine())
        needed = gc.needs([Path.cwd(), *asked.also])
        found = gc.groups(store)
        rule = gc.Rule(asked.unneeded, asked.unused, asked.grace * 3600)
        gone = gc.removable(found, needed.by, rule)
        table(found, needed, {id(group) for group in gone})
        if needed.unread and asked.unneeded:
            print("not in DVC's cache here, so that nobody knows what they need:")
            print("\n".join(f"  {item}" for item in needed.unread))
            print("get them with `dvc fetch --all-branches --all-tags`, or go by --unused DAYS")
            return 3
        total = shown(sum(group.size for group in gone))
        if asked.remove:
            gc.remove(store, gone)
            store.storage.tidy()
        print(f"{total} {'removed' if asked.remove else 'can go'}: {store.storage.url}")
    except QuadratError as error:
        print(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
