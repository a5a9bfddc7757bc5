// Small pictures of clouds without WebGL: points splatted into an image, the nearest on top, shaded by depth.
const RAMP = { light: [[120, 160, 168], [11, 100, 112], [7, 46, 54]], dark: [[50, 92, 98], [110, 196, 197], [214, 244, 240]] };
const KEPT = { light: [[222, 170, 130], [190, 96, 40], [120, 50, 10]], dark: [[120, 70, 40], [240, 160, 100], [255, 214, 180]] };

// Draws points [3 n], y up, turned by `yaw` radians; `kept` is a Set of points that have a colour of their own.
export function drawCloud(canvas, points, yaw, kept = null) {
  const ratio = Math.min(devicePixelRatio, 2), width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d"), image = pen.createImageData(width, height), depth = new Float32Array(width * height).fill(-1e9);
  const theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const n = points.length / 3, radius = Math.max(1, Math.round(Math.min(width, height) / 115)), scale = 0.49 * Math.min(width, height);
  const pitch = 0.35, [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)], { middle, reach } = box(points);
  for (let i = 0; i < n; i++) {
    const [px, py, pz] = [0, 1, 2].map((c) => (points[3 * i + c] - middle[c]) / reach);
    const x = cy * px + sy * pz, back = cy * pz - sy * px, y = cp * py - sp * back, z = sp * py + cp * back;
    const left = Math.round(width / 2 + scale * x), top = Math.round(height / 2 - scale * y);
    const colour = shade((kept?.has(i) ? KEPT : RAMP)[theme], (z + 1) / 2);
    for (let v = -radius; v <= radius; v++) {
      for (let u = -radius; u <= radius; u++) {
        const at = (top + v) * width + left + u;
        if (u * u + v * v > radius * radius + 0.9 || left + u < 0 || left + u >= width || at < 0 || at >= depth.length || depth[at] >= z) continue;
        depth[at] = z;
        image.data.set(colour, 4 * at);
      }
    }
  }
  pen.putImageData(image, 0, 0);
}

// The middle of a cloud's box, and half of its diagonal.
function box(points) {
  const low = [1e9, 1e9, 1e9], high = [-1e9, -1e9, -1e9];
  points.forEach((x, k) => {
    low[k % 3] = Math.min(low[k % 3], x);
    high[k % 3] = Math.max(high[k % 3], x);
  });
  const sides = high.map((x, c) => x - low[c]);
  return { middle: high.map((x, c) => (x + low[c]) / 2), reach: Math.hypot(...sides) / 2 || 1 };
}

function shade(stops, x) {
  const at = Math.max(0, Math.min(0.9999, x)) * (stops.length - 1), i = Math.floor(at);
  return [...stops[i].map((a, c) => a + (at - i) * (stops[i + 1][c] - a)), 255];
}

// A cloud as a PLY file.
export function plyFile(points) {
  const head = `ply\nformat binary_little_endian 1.0\nelement vertex ${points.length / 3}\nproperty float x\nproperty float y\nproperty float z\nend_header\n`;
  return new Blob([head, points], { type: "application/octet-stream" });
}
