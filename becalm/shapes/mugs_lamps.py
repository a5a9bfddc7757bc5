"""Mugs and lamps: shapes that come off a lathe, with what is fastened to them; a mug is 1 high, a lamp in metres."""

from collections.abc import Callable

import numpy as np

from becalm.points.mesh import Mesh
from becalm.shapes.lofts import (
    ROUND,
    SQUARE,
    Piece,
    beams,
    lathe,
    merge,
    rotate,
    rotated_copies,
    slab,
    superellipse,
    sweep,
    translate,
)  # fmt: skip
from becalm.shapes.param_reader import Number, ParamReader

# Mugs


def mug(body: str, handle: str, u: ParamReader) -> Mesh:
    """A mug with a body of `BODIES` and a handle of `HANDLES`; the handle points to +x."""
    wide, wall, rows = u.uniform(0.26, 0.62), u.uniform(0.025, 0.07), 14
    y = np.linspace(0, 1, rows)
    radius = wide * BODIES[body](y, u)
    radius = radius * (1 - u.uniform(0.0, 0.25) * (1 - y / 0.12) ** 2 * (y < 0.12))
    corners = superellipse(u.uniform(4, 9), 32) if u.boolean(0.12) else superellipse(2, 32)
    floor = u.uniform(0.04, 0.12)
    deep = np.clip(np.linspace(1, floor, rows), 0, 1)
    inner = np.maximum(np.interp(deep, y, radius) - wall, 0.03)
    lip = [[radius[-1] - wall / 2, 1 + 0.4 * wall]]
    profile = np.concatenate([[[0, 0]], np.c_[radius, y], lip, np.c_[inner, deep], [[0, floor]]])
    pieces = [lathe(profile, corners)]
    if u.boolean(0.12):
        lid = np.array(
            [[0, 0.99], [1.04, 0.99], [1.04, 1.06], [0.6, 1.1], [0.12, 1.13], [0.16, 1.2], [0.1, 1.24], [0, 1.25]]
        )
        pieces.append(lathe(lid * [radius[-1], 1], corners))
    if u.boolean(0.12):
        saucer = np.array([[0, -0.04], [0.6, -0.04], [1, 0.04], [1, 0.07], [0.6, 0.0], [0, 0.0]])
        pieces.append(lathe(saucer * [wide * u.uniform(1.5, 2.0), 1]))
    surface = radius * (np.abs(corners).max() if len(corners) else 1)
    return merge([*pieces, *HANDLES[handle](lambda h: float(np.interp(h, y, surface)) - wall / 2, u)])


def conical(y: np.ndarray, u: ParamReader) -> np.ndarray:
    """Straight sides, wider at the top or at the foot."""
    slope = u.uniform(-0.25, 0.35)
    return 1 + slope * (y - 0.5)


def barrel(y: np.ndarray, u: ParamReader) -> np.ndarray:
    """Bulging or waisted."""
    return 1 + u.uniform(-0.25, 0.4) * (4 * y * (1 - y) - 0.5) + u.uniform(-0.1, 0.1) * y


def bowl(y: np.ndarray, u: ParamReader) -> np.ndarray:
    """Round below and open above, like a tea cup."""
    foot = u.uniform(0.3, 0.6)
    return foot + (1.35 - foot) * y ** u.uniform(0.3, 0.7)


def stepped_profile(y: np.ndarray, u: ParamReader) -> np.ndarray:
    """A narrow foot, a wide middle and rings or a collar."""
    step, narrow = u.uniform(0.15, 0.4), u.uniform(0.7, 0.9)
    rings = u.uniform(0.0, 0.05) * np.sin(2 * np.pi * u.integer(2, 5) * y)
    return np.where(y < step, narrow + (1 - narrow) * (y / step) ** 2, 1.0) + rings


BODIES: dict[str, Callable[[np.ndarray, ParamReader], np.ndarray]] = {
    "conical": conical,
    "barrel": barrel,
    "bowl": bowl,
    "stepped": stepped_profile,
}
Wall = Callable[[float], float]
"""Height -> the radius in the middle of the wall there."""


