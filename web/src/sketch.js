// The empty Sudoku: cells that are drawn on with a pen, or typed in.
import { ink, onNewLook, openCanvas, tell } from "./dom.js";

const PIXELS = 28; // of a cell in the image that is sent
const GLYPHS = { // strokes of handwritten digits in a cell from 0 to 1
  1: [[[0.42, 0.32], [0.53, 0.22], [0.5, 0.8]]],
  2: [[[0.33, 0.36], [0.37, 0.25], [0.5, 0.21], [0.62, 0.27], [0.63, 0.4], [0.5, 0.58], [0.33, 0.77], [0.45, 0.75], [0.68, 0.77]]],
  3: [[[0.34, 0.27], [0.48, 0.21], [0.61, 0.28], [0.59, 0.41], [0.45, 0.48], [0.61, 0.53], [0.65, 0.66], [0.54, 0.78], [0.38, 0.78], [0.32, 0.72]]],
  4: [[[0.4, 0.22], [0.33, 0.53], [0.42, 0.54], [0.68, 0.51]], [[0.6, 0.26], [0.56, 0.8]]],
  5: [[[0.65, 0.23], [0.4, 0.24], [0.37, 0.47], [0.52, 0.43], [0.64, 0.53], [0.62, 0.7], [0.48, 0.79], [0.34, 0.75]]],
  6: [[[0.58, 0.21], [0.43, 0.37], [0.36, 0.58], [0.4, 0.74], [0.52, 0.79], [0.63, 0.7], [0.61, 0.57], [0.49, 0.53], [0.37, 0.64]]],
  7: [[[0.33, 0.26], [0.5, 0.25], [0.67, 0.24], [0.56, 0.5], [0.46, 0.8]]],
  8: [[[0.6, 0.3], [0.49, 0.22], [0.38, 0.3], [0.45, 0.44], [0.6, 0.57], [0.61, 0.73], [0.48, 0.8], [0.37, 0.71], [0.42, 0.57], [0.58, 0.42], [0.6, 0.3]]],
  9: [[[0.61, 0.34], [0.5, 0.23], [0.38, 0.31], [0.38, 0.45], [0.51, 0.5], [0.61, 0.37], [0.6, 0.55], [0.55, 0.8]]],
};

