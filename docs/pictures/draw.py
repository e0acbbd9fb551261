#!/usr/bin/env python3
"""Draws the pictures in this directory, from the texts below and from ../story.md. Needs only Python.

    python3 docs/pictures/draw.py            writes them
    python3 docs/pictures/draw.py --check    fails if a picture is out of date
"""

import html
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
# Middle tones, which are visible on light and dark pages.
TEXT, LINE, OURS, OTHERS, GOOD, BAD = "#848d97", "#848d97", "#2f81f7", "#9aa4b2", "#3fa45b", "#d4584f"

# For each layer: its name, what it decides, and whether it is in this crate.
STACK = [
    ("your code", "Request", False),
    ("TimeoutLayer", "total time", False),
    ("FollowRedirectLayer", "hops, with our RedirectPolicy", False),
    ("RoutingLayer", "which mount", True),
    ("RetryLayer", "a policy for each mount", True),
    ("CookieLayer", "one jar", True),
    ("hyper client", "connections, TLS", False),
]
SESSIONS = [
    ("SessionLayer", "loads the tenant's jar, writes changes", True),
    ("CookieLayer::per_request()", "cookies of that jar", True),
    ("hyper client", "connections, TLS", False),
]


class Picture:
    def __init__(self, title, width, height):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
            f' font-family="sans-serif" font-size="13" fill="{TEXT}">',
            f"<title>{html.escape(title)}</title>",
        ]

    def text(self, x, y, text, anchor="start", **style):
        more = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in style.items())
        self.parts.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{more}>{html.escape(text)}</text>')

    def box(self, x, y, width, height, colour, filled=False):
        fill = f'fill="{colour}"' if filled else f'fill="none" stroke="{colour}" stroke-width="1.5"'
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" {fill}/>')

    def line(self, *points, dashed=False):
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.5"{dash}/>')

    def layers(self, layers, x, y, width):
        """A column of boxes, and the middle of each."""
        middles = []
        for nth, (name, what, ours) in enumerate(layers):
            top = y + nth * 44
            self.box(x, top, width, 30, OURS if ours else OTHERS)
            self.text(x + 10, top + 20, name, font_weight="bold", **({"fill": OURS} if ours else {}))
            self.text(x + width - 10, top + 20, what, "end")
            if nth:
                self.line((x + width / 2, top - 14), (x + width / 2, top))
            middles.append(top + 15)
        return middles

    def __str__(self):
        return "\n".join([*self.parts, "</svg>", ""])


def stack():
    picture = Picture("The stack, from your code down to the client", 640, 44 * len(STACK) + 10)
    middles = picture.layers(STACK, 8, 8, 440)
    routing = [name for name, _, _ in STACK].index("RoutingLayer")
    picture.line((448, middles[routing]), (480, middles[routing]), (480, middles[routing + 1]), (492, middles[routing + 1]))
    picture.box(492, middles[routing + 1] - 22, 140, 44, OTHERS)
    picture.text(502, middles[routing + 1] - 4, "a whole client of")
    picture.text(502, middles[routing + 1] + 13, "its own, mounted")
    return picture


def timeline():
    """The flaky endpoint of the story: its attempts, and the delays between them."""
    story = (HERE.parent / "story.md").read_text()
    part = story.split("# a flaky endpoint")[1].split("\n# ")[0]
    attempts = re.findall(r"attempt (\d+): .* status=(\d+)", part)
    delays = [float(delay) for delay in re.findall(r"delay_ms=([\d.]+)", part)]
    scale, x = 420 / sum(delays), 90
    picture = Picture("Two failures and a success on a time line", 640, 112)
    picture.line((20, 70), (620, 70))
    picture.text(20, 100, "time")
    for (number, status), delay in zip(attempts, [*delays, None]):
        good = status == "200"
        picture.box(x, 54, 8, 32, GOOD if good else BAD, filled=True)
        picture.text(x + 4, 24, f"attempt {number}", "middle", font_weight="bold")
        picture.text(x + 4, 42, status, "middle", fill=GOOD if good else BAD)
        if delay:
            picture.text(x + 8 + delay * scale / 2, 90, f"{delay:g} ms", "middle")
            x += 8 + delay * scale
    return picture


def sessions():
    picture = Picture("Two replicas and one store of sessions", 900, 250)
    for x, name in ((8, "replica A"), (510, "replica B")):
        picture.text(x, 18, name, font_weight="bold")
        picture.layers(SESSIONS, x, 30, 380)
        picture.line((x + 190, 158), (x + 190, 176), dashed=True)
    picture.text(198, 190, "upstream", "middle")
    picture.text(700, 190, "upstream", "middle")
    picture.box(330, 206, 240, 36, OURS)
    picture.text(450, 221, "SessionStore", "middle", font_weight="bold", fill=OURS)
    picture.text(450, 237, "sealed records, the later wins", "middle")
    picture.line((388, 45), (430, 45), (430, 206))
    picture.line((510, 45), (470, 45), (470, 206))
    return picture


def main():
    wrong = []
    for draw in (stack, timeline, sessions):
        file, svg = HERE / f"{draw.__name__}.svg", str(draw())
        if "--check" not in sys.argv:
            file.write_text(svg)
        elif not file.exists() or file.read_text() != svg:
            wrong.append(file.name)
    if wrong:
        sys.exit(f"not as docs/pictures/draw.py draws them: {', '.join(wrong)}")


main()
