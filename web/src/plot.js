// A small plot of a curve with its axes.
import { ink, openCanvas } from "./dom.js";

export function drawPlot(canvas, points, across, upwards, left, right, fill = false) {
  const { pen, width, height } = openCanvas(canvas), margin = { left: 46, right: 12, top: 22, bottom: 34 };
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const xTicks = niceTicks(Math.min(...xs), Math.max(...xs)), yTicks = niceTicks(fill ? 0 : Math.min(...ys), Math.max(...ys));
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), yTicks[0], yTicks.at(-1)];
  const px = (x) => margin.left + ((x - x0) / (x1 - x0 || 1)) * (width - margin.left - margin.right);
  const py = (y) => height - margin.bottom - ((y - y0) / (y1 - y0 || 1)) * (height - margin.top - margin.bottom);
  pen.font = "12px system-ui, sans-serif";
  pen.strokeStyle = ink("--line");
  pen.fillStyle = ink("--soft");
  pen.lineWidth = 1;
  pen.textAlign = "right";
  for (const y of yTicks) {
    pen.beginPath();
    pen.moveTo(margin.left, py(y));
    pen.lineTo(width - margin.right, py(y));
    pen.stroke();
    pen.fillText(label(y), margin.left - 5, py(y) + 4);
  }
  pen.textAlign = "center";
  for (const x of xTicks) if (x >= x0 - 1e-9 && x <= x1 + 1e-9) pen.fillText(label(x), px(x), height - margin.bottom + 15);
  pen.textAlign = "left";
  pen.fillText(upwards, 6, 13);
  pen.fillText(`← ${left}`, margin.left, height - 4);
  pen.textAlign = "center";
  pen.fillText(across, (margin.left + width - margin.right) / 2, height - 4);
  pen.textAlign = "right";
  pen.fillText(`${right} →`, width - margin.right, height - 4);
  pen.beginPath();
  for (const [x, y] of points) pen.lineTo(px(x), py(y));
  pen.strokeStyle = ink("--main");
  pen.lineWidth = 2;
  pen.stroke();
  if (!fill) return;
  pen.lineTo(px(x1), py(y0));
  pen.lineTo(px(x0), py(y0));
  pen.globalAlpha = 0.18;
  pen.fillStyle = ink("--main");
  pen.fill();
  pen.globalAlpha = 1;
}

const label = (x) => String(Number(x.toPrecision(6))).replace("-", "−");

// Round numbers from below the least to above the greatest, four or so.
function niceTicks(low, high) {
  const rough = (high - low || 1) / 4, ten = 10 ** Math.floor(Math.log10(rough)), step = ten * [1, 2, 5, 10].find((k) => k * ten >= rough);
  const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}
