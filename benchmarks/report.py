"""Write the table and the chart of docs/performance.md from the numbers of a run.

python -m benchmarks.report [RESULT.json [MORE.json ...]]

Lines of further files take the place of those of the first, or are added.
"""

import json
import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "benchmarks" / "results" / "reference.json"
PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "images" / "performance.svg"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"

WIDTH, LEFT, ROW, HEAD, RIGHT = 760, 270, 24, 44, 60
OURS, OTHERS = "#1f6f8b", "#b8b8b8"


def main(words=None):
    """Rewrite the page and its chart; keep the numbers beside this file."""
    words = sys.argv[1:] if words is None else words
    result, *more = (
        json.loads(Path(place).read_text(encoding="utf-8")) for place in words or [REFERENCE]
    )
    for other in more:
        result["findings"] |= other["findings"]
    REFERENCE.parent.mkdir(exist_ok=True)
    REFERENCE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")
    CHART.write_text(chart(result), encoding="utf-8")


def with_table(page, result):
    """Return the page with the table of a result in its place."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}{table(result)}{END}{rest.split(END)[1]}"


def table(result):
    """Return the machine and one row per line of a result."""
    machine = result["machine"]
    load = machine["load"][0]
    noise = ""
    if load > machine["cores"] / 2:
        noise = f" Other programs were at work (load {load:.0f}): lines by the clock are noisy."
    if result["clock"] == "cpu":
        noise += " Lines with one worker or one thread are by processor time."
    lines = [
        f"Measured on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB of memory, Python {machine['python']}; slide of "
        f"{result['side']:,} px, best of {result['best_of']}.{noise}",
        "",
        "| what | measured | goal | holds | |",
        "|---|---|---|---|---|",
    ]
    for findings in result["findings"].values():
        for one in findings:
            value = "–" if one["value"] is None else f"{number(one['value'])}{one['unit']}"
            sign = "≤" if one["at_most"] else "≥"
            goal = "" if one["goal"] is None else f"{sign} {number(one['goal'])}{one['unit']}"
            holds = {True: "yes", False: "**no**", None: ""}[one["held"]]
            lines.append(f"| {one['name']} | {value} | {goal} | {holds} | {one['note']} |")
    return "\n".join(lines) + "\n"


def number(value):
    """Return a number with three digits that matter."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 0.01:
        return f"{value:.0e}"
    return f"{value:.2f}"


def bars(result, kind):
    """Return names of programs and their rates by that of the plain script, for one format.

    Each ratio is one of programs that were measured side by side: another library by OpenSlide,
    libvips by this library, and this library by the plain script. Where processor time counts, two
    workers are left out: they are of use by the clock alone.
    """
    several = result["clock"] == "wall"
    findings = result["findings"]
    rates = findings[kind][0]["numbers"]["rates"]
    ours = rates["1 worker"] / rates["plain"]
    rows = [("plain script: OpenSlide, shapely, Pillow", 1.0)]
    peers = {
        one["name"].partition(" / ")[2]: one["numbers"]["rates"][kind]
        for one in findings.get("peers", ())
        if one["name"].startswith(kind.upper())
    }
    for name, rate in peers.items():
        if name != "OpenSlide + Pillow":
            rows.append((f"{name} + Pillow", rate / peers["OpenSlide + Pillow"]))
    if kind == "jpeg":
        for one in findings.get("dzsave", ()):
            if one["numbers"]:
                beside = one["numbers"]["rates"]
                rows += [
                    (f"vips dzsave ({name[:-2]}), {name[-1]} thread{'s' * (name[-1] > '1')}",
                     ours * rate / beside["ours 1"])
                    for name, rate in beside.items()
                    if not name.startswith("ours") and (several or name.endswith("1"))
                ]  # fmt: skip
                break
    rows += [
        (f"qupath-bridge, {workers}", rates[workers] / rates["plain"])
        for workers in ("1 worker", "2 workers")
        if workers in rates and (several or workers == "1 worker")
    ]
    if kind == "jpeg" and (copied := findings.get("passthrough", [{}])[0].get("numbers")):
        rows.append(("qupath-bridge, 1 worker, pass-through", copied["whole"] / rates["plain"]))
    return rows


def chart(result):
    """Return an SVG picture: whole exports beside the plain script, as ratios."""
    parts, y = [], 0
    for kind in ("png", "jpeg"):
        if kind not in result["findings"] or not result["findings"][kind][0]["numbers"]:
            continue
        rows = bars(result, kind)
        most = max(ratio for _, ratio in rows)
        parts.append(text(16, y + 28, f"{kind.upper()} patches per second, plain script = 1", 15))
        y += HEAD
        for name, ratio in rows:
            length = max(1, (WIDTH - LEFT - RIGHT) * ratio / most)
            colour = OURS if name.startswith("qupath") else OTHERS
            parts.append(text(LEFT - 8, y + 16, name, 12, "end"))
            parts.append(
                f'<rect x="{LEFT}" y="{y + 3}" width="{length:.1f}" height="{ROW - 6}" '
                f'fill="{colour}"/>'
            )
            parts.append(text(LEFT + length + 6, y + 16, f"{ratio:.1f}", 12))
            y += ROW
        y += 8
    height = y + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def text(x, y, words, size, anchor="start"):
    """Return words as an SVG element."""
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="#222222">'
        f"{escape(words)}</text>"
    )


if __name__ == "__main__":
    main()
