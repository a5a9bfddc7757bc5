"""How a text file writes its table: encoding, line ends, separator, decimal mark, exponents and quotes."""

import re
from dataclasses import dataclass

import numpy as np

_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eEdD][+-]?\d+)?|\.\d+([eEdD][+-]?\d+)?|nan|inf|infinity)", re.I)
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)([eEdD][+-]?\d+)?")
_FORTRAN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[dD][+-]?\d+")


@dataclass(frozen=True)
class Encoding:
    """How the characters of a file are stored."""

    utf16: str | None = None
    """utf-16-le or utf-16-be; None where a character of a number is one byte."""
    mac: bool = False
    r"""Whether lines end with \r alone, as on Macs before 2001."""

    @property
    def mark(self) -> bytes:
        """What a file begins with: the byte order mark of UTF-16."""
        return next((mark for mark, name in _UTF16.items() if name == self.utf16), b"")

    def encode(self, text: bytes) -> bytes:
        r"""The file's bytes of text in UTF-8 with line ends \n (or \r\n)."""
        text = text.replace(b"\n", b"\r") if self.mac else text
        return text.decode("utf-8").encode(self.utf16) if self.utf16 else text


def decode_text(data: bytes) -> tuple[bytes, Encoding]:
    r"""The text of a file as bytes with line ends \n or \r\n, one byte for each character of a number. Raises ValueError."""
    utf16 = _UTF16.get(data[:2])
    text = data[2:].decode(utf16).encode("utf-8") if utf16 else data
    mac = b"\n" not in text and b"\r" in text
    return text.replace(b"\r", b"\n") if mac else text, Encoding(utf16, mac)


@dataclass(frozen=True)
class Dialect:
    """How the fields of a line are written."""

    separator: str | None
    """None: any white space."""
    decimal_comma: bool = False
    fortran: bool = False
    """Whether exponents are written 1.0D+03."""
    quoted: bool = False
    """Whether fields stand in double quotes."""

    def split(self, line: str) -> list[str]:
        """The fields of a line of the plain table."""
        return [word.strip() for word in line.split(self.separator)]


def is_number(word: str) -> bool:
    """Whether a field of the plain table is a number."""
    return _NUMBER.fullmatch(word) is not None


def detect_dialect(lines: list[str]) -> Dialect:
    """The dialect of lines of points, at least one; a few other lines at the beginning do not matter."""
    lines = lines[len(lines) // 2 :]
    quoted = any('"' in line for line in lines)
    plain = [re.sub('"[^"]*"', lambda match: re.sub(r"[\s,;]", "_", match[0][1:-1]), line) for line in lines]
    separator = _separator(plain)
    words = [word.strip() for line in plain for word in line.split(separator)]
    commas = separator != "," and any("," in word for word in words) and _has_decimal_commas(words)
    return Dialect(separator, commas, any(_FORTRAN.fullmatch(word.replace(",", ".")) for word in words), quoted)


def _separator(lines: list[str]) -> str | None:
    if ";" in lines[0]:
        return ";"
    spaced = [line.split() for line in lines]
    decimal = all(len(words) >= 3 for words in spaced) and _has_decimal_commas([w for words in spaced for w in words])
    if "," in lines[0] and not decimal:
        return ","
    tabs = {line.count("\t") for line in lines}
    uneven = len({len(words) for words in spaced}) > 1 or any("\t\t" in line for line in lines)
    return "\t" if uneven and len(tabs) == 1 and min(tabs) >= 2 else None


def _has_decimal_commas(words: list[str]) -> bool:
    """Whether every comma among the fields is a decimal mark, and no number has a point."""
    commas = [word for word in words if "," in word]
    if not commas or any("." in word and is_number(word) for word in words):
        return False
    return all(_DECIMAL_COMMA.fullmatch(word) for word in commas)


def plain_table(body: bytes, dialect: Dialect) -> bytes:
    """The text with decimal points, exponents with E and no quotes, every field where it was; spaces in quotes become _."""
    if not (dialect.decimal_comma or dialect.fortran or dialect.quoted):
        return body
    letters = np.frombuffer(body, np.uint8).copy()
    if dialect.quoted:
        _blank_quotes(letters, dialect.separator)
    digit = (letters >= ord("0")) & (letters <= ord("9"))
    before, after = np.append(False, digit[:-1]), np.append(digit[1:], False)
    if dialect.decimal_comma:
        letters[(letters == ord(",")) & (before | after)] = ord(".")
    if dialect.fortran:
        point, sign = letters == ord("."), (letters == ord("+")) | (letters == ord("-"))
        before, after = before | np.append(False, point[:-1]), after | np.append(sign[1:], False)
        letters[((letters == ord("d")) | (letters == ord("D"))) & before & after] = ord("E")
    return letters.tobytes()


def _blank_quotes(letters: np.ndarray, separator: str | None) -> None:
    """Blank the quotes of every line; separators between them become _."""
    quotes = letters == ord('"')
    count = np.cumsum(quotes, dtype=np.int64)
    line = np.cumsum(letters == ord("\n"), dtype=np.int64)
    before_line = np.append(0, count[letters == ord("\n")])
    inside = ((count - before_line[line]) % 2 == 1) & (letters != ord("\n")) & (letters != ord("\r"))
    apart = letters == ord(separator) if separator else letters <= ord(" ")
    letters[inside & apart] = ord("_")
    letters[quotes] = ord(" ")
