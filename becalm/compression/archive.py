"""The file of `becalm compress`: what was coded and how, checksums, and the words of the stack.

    offset  bytes  content
    0       8      89 'bcz' 0D 0A 1A 0A: no text file begins so, and one mangled as text no longer does
    8       2      version, 1
    10      4      length of the header
    14      4      CRC-32 of the header
    18      …      the header: one JSON object, deflated (zlib)
    …       4 each the words of the stack, bottom first

All numbers are little-endian. The header's fields are those of `Header`.
"""

import json
import math
import struct
import zlib
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from torch import nn

from becalm.compression.bits_back import Coded, surroundings
from becalm.core.files import InputError, atomic_file
from becalm.core.typing import Int, Tensor

MAGIC = b"\x89bcz\r\n\x1a\n"
VERSION = 1
MOST = 1 << 20
"""Bytes a header may have, deflated."""
NUMBERS = 1 << 36
"""Numbers (pixels times colours) a file may hold."""


@dataclass(frozen=True)
class Header:
    """What the decoder must know."""

    model: str
    """`fingerprint` of the model."""
    shape: tuple[int, int, int]
    """Height, width, colours."""
    levels: int
    """K."""
    count: int
    """Images."""
    steps: int
    """T."""
    groups: tuple[tuple[int, int], ...]
    """Images that went through the network at once, as runs: size, how many groups of it."""
    initial: int
    """Random words on the stack at first."""
    unused: int
    """Those that are not in the file."""
    words: int
    """Words of the stack in the file."""
    payload: str
    """SHA-256 of their bytes."""
    images: str
    """SHA-256 of the images' `raw` bytes."""
    where: dict
    """`surroundings` of the encoder."""

    @property
    def threads(self) -> int:
        """Threads the encoder's network ran on."""
        return int(self.where["threads"])


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a model's kind, configuration and tensors; the file they came from may have any name and metadata."""
    total = sha256(json.dumps([type(model).__name__, model.config], sort_keys=True).encode())  # type: ignore[arg-type]
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        total.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode() + array.tobytes())
    return total.hexdigest()


def raw(images: Int[Tensor, "image height width colour"], levels: int) -> bytes:
    """Images as bytes, little-endian, of 8 bits a number where the levels fit, else of 16."""
    return images.cpu().numpy().astype("u1" if levels <= 256 else "<u2").tobytes()


def write(path: Path, model: nn.Module, images: Int[Tensor, "image height width colour"], coded: Coded) -> None:
    """Write what `codec.encode` made of images; the file is whole or the old one stays as it was."""
    payload, levels = coded.words.astype("<u4").tobytes(), int(model.levels)  # type: ignore[arg-type]
    height, width, colours = images.shape[1:]
    header = Header(
        model=fingerprint(model),
        shape=(height, width, colours),
        levels=levels,
        count=coded.count,
        steps=coded.steps,
        groups=runs(coded.groups),
        initial=coded.initial,
        unused=coded.unused,
        words=len(coded.words),
        payload=sha256(payload).hexdigest(),
        images=sha256(raw(images, levels)).hexdigest(),
        where=surroundings(),
    )
    packed = zlib.compress(json.dumps(asdict(header), separators=(",", ":")).encode(), 9)
    with atomic_file(path) as temporary:
        temporary.write_bytes(MAGIC + struct.pack("<HII", VERSION, len(packed), zlib.crc32(packed)) + packed + payload)