def _handle(path: np.ndarray, u: ParamReader) -> list[Piece]:
    """A bar along a path [k, 2] of (x, y): flat, square or round."""
    flat = np.array([u.uniform(0.03, 0.09), u.uniform(0.025, 0.05)])
    section = ROUND if u.boolean(0.65) else SQUARE
    return [sweep(np.c_[path, np.zeros(len(path))][None], flat, (0, 0, 1), section)]


def _arc(wall: Wall, u: ParamReader, exponent: float) -> np.ndarray:
    """Half a superellipse from the wall above to the wall below."""
    low, high, reach = u.uniform(0.1, 0.35), u.uniform(0.65, 0.92), u.uniform(0.2, 0.45)
    turn = np.linspace(-np.pi / 2, np.pi / 2, 17)
    c, s = np.cos(turn), np.sin(turn)
    scale = (np.abs(c) ** exponent + np.abs(s) ** exponent) ** (-1 / exponent)
    y = (low + high) / 2 + (high - low) / 2 * s * scale
    start = np.interp(y, [low, high], [wall(low), wall(high)])
    return np.stack([start + reach * c * scale, y], axis=1)


def ear(wall: Wall, u: ParamReader) -> list[Piece]:
    """Wide above and drawn in below."""
    path = _arc(wall, u, 2.0)
    below = np.clip((path[:, 1] - path[0, 1]) / np.ptp(path[:, 1]), 0, 1)
    path[:, 0] = path[0, 0] + (path[:, 0] - path[0, 0]) * (0.45 + 0.55 * below ** u.uniform(0.4, 1.2))
    path[-1, 0], path[0, 0] = wall(float(path[-1, 1])), wall(float(path[0, 1]))
    return _handle(path, u)


def hook(wall: Wall, u: ParamReader) -> list[Piece]:
    """Straight bars: out, down and back in, or a triangle."""
    low, high, reach, share = u.uniform(0.15, 0.4), u.uniform(0.65, 0.9), u.uniform(0.22, 0.45), u.uniform(0.0, 1.0)
    top, bottom = wall(high), wall(low)
    inner = high + (low - high) * share
    corner = [[top + reach, high], [top + reach, inner]] if share > 0.3 else [[top + reach, high]]
    return _handle(np.array([[top, high], *corner, [bottom, low]]), u)


def pair(wall: Wall, u: ParamReader) -> list[Piece]:
    """Two equal handles, one on each side."""
    (one,) = _handle(_arc(wall, u, 2.0), u)
    return [one, rotate(one, 1, np.pi)]


HANDLES: dict[str, Callable[[Wall, ParamReader], list[Piece]]] = {
    "round": lambda wall, u: _handle(_arc(wall, u, u.uniform(1.7, 2.6)), u),
    "square": lambda wall, u: _handle(_arc(wall, u, u.uniform(4.0, 8.0)), u),
    "ear": ear,
    "hook": hook,
    "pair": pair,
    "none": lambda wall, u: [],
}

# Lamps


def lamp(stand: str, shade: str, u: ParamReader) -> Mesh:
    """A lamp with a stand of `STANDS` and a shade of `SHADES`."""
    hood = SHADES[shade](u)
    return merge(STANDS[stand](hood, u))


def _sheet(profile: np.ndarray, u: ParamReader, outline: np.ndarray | None = None) -> Piece:
    """An open shade of profile (radius, height), its top at height 0, held by a cross of wires at the upper rim."""
    circle = superellipse(2, 32) if outline is None else outline
    skin = lathe(profile, circle)
    reach = profile[-1, 0] * 0.98
    spokes = rotated_copies(
        beams([[0, -0.006, 0]], [[reach * np.abs(circle).max() * 0.98, -0.006, 0]], 0.006, section=SQUARE), 4
    )
    return Piece(
        np.concatenate([skin.vertices, spokes.vertices]),
        np.concatenate([skin.faces, spokes.faces + len(skin.vertices)]),
    )


def cone(u: ParamReader) -> Piece:
    """A frustum, steep or flat, with pleats or corners in some."""
    wide, tall = u.uniform(0.1, 0.26), u.uniform(0.1, 0.3)
    kind = u.choice({"plain": 4, "square": 1, "panels": 1})
    outline = {"plain": None, "square": superellipse(12, 32), "panels": superellipse(2, 6)}[kind]
    y = np.linspace(-tall, 0, 6)
    return _sheet(np.c_[np.linspace(wide, wide * u.uniform(0.25, 0.7), 6), y], u, outline)


