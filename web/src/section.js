// A cross-section: the points of a thin slice along a line, seen along the surface.
import { Vector3 } from "three";
import { lengthText } from "./colours.js";
import { openCanvas } from "./dom.js";

const ENOUGH = 600; // points that a slice has by default, where there are so many

// The axes of the slice from one picked point to another: along it, across the surface, and through the slice.
export function sectionFrame(cloud, from, to, up) {
  const along = to.clone().sub(from), length = along.length();
  along.normalize();
  const u = new Vector3().crossVectors(along, Math.abs(along.dot(up)) < 0.9 ? up : new Vector3(1, 0, 0)).normalize();
  const v = new Vector3().crossVectors(u, along);
  const xyz = cloud.states[0], sums = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < cloud.points; i++) {
    const x = xyz[3 * i] - from.x, y = xyz[3 * i + 1] - from.y, z = xyz[3 * i + 2] - from.z;
    const s = x * along.x + y * along.y + z * along.z;
    if (s < 0 || s > length) continue;
    const a = x * u.x + y * u.y + z * u.z, b = x * v.x + y * v.y + z * v.z;
    if (a * a + b * b > length * length * 0.04) continue;
    [1, a, b, a * a, a * b, b * b].forEach((value, k) => (sums[k] += value));
  }
  const [n, a, b, aa, ab, bb] = sums.map((value, k) => (k && sums[0] ? value / sums[0] : value));
  // the direction of least variance across the line: that of the surface's normal
  const angle = n > 8 ? 0.5 * Math.atan2(2 * (ab - a * b), aa - a * a - (bb - b * b)) + Math.PI / 2 : Math.PI / 2;
  const across = u.clone().multiplyScalar(Math.cos(angle)).addScaledVector(v, Math.sin(angle));
  if (across.dot(up) < 0) across.negate();
  return { from, to, length, along, across, through: new Vector3().crossVectors(along, across) };
}

// The thickness at which the slice has enough points, by the number within a wide one.
export function usualThickness(cloud, frame) {
  const distances = [];
  each(cloud, cloud.states[0], frame, frame.length / 4, (i, s, h, w) => distances.push(Math.abs(w)));
  const enough = distances.sort((a, b) => a - b)[Math.min(ENOUGH, distances.length - 1)] ?? frame.length;
  return 2 * Math.min(enough, frame.length / 20);
}

function each(cloud, xyz, { from, along, across, through, length }, half, visit) {
  for (let i = 0; i < cloud.points; i++) {
    const x = xyz[3 * i] - from.x, y = xyz[3 * i + 1] - from.y, z = xyz[3 * i + 2] - from.z;
    const w = x * through.x + y * through.y + z * through.z;
    if (w > half || w < -half) continue;
    const s = x * along.x + y * along.y + z * along.z;
    if (s >= 0 && s <= length) visit(i, s, x * across.x + y * across.y + z * across.z, w);
  }
}

// The slice of one state: {rows, s, h}, position along the line and height over it.
export function slice(cloud, state, frame, thickness) {
  const rows = [], s = [], h = [];
  each(cloud, cloud.states[state], frame, thickness / 2, (i, along, height) => {
    if (Math.abs(height) > frame.length) return;
    rows.push(i);
    s.push(along);
    h.push(height);
  });
  return { rows, s, h };
}

// Scatter about the surface: the median, over pieces of equal length with 8 points or more, of the deviation from the line
// through the piece; a piece has about 20 points where they are even.
export function scatter({ s, h }, length) {
  const count = Math.max(4, Math.min(60, Math.round(s.length / 20))), found = [];
  const pieces = Array.from({ length: count }, () => []);
  s.forEach((x, i) => pieces[Math.min(count - 1, Math.floor((x / length) * count))].push(i));
  for (const piece of pieces) {
    const n = piece.length;
    if (n < 8) continue;
    const ms = piece.reduce((sum, i) => sum + s[i], 0) / n, mh = piece.reduce((sum, i) => sum + h[i], 0) / n;
    let ss = 0, sh = 0, hh = 0;
    for (const i of piece) {
      ss += (s[i] - ms) ** 2;
      sh += (s[i] - ms) * (h[i] - mh);
      hh += (h[i] - mh) ** 2;
    }
    found.push(Math.sqrt(Math.max(0, hh - (ss > 0 ? (sh * sh) / ss : 0)) / (n - 2)));
  }
  return found.length ? found.sort((a, b) => a - b)[Math.floor(found.length / 2)] : null;
}

// The lowest and highest height that both slices are drawn over.
export function heightRange(slices) {
  const all = slices.flatMap(({ h }) => h).sort((a, b) => a - b);
  if (!all.length) return [-1, 1];
  const low = all[Math.floor(0.005 * all.length)], high = all[Math.floor(0.995 * (all.length - 1))];
  const margin = Math.max(0.12 * (high - low), 1e-9);
  return [low - margin, high + margin];
}

// Draws a slice; heights fill the canvas or are `tall` times as large as lengths.
export function drawSlice(canvas, part, frame, [low, high], tall, colours, unit) {
  const { pen, width, height } = openCanvas(canvas);
  const style = getComputedStyle(canvas), wide = (width - 20) / frame.length;
  const scale = tall ? wide * tall : (height - 24) / (high - low), middle = (low + high) / 2;
  part.rows.forEach((row, k) => {
    pen.fillStyle = `rgb(${colours[3 * row]} ${colours[3 * row + 1]} ${colours[3 * row + 2]})`;
    pen.fillRect(9 + part.s[k] * wide, height / 2 - (part.h[k] - middle) * scale - 1, 2.2, 2.2);
  });
  pen.strokeStyle = pen.fillStyle = style.color;
  pen.font = "12px system-ui, sans-serif";
  const across = niceLength(90 / wide), up = niceLength(36 / scale);
  pen.beginPath();
  pen.moveTo(width - 10 - across * wide, height - 6);
  pen.lineTo(width - 10, height - 6);
  pen.lineTo(width - 10, height - 6 - up * scale);
  pen.stroke();
  pen.textAlign = "right";
  pen.fillStyle = style.backgroundColor;
  for (const [text, y] of [[across, height - 10], [up, height - 8 - up * scale]]) {
    const wide = pen.measureText(lengthText(text, unit)).width;
    pen.fillRect(width - 16 - wide, y - 11, wide + 4, 14);
  }
  pen.fillStyle = style.color;
  pen.fillText(lengthText(across, unit), width - 14, height - 10);
  pen.fillText(lengthText(up, unit), width - 14, height - 8 - up * scale);
}

function niceLength(length) {
  const ten = 10 ** Math.floor(Math.log10(length));
  return ten * (length / ten >= 5 ? 5 : length / ten >= 2 ? 2 : 1);
}
