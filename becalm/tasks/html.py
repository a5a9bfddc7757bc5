"""What a notebook shows of a result: a picture and a table."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory


def summary_html(title: str, rows: Mapping[str, object], picture: bytes | None = None) -> str:
    """HTML of a heading, a picture (PNG bytes) if there is one, and a table of names and values."""
    lines = [f"<tr><th style='text-align:left'>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in rows.items()]
    image = f"<img src='data:image/png;base64,{b64encode(picture).decode()}'/>" if picture else ""
    return f"<div><b>{escape(title)}</b><br/>{image}<table>{''.join(lines)}</table></div>"


def png_bytes(draw: Callable[[Path], None]) -> bytes | None:
    """The PNG that `draw(path)` writes; None where the package that draws is not installed."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        try:
            draw(path)
        except ModuleNotFoundError:
            return None
        return path.read_bytes()
