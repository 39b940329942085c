"""Renders the table as `docs/python-originals.md`; `--write` writes it."""

from __future__ import annotations

import sys
from pathlib import Path

from seed_blocks import VARIABLE
from seed_table import DOCUMENTS, TABLE, Entry

PAGE = Path(__file__).resolve().parents[4] / "docs" / "python-originals.md"

HEAD = """# The snippets of the original documents

The Elixir Cerebelum had five documents about its Python SDK: S0 to S4. Their examples were promises. This table says
for each snippet of Python in them, in order, whether it runs today; [coming-from-elixir.md](coming-from-elixir.md) says
what else is the same and what changed.

- **verbatim**: the text runs as it stands. Only what it takes for granted is there before it: imports that its document
  shows earlier, further steps that it mentions, and the outside world (clouds, servers, mail), which is played.
- **changed**: it runs with the change that is named, and does not run without it.
- **compared**: a signature without a body; it is compared with that of our helper.
- **no program**: it cannot run, for the reason that is named.

{counts}

Snippets run in local mode on the virtual clock of `cerebelum.testing`, so that days take milliseconds; those that start
workflows on an engine do so on a real one, with components built from them. S1.4 is done both ways: the engine is seen
to sleep for the day, and what follows is seen on the virtual clock.

The documents are not part of this project. The check finds them in the folder that `{variable}` names, and says so when
it does not. `guest-sdk/python/tests/seeds/seed_page.py --write` writes this page from the same table.
"""


def render() -> str:
    """The whole page."""
    parts = [HEAD.format(counts=counts(), variable=VARIABLE)]
    for number, title in enumerate(DOCUMENTS):
        rows = [row(entry) for entry in TABLE if entry.name.startswith(f"S{number}.")]
        parts.append("\n".join([f"## S{number}: {title}", "", "| | shows | runs |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def row(entry: Entry) -> str:
    """A line of a table."""
    runs = f"{entry.verdict}: {entry.why}" if entry.why else entry.verdict
    return f"| {entry.name} | {entry.shows} | {runs} |"


def counts() -> str:
    """How many there are of each."""
    of = {word: sum(entry.verdict == word for entry in TABLE) for word in ("verbatim", "changed", "compared")}
    rest = len(TABLE) - sum(of.values())
    return (
        f"Of {len(TABLE)} snippets {of['verbatim']} run verbatim, {of['changed']} with a change, "
        f"{of['compared']} are compared, {rest} are no programs."
    )


if __name__ == "__main__":
    if "--write" not in sys.argv[1:]:
        sys.exit("usage: seed_page.py --write")
    PAGE.write_text(render(), encoding="utf-8")
