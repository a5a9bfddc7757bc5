"""The tour as one HTML file with all pictures inside: nothing is loaded from elsewhere."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --back: #f4f6f6; --panel: #fff; --ink: #15252a; --soft: #51646a; }
:root { --line: #cfd8da; --main: #0b6470; }
@media (prefers-color-scheme: dark) {
  :root { --back: #11191c; --panel: #18242a; --ink: #e4edee; --soft: #a3b6bb; --line: #32434a; --main: #7ccfd0; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); }
body { font: 17px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main, header { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { margin: 1rem 0 0; color: var(--main); }
nav a { color: var(--main); display: inline-block; padding: .3rem .8rem .3rem 0; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem; margin: 0 0 1.2rem; }
h2 { margin: 0 0 .4rem; }
p { max-width: 44rem; }
img { max-width: 100%; max-height: 30rem; height: auto; background: #fff; border-radius: 6px; display: block; }
figure { margin: 1rem 0; }
figcaption, footer, .time { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; margin: .6rem 0; width: 100%; max-width: 44rem; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 400; }
th { color: var(--soft); }
pre { white-space: pre-wrap; background: var(--back); padding: .6rem .8rem; border-radius: 6px; font-size: .88rem; }
@media (max-width: 40rem) { figure { overflow-x: auto; } img { max-width: none; max-height: 26rem; } }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="content-security-policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>becalm: a tour</title><style>{style}</style></head>
<body><header><h1>becalm</h1>
<p>becalm takes noise away step by step, and knows at each step how much is left. Here are five uses
of that. Everything below was computed on this computer in {minutes}, from data that becalm made itself.</p>
<nav aria-label="Contents">{contents}</nav></header>
<main>{stops}</main></body></html>
"""


def tour_html(stops: Sequence[Any]) -> str:
    """The HTML of all stops (see `becalm.tasks.tour.Stop`)."""
    contents = " ".join(f'<a href="#stop{i}">{escape(stop.title)}</a>' for i, stop in enumerate(stops))
    minutes = duration_text(sum(stop.seconds for stop in stops))
    sections = "\n".join(stop_html(i, stop) for i, stop in enumerate(stops))
    return PAGE.format(style=STYLE, contents=contents, stops=sections, minutes=minutes)


def stop_html(number: int, stop: Any) -> str:
    """The HTML of one stop."""
    rows = "".join(f"<tr><th scope='row'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in stop.facts.items())
    image = ""
    if stop.picture:
        source = b64encode(stop.picture).decode()
        image = (
            f"<figure tabindex='0'><img src='data:image/png;base64,{source}' alt='{escape(stop.caption, quote=True)}'>"
        )
        image += f"<figcaption>{escape(stop.caption)}</figcaption></figure>"
    return (
        f"<section id='stop{number}'><h2>{number + 1}. {escape(stop.title)}</h2><p>{escape(stop.text)}</p>{image}"
        f"<table>{rows}</table><pre>{escape(stop.code)}</pre><span class='time'>{duration_text(stop.seconds)}</span></section>"
    )


def duration_text(seconds: float) -> str:
    """A time in seconds or minutes."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"
