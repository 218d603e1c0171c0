"""A run as one picture: calls per 100 ms by how they ended, and the faults below, in one HTML file."""

import collections
import html

STEP_NS = 100_000_000
COLOURS = {"OK": "#2a9d5c", "FAILED": "#e09f3e", "UNKNOWN": "#c1292e"}
WIDTH, HEIGHT, LEFT = 1200, 220, 150


def draw(run, summary):
    began, ended = run.meta["began"], run.meta["ended"]
    scale = (WIDTH - LEFT - 10) / max(1, ended - began)

    def x(t):
        return LEFT + (max(began, min(t, ended)) - began) * scale

    parts = bars(run, began, x) + axis(began, ended, x)
    parts += promotions(run, x) + lanes(run, x)
    height = HEIGHT + 50 + 16 * len({f["kind"] for f in run.faults})
    title = html.escape(f"seed {summary['seed']}: {summary['operations']} operations, "
                        f"{summary['unknown']} unknown, "
                        f"{sum(summary['violations'].values())} violations")
    legend = " ".join(f'<b style="color:{c}">{name}</b>' for name, c in COLOURS.items())
    return (f'<!doctype html><meta charset="utf-8"><title>{title}</title>'
            f'<body style="font:13px sans-serif"><p>{title} &nbsp; {legend} per 100 ms</p>'
            f'<svg width="{WIDTH}" height="{height}" font-size="11">{"".join(parts)}</svg>\n')


def bars(run, began, x):
    counts = collections.defaultdict(collections.Counter)
    for op in run.ops:
        if op.end is not None:
            counts[(op.end - began) // STEP_NS][op.label] += 1
    most = max((sum(c.values()) for c in counts.values()), default=1)
    found = []
    for step, by_label in sorted(counts.items()):
        y = HEIGHT
        left = x(began + step * STEP_NS)
        width = max(0.5, x(began + (step + 1) * STEP_NS) - left)
        for label, colour in COLOURS.items():
            tall = by_label[label] * (HEIGHT - 20) / most
            y -= tall
            if tall:
                found.append(f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.2f}" '
                             f'height="{tall:.1f}" fill="{colour}"/>')
    return found + [f'<text x="{LEFT - 8}" y="30" text-anchor="end">{most}</text>']


def axis(began, ended, x):
    seconds = (ended - began) // 1_000_000_000
    step = max(1, seconds // 20)
    return [f'<text x="{x(began + s * 1_000_000_000):.1f}" y="{HEIGHT + 14}">{s} s</text>'
            for s in range(0, seconds + 1, step)]


def promotions(run, x):
    return [f'<line x1="{x(p["until"]):.1f}" x2="{x(p["until"]):.1f}" y1="10" y2="{HEIGHT}" '
            f'stroke="#333" stroke-dasharray="4 3"/><text x="{x(p["until"]) + 3:.1f}" y="10">'
            f'{short(p["node"])}</text>' for p in run.promotions]


def lanes(run, x):
    """A line of the page for each kind of fault."""
    found = []
    for i, kind in enumerate(sorted({f["kind"] for f in run.faults})):
        y = HEIGHT + 24 + 16 * i
        found.append(f'<text x="{LEFT - 8}" y="{y + 10}" text-anchor="end">{kind}</text>')
        for f in run.faults:
            if f["kind"] == kind:
                found.append(f'<rect x="{x(f["from"]):.1f}" y="{y}" height="12" fill="#5b7db1" '
                             f'width="{max(1, x(f["until"]) - x(f["from"])):.1f}">'
                             f'<title>{html.escape(f["node"])}</title></rect>')
    return found


def short(node):
    """"shard1/replica2" → "1r2"; there may be many of them beside each other."""
    shard, _, name = node.partition("/")
    return shard.removeprefix("shard") + name.replace("replica", "r").replace("primary", "p")
