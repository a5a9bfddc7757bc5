// Colours of points by what is known of them.
const RAMP = [[104, 66, 150], [88, 84, 158], [68, 96, 152], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
export const HEAT = [[44, 74, 110], [74, 120, 150], [120, 165, 175], [190, 200, 180], [238, 205, 130], [240, 160, 80], [220, 100, 50], [170, 40, 40]];
const CLASSES = { 0: "never classified", 1: "unclassified", 2: "ground", 3: "low vegetation", 4: "vegetation", 5: "high vegetation", 6: "building", 7: "low noise", 8: "key point", 9: "water", 10: "rail", 11: "road", 12: "overlap", 13: "wire guard", 14: "wire", 15: "tower", 16: "wire connector", 17: "bridge", 18: "high noise" };
const PALETTE = [[130, 130, 130], [170, 170, 170], [168, 110, 58], [150, 200, 100], [90, 170, 80], [30, 120, 60], [215, 90, 60], [230, 60, 170], [240, 200, 40], [60, 130, 220], [100, 100, 160], [70, 70, 80], [200, 160, 210], [240, 150, 60], [250, 210, 90], [150, 60, 160], [200, 120, 60], [120, 190, 210], [255, 40, 90]];
const MODES = {
  height: "height", colour: "own colour", intensity: "intensity", class: "class", layer: "layer or scan", displacement: "displacement", noise: "noise",
  noise_shared: "noise shared by neighbours", confidence: "confidence", surface: "being of a surface", outlier: "outliers",
  uncertainty: "uncertainty",
};
const LENGTHS = new Set(["height", "displacement", "noise", "noise_shared", "uncertainty"]);
const HEATED = new Set(["displacement", "noise", "noise_shared", "uncertainty", "outlier"]);

// [value, label] of what a cloud can be coloured by.
export function colourModes(cloud) {
  return Object.entries(MODES).filter(([name]) => name === "height" || cloud.columns[name]);
}

// {colours: Uint8Array [3 n], ramp, low, high, classes, length}: the legend belongs to it.
export function pointColours(cloud, mode, up) {
  const colours = new Uint8Array(3 * cloud.points);
  if (mode === "colour") return { colours: cloud.columns.colour.values };
  if (mode === "class") return { colours, classes: classColours(colours, cloud.columns.class.values, CLASSES) };
  if (mode === "layer") return { colours, classes: classColours(colours, cloud.columns.layer.values, {}) };
  const values = mode === "height" ? heights(cloud, up) : cloud.columns[mode].values;
  const [low, high] = mode === "confidence" || mode === "surface" || mode === "outlier" ? [0, 1] : middleRange(values, HEATED.has(mode));
  const ramp = rampTable(HEATED.has(mode) ? HEAT : RAMP);
  for (let i = 0; i < values.length; i++) {
    const x = Number.isNaN(values[i]) ? -1 : Math.min(1, Math.max(0, (values[i] - low) / (high - low || 1)));
    const k = 3 * Math.round(255 * x);
    for (let c = 0; c < 3; c++) colours[3 * i + c] = x < 0 ? 128 : ramp[k + c];
  }
  return { colours, ramp, low, high, length: LENGTHS.has(mode) };
}

function heights(cloud, up) {
  const [axis, sign] = up === "z" ? [2, 1] : [1, up === "y" ? 1 : -1];
  const offset = up === "z" ? cloud.facts.origin[2] : sign * cloud.facts.origin[1];
  return Float64Array.from({ length: cloud.points }, (_, i) => sign * cloud.states[0][3 * i + axis] + offset);
}

function classColours(colours, values, names) {
  const seen = new Set();
  for (let i = 0; i < values.length; i++) {
    const number = values[i];
    if (seen.size < 64) seen.add(number);
    const colour = PALETTE[number] ?? PALETTE[(number * 7 + 3) % PALETTE.length];
    colours.set(colour, 3 * i);
  }
  return [...seen].sort((a, b) => a - b).slice(0, 12)
    .map((number) => ({ label: names[number] ?? `${names === CLASSES ? "class" : "number"} ${number}`, colour: PALETTE[number] ?? PALETTE[(number * 7 + 3) % PALETTE.length] }));
}

// The 1st and 99th percentile, or 0 and the 98th where values grow from nothing.
function middleRange(values, fromZero) {
  const stride = Math.max(1, Math.floor(values.length / 20000));
  const sample = [];
  for (let i = 0; i < values.length; i += stride) if (Number.isFinite(values[i])) sample.push(values[i]);
  if (!sample.length) return [0, 1];
  sample.sort((a, b) => a - b);
  const at = (q) => sample[Math.min(sample.length - 1, Math.floor(q * sample.length))];
  return fromZero ? [0, at(0.98)] : [at(0.01), at(0.99)];
}

export function rampTable(stops) {
  const table = new Uint8Array(3 * 256);
  for (let k = 0; k < 256; k++) {
    const x = (k / 255) * (stops.length - 1), i = Math.min(stops.length - 2, Math.floor(x));
    for (let c = 0; c < 3; c++) table[3 * k + c] = Math.round(stops[i][c] + (x - i) * (stops[i + 1][c] - stops[i][c]));
  }
  return table;
}

// Draws the colours of a ramp from left to right, for a legend.
export function drawRamp(canvas, ramp) {
  const pen = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    const k = 3 * Math.round((255 * x) / (canvas.width - 1));
    pen.fillStyle = `rgb(${ramp.slice(k, k + 3).join()})`;
    pen.fillRect(x, 0, 1, canvas.height);
  }
}

// A value of the column that points are coloured by, `tint` as `pointColours` gives it.
export function valueText(value, tint, unit) {
  return tint.length ? lengthText(value, unit) : Number(value.toPrecision(3)).toLocaleString("en");
}

// A length in its unit with two digits that mean something.
export function lengthText(value, unit) {
  const [number, symbol] = unit === "m" && Math.abs(value) < 0.1 ? [value * 1000, "mm"] : [value, unit];
  const digits = number === 0 ? 0 : Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(Math.abs(number))) - 1));
  return `${number.toLocaleString("en", { maximumFractionDigits: digits })} ${symbol}`.trim();
}
