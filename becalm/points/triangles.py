"""Exact distances between points and triangles, without computing those of all pairs.

Both sides have bounding boxes, and one side is a pyramid of boxes in Morton order. With an upper bound u for a query's
distance (the distance to any item will do), an item whose box is farther than u cannot be the nearest: descending the
pyramid with that test drops no nearest item, so the result is that of all pairs.
"""

from typing import NamedTuple

import numpy as np

from becalm.points.neighbours import knn, morton_codes

BRANCHES = 8


class Nearest(NamedTuple):
    """The nearest points of a surface to given points."""

    points: np.ndarray
    """[n, 3] on the surface."""
    triangles: np.ndarray
    """[n] int64: the triangle each of them lies on; of several that meet there, the one that faces the point most."""


def distance_squared(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Squared distances [m] from points [m, 3] to triangles [m, 3, 3], pair by pair; degenerate ones are segments."""
    from_edges, inside, _, area, height = _parts(points, triangles)
    nearest = np.einsum("mec,mec->me", from_edges, from_edges).min(axis=1)
    return np.where(inside, height**2 / np.maximum(area, 1e-300), nearest)


def nearest_triangle_points(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The points [m, 3] of triangles [m, 3, 3] nearest to points [m, 3], pair by pair."""
    from_edges, inside, normal, area, height = _parts(points, triangles)
    nearest = np.einsum("mec,mec->me", from_edges, from_edges).argmin(axis=1)
    from_edge = from_edges[np.arange(len(points)), nearest]
    from_face = (height / np.maximum(area, 1e-300))[:, None] * normal
    return points - np.where(inside[:, None], from_face, from_edge)


def _parts(points: np.ndarray, triangles: np.ndarray):
    """For each pair: the offsets [m, 3, 3] from each edge; whether the point is over the face; n, n·n and n·(point − corner)."""
    edges = np.roll(triangles, -1, axis=1) - triangles
    away = points[:, None] - triangles
    along = np.einsum("mec,mec->me", away, edges) / np.maximum(np.einsum("mec,mec->me", edges, edges), 1e-300)
    normal = np.cross(edges[:, 0], edges[:, 1])
    area = np.einsum("mc,mc->m", normal, normal)
    inside = np.all(np.einsum("mec,mec->me", np.cross(edges, away), normal[:, None]) >= 0, axis=1) & (area > 0)
    height = np.einsum("mc,mc->m", away[:, 0], normal)
    return away - along.clip(0, 1)[..., None] * edges, inside, normal, area, height


def squared_distances_to_triangles(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Squared distance [n] from each point [n, 3] to the nearest of the triangles [f, 3, 3]."""
    guess = knn(triangles.mean(axis=1), 1, points)[1][:, 0]

    def exact(query: np.ndarray, item: np.ndarray) -> np.ndarray:
        return distance_squared(points[query], triangles[item])

    pyramid = _pyramid(triangles.min(axis=1), triangles.max(axis=1))
    return _nearest(points, points, exact(np.arange(len(points)), guess), pyramid, exact)


def squared_distances_to_points(triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Squared distance [f] from each triangle [f, 3, 3] to the nearest of the points [n, 3]."""
    guess = knn(points, 1, triangles.mean(axis=1))[1][:, 0]

    def exact(query: np.ndarray, item: np.ndarray) -> np.ndarray:
        return distance_squared(points[item], triangles[query])

    upper = exact(np.arange(len(triangles)), guess)
    return _nearest(triangles.min(axis=1), triangles.max(axis=1), upper, _pyramid(points, points), exact)


def nearest_surface_points(points: np.ndarray, triangles: np.ndarray, chunk: int = 8192) -> Nearest:
    """The point of the triangles [f, 3, 3] nearest to each of the points [n, 3]: the exact projection on a surface."""
    upper = (
        squared_distances_to_triangles(points, triangles) * (1 + 1e-9) + 1e-24
    )  # triangles that share an edge differ by rounding
    pyramid = _pyramid(triangles.min(axis=1), triangles.max(axis=1))
    box, owner = np.stack([points, -points], axis=1), np.zeros(len(points), dtype=np.int64)
    for start in range(0, len(points), chunk):
        query, item = _candidates(box[start : start + chunk], upper[start : start + chunk], pyramid)
        query += start
        facing = np.empty(len(query))
        for part in (slice(at, at + 2**18) for at in range(0, len(query), 2**18)):
            q, i = query[part], item[part]
            _, _, _, area, height = _parts(points[q], triangles[i])
            here = distance_squared(points[q], triangles[i]) <= upper[q]
            facing[part] = np.where(here, height**2 / np.maximum(area, 1e-300), -1.0)
        order = np.lexsort((facing, query))
        owner[query[order]] = item[order]  # the last one written is the one that faces most
    return Nearest(nearest_triangle_points(points, triangles[owner]), owner)


def _pyramid(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Items in Morton order (indices), and their boxes [.., 2, 3] (low, -high) level by level, the items' own last.

    Each box of one level holds BRANCHES successive boxes of the next; missing ones are empty (infinitely far).
    """
    order = np.argsort(morton_codes((low + high) / 2), kind="stable")
    levels = [np.stack([low[order], -high[order]], axis=1)]
    while len(levels[0]) > BRANCHES:
        padding = np.full((-len(levels[0]) % BRANCHES, 2, 3), np.inf)
        levels[0] = np.concatenate([levels[0], padding])
        levels.insert(0, levels[0].reshape(-1, BRANCHES, 2, 3).min(axis=1))
    return order, levels


def _nearest(low: np.ndarray, high: np.ndarray, upper: np.ndarray, pyramid, exact, chunk: int = 8192) -> np.ndarray:
    """The least `exact(query, item)` over all items, for queries in boxes low..high with upper bounds `upper`."""
    best = upper.copy()
    box = np.stack([high, -low], axis=1)
    for start in range(0, len(best), chunk):
        query, item = _candidates(box[start : start + chunk], upper[start : start + chunk], pyramid)
        for part in range(0, len(query), 2**18):
            q, i = query[part : part + 2**18] + start, item[part : part + 2**18]
            np.minimum.at(best, q, exact(q, i))
    return best


def _candidates(box: np.ndarray, upper: np.ndarray, pyramid) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (query, item) whose boxes are no farther apart than the query's upper bound."""
    order, levels = pyramid
    query = np.repeat(np.arange(len(box)), len(levels[0]))
    node = np.tile(np.arange(len(levels[0])), len(box))
    for depth, boxes in enumerate(levels):
        if depth:
            query, node = np.repeat(query, BRANCHES), (node[:, None] * BRANCHES + np.arange(BRANCHES)).ravel()
        gap = (boxes[node] - box[query]).max(axis=1).clip(min=0)
        near = np.einsum("mc,mc->m", gap, gap) <= upper[query]
        query, node = query[near], node[near]
    return query, order[node]
