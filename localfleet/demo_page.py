"""`out/index.html`: every animation of the demo with its row of the table.

One file without scripts, fonts or requests to anywhere; the animations are the files beside it.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from localfleet.demo import DemoRow

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
ul { list-style: none; padding: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.25rem; }
li { border: 1px solid #8884; border-radius: 0.6rem; overflow: hidden; }
img { display: block; width: 100%; height: auto; background: #8882; }
div { padding: 0.6rem 0.9rem 0.8rem; }
h2 { font-size: 1rem; margin: 0 0 0.2rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 0.8rem; margin: 0; font-variant-numeric: tabular-nums; }
dt { opacity: 0.7; } dd { margin: 0; text-align: right; }
.spilled { color: #c05a00; font-weight: 600; }
code { font-size: 0.75rem; opacity: 0.7; word-break: break-all; }
"""


def write_page(rows: Sequence[DemoRow], summary: Sequence[str], out: Path) -> Path:
    """Write the page into `out` and return its path."""
    cards = "\n".join(_card(row) for row in rows)
    lines = "".join(f"<p>{escape(line)}</p>" for line in summary)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Homeward demo</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><h1>Homeward demo</h1>{lines}\n<ul>\n{cards}\n</ul></body></html>\n"
    )
    path = out / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _card(row: DemoRow) -> str:
    request, finished = row.request, row.finished
    title = f"<h2>{escape(request.photo.stem)}</h2>"
    if finished is None or row.file is None:
        return f"<li><div>{title}<p>{escape(row.outcome)}: {escape(str(row.error))}</p></div></li>"
    served = escape(finished.served_region)
    if row.is_spilled:
        served = f'<span class="spilled">{served}</span>'
    motion = request.motion if finished.motion == request.motion else f"{request.motion} → {finished.motion}"
    facts = {
        "motion": escape(motion),
        "request": escape(request.name),
        "home": escape(finished.home_region),
        "served": served,
        "attempts": str(finished.attempts),
        "wait": f"{finished.wait_ms} ms",
        "start delay": f"{finished.start_delay_ms} ms",
        "run": f"{finished.run_ms} ms",
        "total": f"{finished.total_ms} ms",
    }
    table = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    image = (
        f'<img src="{escape(row.file.name)}" width="{finished.width_px}" height="{finished.height_px}" '
        f'alt="{escape(request.photo.stem)} moving: {escape(finished.motion)}">'
    )
    return f"<li>{image}<div>{title}<dl>{table}</dl><code>{escape(row.request_id)}</code></div></li>"