def read(path: Path) -> tuple[Header, Coded]:
    """A compressed file. Raises InputError naming the file and what is wrong: another format, a newer one, damaged, cut."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; give one of `becalm compress`")
    data = Path(path).read_bytes()
    if data[:8] != MAGIC:
        raise InputError(f"{path}: is no file of `becalm compress`, or its first bytes are damaged; fetch it again")
    header, end = header_of(path, data)
    held, promised = len(data) - end, 4 * header.words
    if held != promised:
        fault = "cut short?" if held < promised else "something was appended?"
        raise InputError(
            f"{path}: header promises {promised:,} bytes, the file holds {held:,} ({fault}); fetch it again"
        )
    if sha256(data[end:]).hexdigest() != header.payload:
        raise InputError(f"{path}: payload: its checksum is wrong, so bytes were changed; fetch the file again")
    words = np.frombuffer(data, "<u4", offset=end).astype(np.uint32)
    groups = tuple(size for size, times in header.groups for _ in range(times))
    return header, Coded(header.count, header.steps, groups, header.initial, header.unused, words)


def header_of(path: Path, data: bytes) -> tuple[Header, int]:
    """The header and where the payload begins."""
    if len(data) < 18:
        raise InputError(f"{path}: header: the file is cut short; fetch it again")
    version, length, checksum = struct.unpack("<HII", data[8:18])
    if version != VERSION:
        raise InputError(f"{path}: version {version}: this becalm reads version {VERSION}; install a newer one")
    packed = data[18 : 18 + length]
    if length > MOST or len(packed) < length or zlib.crc32(packed) != checksum:
        raise InputError(f"{path}: header: cut short or damaged (its checksum is wrong); fetch the file again")
    try:
        fields = json.loads(zlib.decompressobj().decompress(packed, 64 * MOST))
        fields["shape"], fields["groups"] = tuple(fields["shape"]), tuple(tuple(run) for run in fields["groups"])
        header = Header(**fields)
        fault = fault_of(header)
    except (ValueError, TypeError, KeyError, zlib.error) as error:
        fault = str(error)
    if fault:
        raise InputError(f"{path}: header: {fault}; it was not written by `becalm compress`")
    return header, 18 + length


def fault_of(header: Header) -> str:
    """What is impossible about a header, or nothing."""
    whole = (*header.shape, header.levels, header.count, header.steps, header.words)
    sizes = [n for run in header.groups for n in run]
    if len(header.shape) != 3 or any(len(run) != 2 for run in header.groups):
        return "shape or groups have another form"
    if not all(type(n) is int and n > 0 for n in (*whole, *sizes)):
        return "shape, levels, count, steps, groups and words must be whole numbers above 0"
    if type(header.initial) is not int or type(header.unused) is not int or not 0 <= header.unused <= header.initial:
        return "initial and unused must be whole numbers, 0 ≤ unused ≤ initial"
    if type(header.where) is not dict or header.where.get("threads") not in range(1, 4097):
        return "where must tell the threads, 1 to 4096"
    if sum(size * times for size, times in header.groups) != header.count:
        return "the groups do not add up to the count"
    # the random words below an honest stack are of one image: 64 bits a number are more than any takes
    if max(header.count * math.prod(header.shape), header.steps) > NUMBERS or header.initial > limit(header):
        return "there are too many images, steps or random words"
    return ""


def limit(header: Header) -> int:
    """Random words that may be needed at most."""
    return 1024 + 4 * math.prod(header.shape) + 2 * header.count


def runs(sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Sizes as (size, how many in a row)."""
    found: list[tuple[int, int]] = []
    for size in sizes:
        times = found.pop()[1] + 1 if found and found[-1][0] == size else 1
        found.append((size, times))
    return tuple(found)


def fitting(path: Path, header: Header, model: nn.Module, name: str) -> None:
    """Raise InputError where a file was not coded with this model."""
    mine = fingerprint(model)
    if header.model != mine:
        raise InputError(
            f"{path}: was coded with the model of fingerprint {header.model[:16]}…; {name} is {mine[:16]}…: "
            "give the model it was coded with"
        )
    if header.shape != tuple(model.shape) or header.levels != model.levels:  # type: ignore[arg-type]
        raise InputError(
            f"{path}: header: shape or levels are not the model's; it was not written by `becalm compress`"
        )


def confirm(path: Path, header: Header, images: Int[Tensor, "image height width colour"]) -> None:
    """Raise InputError where decoded images are not those that were coded."""
    if sha256(raw(images, header.levels)).hexdigest() != header.images:
        raise InputError(f"{path}: the images do not come out as they went in; {difference(header)}")


def difference(header: Header) -> str:
    """Why a sound file may not decode here."""
    here = surroundings()
    other = [f"{name} {was}, not {here.get(name)}" for name, was in header.where.items() if was != here.get(name)]
    if other:
        return f"it was coded under {'; '.join(other)}: decode it where these agree"
    return "the network gave other numbers than where it was coded (another processor?): decode it there"
