"""Cars: a lofted body of nine kinds with four kinds of noses, wheels and what is bolted on; metres, the nose towards +x."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from becalm.points.mesh import Mesh
from becalm.shapes.lofts import SQUARE, Piece, beams, box, loft, merge, mirrored_copies, superellipse, sweep
from becalm.shapes.param_reader import ParamReader

TYRE = superellipse(2, 20)


@dataclass(frozen=True)
class Frame:
    """Measures that body and bolted parts share."""

    long: float
    """Half length."""
    wide: float
    """Half width."""
    tall: float
    """Height of the roof."""
    belt: float
    """Height of bonnet and shoulder."""
    sill: float
    """Height of the underside."""
    wheel: float
    """Radius of the wheels."""
    axles: tuple[float, float]
    """x of the front and the rear wheels."""


SIZES = {
    "sedan": (4.3, 5.2, 1.35, 1.55),
    "hatchback": (3.4, 4.4, 1.38, 1.6),
    "estate": (4.3, 5.0, 1.4, 1.6),
    "coupe": (3.9, 4.8, 1.15, 1.35),
    "van": (4.2, 5.6, 1.75, 2.5),
    "pickup": (4.8, 5.8, 1.65, 2.0),
    "offroad": (3.6, 4.9, 1.65, 2.0),
    "roadster": (3.6, 4.4, 1.1, 1.25),
    "minibus": (3.3, 4.4, 1.55, 1.9),
}
"""Shortest and longest, lowest and tallest, in metres."""


def car(kind: str, nose: str, u: ParamReader) -> Mesh:
    """A car with a body of `KINDS` and a nose of `NOSES`."""
    short, longest, low, high = SIZES[kind]
    long, wide, tall = u.uniform(short, longest) / 2, u.uniform(0.76, 0.98), u.uniform(low, high)
    rough = kind in ("pickup", "offroad")
    wheel = u.uniform(0.33, 0.45) if rough else u.uniform(0.27, 0.36)
    sill = wheel * (u.uniform(0.8, 1.1) if rough else u.uniform(0.45, 0.8))
    belt = sill + (tall - sill) * u.uniform(0.48, 0.62)
    axles = (long - u.uniform(0.6, 0.95), -long + u.uniform(0.6, 1.0))
    frame = Frame(long, wide, tall, belt, sill, wheel, axles)
    line = KINDS[kind](frame, u)
    pieces = [
        shell(frame, NOSES[nose](line, frame, u), u),
        *wheels(frame, u),
        *ATTACHMENTS.get(kind, bumpers)(frame, line, u),
    ]
    if u.boolean(0.6):
        at = float(np.interp(0.3, [0, 1], line[line[:, 1] > belt * 0.98, 0][[0, -1]])) if kind != "roadster" else 0.3
        mirror = box((at - 0.05, belt, 0.9 * wide), (at + 0.05, belt + 0.13, wide + 0.16))
        pieces.append(mirrored_copies(mirror, axis=2))
    return merge(pieces)


# The line of the top, seen from the side: [k, 2] of (x, y) from the nose to the tail


def _closed_line(
    f: Frame, u: ParamReader, bonnet: float, screen: float, roof: float, rear: float, boot: float
) -> np.ndarray:
    """Bonnet, windscreen, roof, rear window and boot as shares of the length; boot: its height over the belt's."""
    ends = np.cumsum([bonnet, screen, roof, rear])
    x = f.long * (1 - 2 * np.minimum(ends / max(1.0, ends[-1] + 1e-3), 0.985))
    drop, crown = u.uniform(0.0, 0.12), u.uniform(0.94, 0.99)
    middle = (x[1] + x[2]) / 2
    back = f.sill + (f.belt - f.sill) * boot
    return np.array(
        [
            [f.long, f.sill + (f.belt - f.sill) * 0.75],
            [f.long * 0.97, f.belt * (1 - drop)],
            [x[0], f.belt],
            [x[1], f.tall * crown],
            [middle, f.tall],
            [x[2], f.tall * u.uniform(0.93, 0.99)],
            [x[3], back],
            [-f.long * 0.99, back * u.uniform(0.94, 1.0)],
            [-f.long, back * 0.85],
        ]
    )