def drum(u: ParamReader) -> Piece:
    """A cylinder, nearly."""
    wide, tall = u.uniform(0.1, 0.24), u.uniform(0.1, 0.32)
    outline = superellipse(10, 32) if u.boolean(0.25) else None
    return _sheet(np.c_[np.linspace(wide, wide * u.uniform(0.85, 1.0), 4), np.linspace(-tall, 0, 4)], u, outline)


def dome(u: ParamReader) -> Piece:
    """Part of a ball or a bell, open below."""
    wide, tall, power = u.uniform(0.1, 0.24), u.uniform(0.08, 0.24), u.uniform(1.5, 4.0)
    y = np.linspace(0, 1, 10)
    radius = wide * (1 - y**power) ** (1 / u.uniform(1.5, 2.5)) + 0.025
    flare = u.uniform(0.0, 0.4) * wide * (1 - y) ** 6
    return _sheet(np.c_[radius + flare, (y - 1) * tall], u)


def globe(u: ParamReader) -> Piece:
    """A closed ball or egg."""
    wide, tall, egg = u.uniform(0.07, 0.2), u.uniform(0.07, 0.22), u.uniform(-0.3, 0.3)
    turn = np.linspace(0, np.pi, 16)
    return lathe(np.c_[wide * np.sin(turn) * (1 + egg * np.cos(turn)), tall * (-1 - np.cos(turn))])


SHADES: dict[str, Callable[[ParamReader], Piece]] = {"cone": cone, "drum": drum, "dome": dome, "globe": globe}


def _base(u: ParamReader, reach: float) -> Piece:
    """A plate or a bell to stand on."""
    tall, power = u.uniform(0.012, 0.05), u.uniform(0.0, 1.0)
    outline = superellipse(8, 32) if u.boolean(0.25) else superellipse(2, 32)
    return lathe(np.array([[0, 0], [1, 0], [1, 0.3], [0.3 + 0.6 * power, 1], [0, 1]]) * [reach, tall], outline)


def _pole(low: Number, high: Number, rod: Number) -> Piece:
    return beams([[0, low, 0]], [[0, high, 0]], rod)


def vase(hood: Piece, u: ParamReader) -> list[Piece]:
    """A turned body: vase, ball, candlestick or column, with the shade on a short neck."""
    tall, wide = u.uniform(0.15, 0.45), u.uniform(0.05, 0.14)
    y = np.linspace(0, 1, 16)
    weights = np.array([u.uniform(0.1, 1.0) for _ in range(5)])
    knots = np.interp(y, np.linspace(0, 1, 5), weights)
    smooth = np.convolve(np.pad(knots, 2, mode="edge"), [0.1, 0.2, 0.4, 0.2, 0.1], "valid")
    radius = wide * smooth * (1 + u.uniform(0, 0.15) * np.sin(2 * np.pi * u.integer(1, 5) * y)) / weights.max()
    outline = superellipse(u.uniform(4, 10), 32) if u.boolean(0.2) else superellipse(2, 28)
    body = slab(outline, (y * tall).tolist(), np.maximum(radius, 0.012).tolist())
    neck = -hood.vertices[:, 1].min() * u.uniform(0.75, 1.0) + u.uniform(0, 0.05)
    top = tall + neck
    pieces = [body, _pole(tall - 0.01, top, 0.008), translate(hood, (0, top, 0))]
    return [_base(u, u.uniform(0.6, 1.2) * wide + 0.03), *pieces] if u.boolean(0.6) else pieces


def pole(hood: Piece, u: ParamReader) -> list[Piece]:
    """A straight pole on a base: a floor lamp or a slim table lamp."""
    tall = u.uniform(0.35, 1.5)
    rod, reach = u.uniform(0.007, 0.02), u.uniform(0.08, 0.18)
    return [_base(u, reach), _pole(0, tall, rod), translate(hood, (0, tall, 0))]


