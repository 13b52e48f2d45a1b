"""Where the time of a job went, from the `timings` of its JSON: as a table and as a plot. Pure."""

from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, tostring

PARTS = {
    "upload": "upload",
    "queue": "queue",
    "fetch": "fetch",
    "decode": "audio decoding",
    "plan": "search for speech",
    "load": "model load",
    "wait": "wait for the engine",
    "mel": "spectrogram",
    "encode": "encoder",
    "tokens": "decoder",
    "rest of the engine": "rest of the engine",
    "publish": "publish",
}
"""Field to label, in the order of a job's life. Publishing overlaps with the engine, so that the sum may be too large."""

COUNTS = {"windows": "windows", "generated": "tokens", "fallbacks": "fallbacks"}
"""Field to label of what is counted and has no seconds. A recording that runs into fallback again and again is seen by these."""

COLOURS = (
    "#1f77b4", "#aec7e8", "#17becf", "#9edae5", "#98df8a", "#7f7f7f",
    "#c7c7c7", "#ffbb78", "#d62728", "#ff7f0e", "#8c564b", "#9467bd",
)  # fmt: skip
"""A colour for each part: preparation is blue and green, waiting is grey, the engine is red and orange."""

WIDTH, LEFT, RIGHT, TOP, BAR, LINE, COLUMNS = 1000, 250, 60, 40, 44, 22, 4
"""Sizes in the plot's units: width, margins, height of a bar, height of a line; and the columns of the legend."""


def parts(timings: Mapping[str, float | None]) -> dict[str, float]:
    """Return the seconds of each part by its label. `engine` is split into its parts."""
    known = {name: float(secs or 0.0) for name, secs in timings.items()}
    inside = known.get("mel", 0.0) + known.get("encode", 0.0) + known.get("tokens", 0.0)
    known["rest of the engine"] = max(0.0, known.get("engine", 0.0) - inside)
    return {label: known.get(name, 0.0) for name, label in PARTS.items()}


def counts(timings: Mapping[str, float | None]) -> dict[str, int]:
    """Return what was counted, by its label."""
    return {label: int(timings.get(name) or 0) for name, label in COUNTS.items()}


def plot(jobs: Mapping[str, Mapping[str, float | None]]) -> bytes:
    """Return an SVG with a bar for each job. `jobs` is name to `timings`, in seconds.

    It is drawn by hand, because a hundred rectangles are not worth a plotting library in every image.
    """
    bars = {name: parts(timings) for name, timings in jobs.items()}
    widest = max((sum(bar.values()) for bar in bars.values()), default=0.0) or 1.0
    bottom = TOP + len(bars) * BAR
    height = bottom + 40 + -(-len(PARTS) // COLUMNS) * LINE
    frame = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {WIDTH} {height}",
        "font-family": "sans-serif",
    }
    svg = Element("svg", frame)
    _rect(svg, 0, 0, WIDTH, height, "white")
    _text(svg, LEFT, 24, "Where the time goes, in seconds", 16)
    for row, (name, bar) in enumerate(bars.items()):
        x, y = float(LEFT), TOP + row * BAR
        _text(svg, LEFT - 8, y + BAR / 2, name, 12, "end")
        for (label, secs), colour in zip(bar.items(), COLOURS, strict=True):
            width = secs / widest * (WIDTH - LEFT - RIGHT)
            SubElement(_rect(svg, x, y + 4, width, BAR - 8, colour), "title").text = f"{label}: {secs:.3g} s"
            x += width
        counted = ", ".join(f"{count} {label}" for label, count in counts(jobs[name]).items())
        _text(svg, x + 6, y + BAR / 2, f"{sum(bar.values()):.3g}", 12)
        _text(svg, LEFT - 8, y + BAR / 2 + 12, counted, 9, "end")
    for number, (label, colour) in enumerate(zip(PARTS.values(), COLOURS, strict=True)):
        x, y = LEFT + number % COLUMNS * 180, bottom + 30 + number // COLUMNS * LINE
        _rect(svg, x, y - 10, 12, 12, colour)
        _text(svg, x + 18, y, label, 12)
    return tostring(svg)


def _rect(svg: Element, x: float, y: float, width: float, height: float, colour: str) -> Element:
    numbers = {"x": x, "y": y, "width": width, "height": height}
    return SubElement(svg, "rect", {k: f"{v:.2f}" for k, v in numbers.items()}, fill=colour)


def _text(svg: Element, x: float, y: float, text: str, size: int, anchor: str = "start") -> None:
    place = {"x": f"{x:.2f}", "y": f"{y:.2f}", "font-size": str(size), "text-anchor": anchor}
    SubElement(svg, "text", place).text = text


def table(jobs: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return a table with a line for each part and each count, and a column for each job."""
    bars = {name: parts(timings) for name, timings in jobs.items()}
    widths = [max(len(name), 9) for name in bars]
    lines = [" " * 20 + "  ".join(f"{name:>{width}}" for name, width in zip(bars, widths, strict=True))]
    for label in PARTS.values():
        secs = "  ".join(
            f"{bar[label]:>{width}.4f}" for bar, width in zip(bars.values(), widths, strict=True)
        )
        lines.append(f"{label:<20}{secs}")
    for label in COUNTS.values():
        found = (
            f"{counts(timings)[label]:>{width}}" for timings, width in zip(jobs.values(), widths, strict=True)
        )
        lines.append(f"{label:<20}{'  '.join(found)}")
    return "\n".join(lines)