KINDS: dict[str, Callable[[Frame, ParamReader], np.ndarray]] = {
    "sedan": lambda f, u: _closed_line(
        f, u, u.uniform(0.24, 0.32), 0.13, u.uniform(0.22, 0.3), 0.12, u.uniform(0.95, 1.1)
    ),
    "hatchback": lambda f, u: _closed_line(
        f, u, u.uniform(0.18, 0.27), 0.15, u.uniform(0.3, 0.42), u.uniform(0.08, 0.2), 0.9
    ),
    "estate": lambda f, u: _closed_line(f, u, u.uniform(0.24, 0.3), 0.13, u.uniform(0.48, 0.54), 0.07, 0.9),
    "coupe": lambda f, u: _closed_line(
        f, u, u.uniform(0.3, 0.42), 0.15, u.uniform(0.08, 0.16), u.uniform(0.22, 0.32), 1.0
    ),
    "van": lambda f, u: _closed_line(
        f, u, u.uniform(0.08, 0.16), u.uniform(0.08, 0.14), 0.72, 0.03, u.uniform(0.9, 1.2)
    ),
    "pickup": lambda f, u: _closed_line(f, u, u.uniform(0.22, 0.28), 0.1, u.uniform(0.14, 0.26), 0.03, 0.45),
    "offroad": lambda f, u: _closed_line(
        f, u, u.uniform(0.24, 0.32), u.uniform(0.04, 0.12), 0.52, 0.04, u.uniform(0.9, 1.1)
    ),
    "roadster": lambda f, u: _cockpit_line(f, u),
    "minibus": lambda f, u: _closed_line(f, u, 0.02, u.uniform(0.06, 0.16), 0.74, u.uniform(0.03, 0.1), 0.9),
}


def _cockpit_line(f: Frame, u: ParamReader) -> np.ndarray:
    """A cockpit without a roof between a long bonnet and a short boot."""
    start, end = f.long * u.uniform(-0.1, 0.15), f.long * u.uniform(-0.65, -0.5)
    floor = f.sill + 0.35 * (f.belt - f.sill)
    heights = [0.7 * f.belt, 0.93 * f.belt, f.belt, floor, floor, f.belt * 1.02, f.belt * 0.92, f.belt * 0.7]
    x = [f.long, 0.97 * f.long, start, start - 0.06, end + 0.06, end, -0.98 * f.long, -f.long]
    return np.array([x, heights]).T


def _nose(line: np.ndarray, x: float, y: float) -> np.ndarray:
    return np.concatenate([[[line[0, 0], y]], [[x, line[1, 1]]], line[2:]])


NOSES: dict[str, Callable[[np.ndarray, Frame, ParamReader], np.ndarray]] = {
    "blunt": lambda line, f, u: _nose(line, 0.985 * f.long, 0.88 * float(line[1, 1])),
    "wedge": lambda line, f, u: np.delete(
        _nose(line, f.long, f.sill + u.uniform(0.25, 0.5) * (f.belt - f.sill)), 1, axis=0
    ),
    "round": lambda line, f, u: _nose(line, u.uniform(0.85, 0.93) * f.long, 0.7 * float(line[1, 1])),
    "bumper": lambda line, f, u: _nose(line, 0.97 * f.long, 0.93 * float(line[1, 1])),
}


def shell(f: Frame, line: np.ndarray, u: ParamReader) -> Piece:
    """The body: cross-sections along x under the line, as wide as the shoulder up to the belt, narrower above it."""
    x = np.unique(np.concatenate([line[:, 0], np.linspace(-f.long, f.long, 9)]))[::-1]
    top = np.interp(x, line[::-1, 0], line[::-1, 1])
    inward, curve, tuck = u.uniform(0.7, 0.95), u.uniform(0.0, 0.16), u.uniform(0.85, 1.0)
    wide = f.wide * (1 - curve * np.abs(x / f.long) ** u.uniform(4, 10))
    belt = np.minimum(top, f.belt)
    share = (top - belt) / (f.tall - f.belt)
    roof = wide * (1 - (1 - inward) * share)
    lower, round_ = f.sill + 0.25 * (belt - f.sill), 0.05
    half = [(f.sill + 0 * x, tuck * wide), (lower, wide), (belt - round_ * share.clip(0.4), wide)]
    half += [(belt + (top - belt) * 0.85, 0.98 * roof), (top, 0.84 * roof)]
    y, z = (np.stack([p[c] for p in half] + [p[c] * (1 - 2 * c) for p in half[::-1]], axis=1) for c in (0, 1))
    return loft(np.stack([np.broadcast_to(x[:, None], y.shape), y, z], axis=-1)[None, :, ::-1])


def wheels(f: Frame, u: ParamReader) -> list[Piece]:
    """Four wheels, half inside the body, with flared arches in some."""
    tyre, out = u.uniform(0.17, 0.26), u.uniform(0.01, 0.06)
    start = [[x, f.wheel, f.wide + out - tyre] for x in f.axles]
    end = [[x, f.wheel, f.wide + out] for x in f.axles]
    pieces = [mirrored_copies(beams(start, end, f.wheel, None, TYRE), axis=2)]
    hub = [[x, f.wheel, f.wide + out + 0.015] for x in f.axles]
    pieces.append(mirrored_copies(beams(end, hub, 0.55 * f.wheel), axis=2))
    if u.boolean(0.25):
        low, high = f.wheel * 1.75, min(f.wheel * 2.3, f.belt)
        arch = [
            box((x - 1.2 * f.wheel, low, 0.8 * f.wide), (x + 1.2 * f.wheel, high, f.wide + out + 0.02)) for x in f.axles
        ]
        pieces += [mirrored_copies(a, axis=2) for a in arch]
    return pieces


