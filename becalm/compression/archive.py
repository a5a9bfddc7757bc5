"""The file of `becalm compress`: how the images were encoded, checksums, and the words of the ANS stack.

    offset  bytes  content
    0       8      89 'bcz' 0D 0A 1A 0A: no text file begins so, and one mangled as text no longer does
    8       2      version, 2
    10      4      length of the header
    14      4      CRC-32 of the header
    18      …      the header: one JSON object, deflated (zlib)
    …       4 each the words of the stack, bottom first

All numbers are little-endian. The header's fields are those of `Header`, whose names are therefore part of the format.
"""

import json
import math
import struct
import zlib
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import nn

from becalm.compression.bits_back import MAX_PLAIN, Bitstream, environment, image_bytes
from becalm.core.files import InputError
from becalm.core.typing import Int, Tensor

MAGIC = b"\x89bcz\r\n\x1a\n"
VERSION = 2
"""Version of the files that are written; files of version 1 have no `plain` images."""
MAX_HEADER_BYTES = 1 << 18
"""Bytes a header may have, deflated and inflated."""
MAX_BATCHES = 1 << 20
"""Batches in which the images of a file may have gone through the network."""
MAX_NUMBERS = 1 << 36
"""Numbers (pixels times colours) a file may hold."""


@dataclass(frozen=True)
class Header:
    """What the decoder must know beside the model and the words."""

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
    """Images that went through the network at once, in the order of encoding, as runs: size, how many batches of it."""
    initial: int
    """Initial words of the stack."""
    unused: int
    """Those of them that are not in the file."""
    words: int
    """How many words of the stack are in the file."""
    payload: str
    """SHA-256 of their bytes."""
    images: str
    """SHA-256 of the images' `image_bytes`."""
    where: dict
    """`environment` of the encoder."""
    plain: int = 0
    """The first so many images did not go through the network: LZMA compressed them."""

    @property
    def threads(self) -> int:
        """Threads the encoder's network ran on."""
        return int(self.where["threads"])


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a model's class, configuration and tensors: the same whatever file they came from."""
    digest = sha256(json.dumps([type(model).__name__, model.config], sort_keys=True).encode())  # type: ignore[arg-type]
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode() + array.tobytes())
    return digest.hexdigest()


def pack(
    model: nn.Module,
    images: Int[Tensor, "image height width colour"],
    bits: Bitstream,
    device: torch.device | None = None,
) -> bytes:
    """The file of encoded images, as bytes."""
    payload, levels = bits.words.astype("<u4").tobytes(), int(model.levels)  # type: ignore[arg-type]
    height, width, colours = images.shape[1:]
    header = Header(
        model=fingerprint(model),
        shape=(height, width, colours),
        levels=levels,
        count=bits.count,
        steps=bits.steps,
        groups=run_lengths(bits.batches),
        initial=bits.n_initial,
        unused=bits.n_unused,
        words=len(bits.words),
        payload=sha256(payload).hexdigest(),
        images=sha256(image_bytes(images, levels)).hexdigest(),
        where=environment(device),
        plain=bits.plain,
    )
    deflated = zlib.compress(json.dumps(asdict(header), separators=(",", ":")).encode(), 9)
    return MAGIC + struct.pack("<HII", VERSION, len(deflated), zlib.crc32(deflated)) + deflated + payload