def tripod(hood: Piece, u: ParamReader) -> list[Piece]:
    """Three or four slanting legs, with a shelf or a ring in some."""
    tall, feet, reach = u.uniform(0.3, 1.3), u.integer(3, 4), u.uniform(0.25, 0.5)
    neck = tall * u.uniform(0.8, 1.0)
    leg = beams([[0.012, neck, 0]], [[reach * tall, 0, 0]], u.uniform(0.008, 0.02), u.uniform(0.6, 1.0))
    at = u.uniform(0.25, 0.6)
    pieces = [rotated_copies(leg, feet), _pole(neck - 0.03, tall, 0.018), translate(hood, (0, tall, 0))]
    if u.boolean(0.3):
        shelf = slab(superellipse(2, 24) * (reach * tall * (1 - at) + 0.01), [at * neck, at * neck + 0.015])
        return [*pieces, shelf]
    return pieces


def desk(hood: Piece, u: ParamReader) -> list[Piece]:
    """Two jointed bars that hold the shade aslant, as on a desk."""
    lower, upper = u.uniform(0.22, 0.45), u.uniform(0.22, 0.45)
    back, forth, tilt = u.uniform(0.1, 0.7), u.uniform(0.1, 1.0), u.uniform(-0.2, 0.8)
    elbow = np.array([-lower * np.sin(back), 0.02 + lower * np.cos(back), 0])
    tip = elbow + upper * np.array([np.cos(forth - 0.5), np.sin(forth - 0.5), 0])
    rod = u.uniform(0.006, 0.014)
    start = np.array([0, 0.005, 0])
    bars = [beams([start], [elbow], rod), beams([elbow], [tip], rod)]
    joint = lathe(np.array([[0, -1], [0.7, -0.7], [1, 0], [0.7, 0.7], [0, 1]]) * (2 * rod))
    size = u.uniform(0.55, 0.85)
    small = Piece(hood.vertices * size, hood.faces)
    pieces = [*bars, translate(joint, elbow), translate(joint, tip), translate(rotate(small, 2, tilt), tip)]
    return [_base(u, u.uniform(0.07, 0.13)), *pieces]


def arc(hood: Piece, u: ParamReader) -> list[Piece]:
    """A bow from a heavy foot, with the shade hanging from its end."""
    tall, reach, rod = u.uniform(0.8, 1.7), u.uniform(0.3, 1.0), u.uniform(0.009, 0.02)
    turn = np.linspace(0, np.pi * u.uniform(0.55, 0.85), 16)
    straight = u.uniform(0.2, 0.6) * tall
    path = np.stack([reach * (1 - np.cos(turn)) / 1.5, straight + (tall - straight) * np.sin(turn), 0 * turn], axis=1)
    path = np.concatenate([[[0, 0, 0]], path])
    drop = path[-1] - [0, u.uniform(0.02, 0.1), 0]
    bow = sweep(path[None], rod, (0, 0, 1))
    return [_base(u, u.uniform(0.1, 0.22)), bow, beams([path[-1]], [drop], rod), translate(hood, drop)]


def hanging_lamp(hood: Piece, u: ParamReader) -> list[Piece]:
    """One to five shades on cords from a rose or a bar on the ceiling."""
    cord, count = u.uniform(0.1, 0.9), u.choice({"1": 5, "3": 1.5, "5": 1})
    if count == "1":
        rose = lathe(np.array([[0, -1], [0.4, -0.8], [1, 0], [0, 0]]) * [u.uniform(0.04, 0.09), 0.04])
        return [rose, beams([[0, -0.02, 0]], [[0, -cord, 0]], 0.006), translate(hood, (0, -cord, 0))]
    size, number = u.uniform(0.4, 0.6), int(count)
    small = translate(Piece(hood.vertices * size, hood.faces), (u.uniform(0.2, 0.3), -0.12, 0))
    x = float((small.vertices[:, 0].min() + small.vertices[:, 0].max()) / 2)
    arm = beams([[0, 0, 0], [x, 0, 0]], [[x, 0, 0], [x, -0.12, 0]], 0.009)
    return [rotated_copies(arm, number), rotated_copies(small, number), _pole(-0.05, cord, 0.011)]


STANDS: dict[str, Callable[[Piece, ParamReader], list[Piece]]] = {
    "vase": vase,
    "pole": pole,
    "tripod": tripod,
    "desk": desk,
    "arc": arc,
    "hanging": hanging_lamp,
}