# Bolted on


def bumpers(f: Frame, line: np.ndarray, u: ParamReader) -> list[Piece]:
    """Nothing but bumpers, in some."""
    if u.boolean(0.7):
        return []
    low, high, wide = f.sill + 0.02, f.sill + 0.17, 0.92 * f.wide
    front = box((f.long - 0.15, low, -wide), (f.long + 0.1, high, wide))
    rear = box((-f.long - 0.1, low, -wide), (0.15 - f.long, high, wide))
    return [front, rear]


def spoiler(f: Frame, line: np.ndarray, u: ParamReader) -> list[Piece]:
    """A wing over the boot, in some."""
    if u.boolean(0.6):
        return bumpers(f, line, u)
    x, y = -0.93 * f.long, float(np.interp(-0.93 * f.long, line[::-1, 0], line[::-1, 1]))
    rise, wide = u.uniform(0.08, 0.25), 0.85 * f.wide
    blade = beams([[x, y + rise, -wide]], [[x, y + rise, wide]], [u.uniform(0.08, 0.16), 0.02], None, SQUARE)
    return [
        blade,
        mirrored_copies(beams([[x, y - 0.06, 0.6 * wide]], [[x, y + rise, 0.6 * wide]], [0.06, 0.03]), axis=2),
    ]


def rack(f: Frame, line: np.ndarray, u: ParamReader) -> list[Piece]:
    """Rails or a box on the roof, in some."""
    kind = u.choice({"none": 3, "rails": 2, "box": 1})
    high = line[line[:, 1] > 0.9 * f.tall, 0]
    if kind == "none" or len(high) < 2:
        return bumpers(f, line, u)
    rear, front, z = float(high.min()) + 0.1, float(high.max()) - 0.1, 0.5 * f.wide
    if kind == "box":
        return [
            box((rear, f.tall * 0.93, -0.6 * z), (front * 0.8 + rear * 0.2, f.tall + u.uniform(0.15, 0.35), 0.6 * z))
        ]
    rail = beams([[rear, f.tall + 0.05, z]], [[front, f.tall + 0.05, z]], 0.025)
    feet = [[x, f.tall * 0.9, z] for x in (rear, front)]
    return [
        mirrored_copies(rail, axis=2),
        mirrored_copies(beams(feet, [[x, f.tall + 0.05, z] for x, _, _ in feet], 0.03), axis=2),
    ]


def bed(f: Frame, line: np.ndarray, u: ParamReader) -> list[Piece]:
    """The sides and the flap of a pickup's bed."""
    start, top, z = float(line[6, 0]), f.belt * u.uniform(0.95, 1.05), 0.97 * f.wide
    side = box((-f.long, f.sill, z - 0.08), (start + 0.2, top, z))
    flap = box((-f.long, f.sill, -z), (0.08 - f.long, top * u.uniform(0.9, 1.0), z))
    return [mirrored_copies(side, axis=2), flap]


def spare(f: Frame, line: np.ndarray, u: ParamReader) -> list[Piece]:
    """A wheel at the rear or a rack on the roof, in some."""
    if u.boolean(0.5):
        return rack(f, line, u)
    y = max(f.sill + f.wheel + 0.1, 0.55 * f.belt + 0.3)
    return [beams([[-f.long - 0.18, y, 0.1]], [[0.1 - f.long, y, 0.1]], 0.95 * f.wheel, None, TYRE)]


def cockpit(f: Frame, line: np.ndarray, u: ParamReader) -> list[Piece]:
    """A windscreen and two seats."""
    x, floor, tall = float(line[2, 0]), float(line[3, 1]), f.tall - f.belt + 0.1
    lean = u.uniform(0.3, 0.9) * tall
    path = np.array([[[x + 0.03, f.belt - 0.03, 0], [x - lean, f.belt + tall, 0]]])
    screen = sweep(path, np.array([[0.85 * f.wide, 0.015], [0.75 * f.wide, 0.015]]), (0, 0, 1), SQUARE)
    back = float(line[5, 0]) + 0.35
    seat = box((back - 0.2, floor - 0.02, 0.15 * f.wide), (back, f.belt + u.uniform(0.0, 0.2), 0.75 * f.wide))
    return [screen, mirrored_copies(seat, axis=2)]


ATTACHMENTS: dict[str, Callable[[Frame, np.ndarray, ParamReader], list[Piece]]] = {
    "sedan": spoiler,
    "coupe": spoiler,
    "estate": rack,
    "van": rack,
    "minibus": rack,
    "offroad": spare,
    "pickup": bed,
    "roadster": cockpit,
}