export class Sketch {
  constructor(canvas, onChange) {
    Object.assign(this, { canvas, onChange, cursor: 0 });
    this.resize(4);
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.stroke && this.extend(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => this.end());
    canvas.addEventListener("keydown", (event) => this.key(event));
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.paint());
    onNewLook(() => this.paint());
  }

  resize(side) {
    this.side = side;
    this.cursor = 0;
    this.cells = Array.from({ length: side * side }, () => ({ strokes: [], digit: 0 }));
    this.paint();
  }

  // The digits row by row: a point where a cell is empty, ? where something is drawn.
  get text() {
    return this.cells.map(({ digit, strokes }) => (strokes.length ? digit || "?" : ".")).join("");
  }

  set text(word) {
    this.cells.forEach((cell, i) => word[i] !== "?" && this.write(i, Number(word[i]) || 0));
    this.paint();
  }

  write(i, digit) {
    const known = digit >= 1 && digit <= this.side;
    const sway = (k) => 0.06 * (Math.sin(12.9 * i + 78.2 * k) % 1), tilt = 0.12 * Math.sin(7.3 * i);
    const place = ([x, y]) => [x + sway(1) + tilt * (0.5 - y), y + sway(2)];
    this.cells[i] = { strokes: known ? GLYPHS[digit].map((line) => line.map(place)) : [], digit: known ? digit : 0 };
  }

  at({ offsetX, offsetY }) {
    const step = this.canvas.clientWidth / this.side;
    const [column, row] = [offsetX, offsetY].map((x) => Math.max(0, Math.min(this.side - 1, Math.floor(x / step))));
    return { cell: row * this.side + column, place: [offsetX / step - column, offsetY / step - row] };
  }

  begin(event) {
    const { cell, place } = this.at(event);
    this.canvas.setPointerCapture(event.pointerId);
    this.cursor = cell;
    if (this.cells[cell].digit) this.cells[cell] = { strokes: [], digit: 0 };
    this.stroke = [place];
  }

  extend(event) {
    const step = this.canvas.clientWidth / this.side, row = Math.floor(this.cursor / this.side);
    const place = [event.offsetX / step - (this.cursor % this.side), event.offsetY / step - row];
    this.stroke.push(place.map((x) => Math.max(0.04, Math.min(0.96, x))));
    this.paint();
  }

  end() {
    if (this.stroke?.length > 1) this.cells[this.cursor].strokes.push(this.stroke);
    this.stroke = null;
    this.paint();
    this.onChange();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { side } = this, move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -side, ArrowDown: side }[event.key];
    if (move) this.cursor = (this.cursor + move + side * side) % (side * side);
    else if (/^[0-9]$/.test(event.key) && Number(event.key) <= side) this.write(this.cursor, Number(event.key));
    else if (["Delete", "Backspace", " "].includes(event.key)) this.write(this.cursor, 0);
    else return;
    event.preventDefault();
    this.paint();
    this.onChange();
    tell(`Row ${Math.floor(this.cursor / side) + 1}, column ${(this.cursor % side) + 1}: ${{ ".": "empty", "?": "drawn" }[this.text[this.cursor]] ?? this.text[this.cursor]}`);
  }

  paint() {
    if (!this.canvas.clientWidth) return;
    const { pen, width } = openCanvas(this.canvas), step = width / this.side;
    drawLines(pen, width, this.side);
    pen.strokeStyle = ink("--ink");
    pen.lineWidth = Math.max(1.5, step / 12);
    this.cells.forEach((cell, i) => drawStrokes(pen, [...cell.strokes, ...(i === this.cursor && this.stroke ? [this.stroke] : [])], i, this.side, step));
    if (document.activeElement !== this.canvas) return;
    pen.strokeStyle = ink("--focus");
    pen.lineWidth = 3;
    pen.strokeRect((this.cursor % this.side) * step + 2, Math.floor(this.cursor / this.side) * step + 2, step - 4, step - 4);
  }

  // What the server is sent: the image of all cells as a PNG, 1 for each cell to be solved, and the digits that were typed.
  async export() {
    const canvas = Object.assign(document.createElement("canvas"), { width: PIXELS * this.side, height: PIXELS * this.side });
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.strokeStyle = "#fff";
    pen.lineWidth = 2.6;
    this.cells.forEach(({ strokes }, i) => drawStrokes(pen, centred(strokes), i, this.side, PIXELS));
    const name = (i) => `${Math.floor(i / this.side) + 1},${(i % this.side) + 1}`;
    return {
      image: await new Promise((resolve) => canvas.toBlob(resolve, "image/png")),
      mask: this.cells.map(({ strokes }) => (strokes.length ? 0 : 1)).join(""),
      digits: this.cells.flatMap(({ digit }, i) => (digit ? [`${name(i)}=${digit}`] : [])).join(";"),
    };
  }
}

// Strokes in the middle of the cell, as large as the digits that the models have learned from: 20 of 28 pixels.
function centred(strokes) {
  const places = strokes.flat();
  if (!places.length) return strokes;
  const [x, y] = [0, 1].map((c) => [Math.min(...places.map((p) => p[c])), Math.max(...places.map((p) => p[c]))]);
  const scale = Math.min(4, (18 / PIXELS) / Math.max(x[1] - x[0], y[1] - y[0], 1e-6));
  return strokes.map((line) => line.map((p) => [0.5 + scale * (p[0] - (x[0] + x[1]) / 2), 0.5 + scale * (p[1] - (y[0] + y[1]) / 2)]));
}

function drawStrokes(pen, strokes, cell, side, step) {
  pen.lineCap = pen.lineJoin = "round";
  const left = (cell % side) * step, top = Math.floor(cell / side) * step;
  for (const line of strokes) {
    pen.beginPath();
    pen.moveTo(left + line[0][0] * step, top + line[0][1] * step);
    for (let k = 1; k < line.length; k++) {
      const [x, y] = line[k], [u, v] = k + 1 < line.length ? [(x + line[k + 1][0]) / 2, (y + line[k + 1][1]) / 2] : [x, y];
      pen.quadraticCurveTo(left + x * step, top + y * step, left + u * step, top + v * step);
    }
    pen.stroke();
  }
}

// The lines of a Sudoku, those of its boxes thicker.
export function drawLines(pen, width, side) {
  const step = width / side, box = Math.sqrt(side);
  pen.strokeStyle = ink("--soft");
  for (let k = 0; k <= side; k++) {
    pen.lineWidth = k % box ? 0.8 : 2.2;
    const at = Math.min(width - 1, Math.max(1, k * step));
    pen.beginPath();
    pen.moveTo(at, 0);
    pen.lineTo(at, width);
    pen.moveTo(0, at);
    pen.lineTo(width, at);
    pen.stroke();
  }
}