def read(path: Path | str) -> bytes:
    """The bytes of a compressed file. Raises InputError where there is none."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; give one of `becalm compress`")
    return Path(path).read_bytes()


def unpack(data: bytes, path: Path | str = "data") -> tuple[Header, Bitstream]:
    """Header and bitstream of a file's bytes; errors call it `path`.

    Raises InputError saying what is wrong: another format, a newer version, damaged or cut short.
    """
    if data[:8] != MAGIC:
        raise InputError(f"{path}: is no file of `becalm compress`, or its first bytes are damaged; fetch it again")
    header, end = parse_header(path, data)
    held, promised = len(data) - end, 4 * header.words
    if held != promised:
        fault = "cut short?" if held < promised else "something was appended?"
        raise InputError(
            f"{path}: header promises {promised:,} bytes, the file holds {held:,} ({fault}); fetch it again"
        )
    if sha256(data[end:]).hexdigest() != header.payload:
        raise InputError(f"{path}: payload: its checksum is wrong, so bytes were changed; fetch the file again")
    words = np.frombuffer(data, "<u4", offset=end).astype(np.uint32)
    batches = tuple(size for size, times in header.groups for _ in range(times))
    return header, Bitstream(header.count, header.plain, header.steps, batches, header.initial, header.unused, words)


def parse_header(path: Path | str, data: bytes) -> tuple[Header, int]:
    """The header and the offset of the payload."""
    if len(data) < 18:
        raise InputError(f"{path}: header: the file is cut short; fetch it again")
    version, length, checksum = struct.unpack("<HII", data[8:18])
    if version not in (1, VERSION):
        raise InputError(f"{path}: version {version}: this becalm reads versions 1 and {VERSION}; install a newer one")
    deflated = data[18 : 18 + length]
    if length > MAX_HEADER_BYTES or len(deflated) < length or zlib.crc32(deflated) != checksum:
        raise InputError(f"{path}: header: cut short or damaged (its checksum is wrong); fetch the file again")
    try:
        fields = json.loads(zlib.decompressobj().decompress(deflated, MAX_HEADER_BYTES))
        fields["shape"], fields["groups"] = tuple(fields["shape"]), tuple(tuple(run) for run in fields["groups"])
        header = Header(**fields)
        fault = header_fault(header)
    except (ValueError, TypeError, KeyError, RecursionError, zlib.error) as error:
        fault = str(error)
    if fault:
        raise InputError(f"{path}: header: {fault}; it was not written by `becalm compress`")
    return header, 18 + length


def header_fault(header: Header) -> str:
    """What makes a header impossible, in words; empty for a possible one."""
    whole = (*header.shape, header.levels, header.count, header.steps, header.words)
    sizes = [n for run in header.groups for n in run]
    if len(header.shape) != 3 or any(len(run) != 2 for run in header.groups):
        return "shape or groups have another form"
    if not all(type(n) is int and n > 0 for n in (*whole, *sizes)):
        return "shape, levels, count, steps, groups and words must be whole numbers above 0"
    if type(header.initial) is not int or type(header.unused) is not int or not 0 <= header.unused <= header.initial:
        return "initial and unused must be whole numbers, 0 ≤ unused ≤ initial"
    if type(header.where) is not dict or header.where.get("threads") not in range(1, 4097):
        return "where must have the threads, 1 to 4096"
    if type(header.plain) is not int or not 0 <= header.plain <= min(header.count, MAX_PLAIN):
        return f"plain must be a whole number from 0 to {MAX_PLAIN}, and no more than the images"
    if header.plain + sum(size * times for size, times in header.groups) != header.count:
        return "plain and the groups do not add up to the count"
    if sum(times for _, times in header.groups) > MAX_BATCHES:
        return f"there are more than {MAX_BATCHES:,} batches"
    # initial words are needed for the first image only, and 64 bits a number are more than any takes
    if max(header.count * math.prod(header.shape), header.steps) > MAX_NUMBERS or header.initial > max_initial_words(
        header
    ):
        return "there are too many images, steps or random words"
    return ""


def max_initial_words(header: Header) -> int:
    """Initial words that may be needed at most."""
    return 1024 + 4 * math.prod(header.shape) + 2 * header.count


def run_lengths(sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Run-length encoding: (size, how many in a row)."""
    runs: list[tuple[int, int]] = []
    for size in sizes:
        times = runs.pop()[1] + 1 if runs and runs[-1][0] == size else 1
        runs.append((size, times))
    return tuple(runs)


def check_model(path: Path | str, header: Header, model: nn.Module, name: str) -> None:
    """Raise InputError unless the file was encoded with this model."""
    own = fingerprint(model)
    if header.model != own:
        raise InputError(
            f"{path}: was coded with the model of fingerprint {header.model[:16]}…; {name} is {own[:16]}…: "
            "give the model it was coded with"
        )
    if header.shape != tuple(model.shape) or header.levels != model.levels:  # type: ignore[arg-type]
        raise InputError(
            f"{path}: header: shape or levels are not the model's; it was not written by `becalm compress`"
        )


def check_images(path: Path | str, header: Header, images: Int[Tensor, "image height width colour"]) -> None:
    """Raise InputError unless the decoded images are those that were encoded."""
    if sha256(image_bytes(images, header.levels)).hexdigest() != header.images:
        raise InputError(f"{path}: the images do not come out as they went in; {explain_mismatch(header)}")


def explain_mismatch(header: Header, device: torch.device | None = None) -> str:
    """Why an undamaged file may not decode here: what differs between the encoder's environment and this one."""
    here = environment(device)
    other = [f"{name} {was}, not {here.get(name)}" for name, was in header.where.items() if was != here.get(name)]
    if other:
        return f"it was coded under {'; '.join(other)}: decode it where these agree"
    return "the network gave other numbers than where it was coded (another processor?): decode it there"
