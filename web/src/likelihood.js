// The tab of likelihood: images sorted by bits, the cost of each pixel as heat, the schedule and the loss over the noise level.
import { drawPlot } from "./plot.js";
import { drawRamp, HEAT, rampTable } from "./colours.js";
import { $, fillSelect, make, onNewLook, showError, tell } from "./dom.js";
import { ask, askJson, follow } from "./jobs.js";

const SETS = [".npy", ".npz", ".idx", ".gz"];
const heat = rampTable(HEAT);
let models, shown = null, busy = false;

// Starts the tab; gives what takes files that are dropped on it.
export function startLikelihood(known) {
  models = known;
  fillSelect($("l-model"), Object.keys(models));
  $("l-model").onchange = showSize;
  $("l-examples").onclick = () => measure({ examples: "yes", name: "examples.npy" }, "");
  $("l-choose").onclick = () => $("l-files").click();
  $("l-files").accept = [...SETS, "image/*"].join();
  $("l-files").onchange = () => (takeFiles([...$("l-files").files]), ($("l-files").value = ""));
  $("l-order").onchange = showWall;
  onNewLook(paint);
  showSize();
  return takeFiles;
}

function showSize() {
  const { shape: [height, width, colours], levels } = models[$("l-model").value];
  $("l-kinds").textContent = `Pictures of any size are shrunk to ${width} × ${height} ${colours === 1 ? "grey" : "colour"} pixels with ${levels} levels. .npy, .npz and IDX files must have that size already.`;
}

async function takeFiles(files) {
  const set = files.find((file) => SETS.some((suffix) => file.name.toLowerCase().endsWith(suffix)));
  if (set) return measure({ name: set.name }, set);
  const pictures = files.filter((file) => file.type.startsWith("image/"));
  if (!pictures.length) return showFault(`${files[0]?.name ?? "The file"}: is neither a picture nor a set of images (${SETS.join(" ")}).`);
  try {
    const form = models[$("l-model").value];
    const body = npyFile(await Promise.all(pictures.map((file) => levelsOf(file, form))), form);
    await measure({ name: "pictures.npy" }, body, pictures.map(({ name }) => name));
  } catch (error) {
    showFault(error.message);
  }
}

const showFault = (text) => showError($("l-job"), text);

// A picture as levels of the model's images: its middle square, shrunk.
async function levelsOf(file, { shape: [height, width, colours], levels }) {
  const picture = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name}: cannot be read as a picture.`);
  });
  const canvas = make("canvas", { width, height }), pen = canvas.getContext("2d");
  const side = Math.min(picture.width / width, picture.height / height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, (picture.width - side * width) / 2, (picture.height - side * height) / 2, side * width, side * height, 0, 0, width, height);
  const rgba = pen.getImageData(0, 0, width, height).data, out = new Uint8Array(width * height * colours);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = rgba.subarray(4 * i, 4 * i + 3), grey = 0.299 * r + 0.587 * g + 0.114 * b;
    for (let c = 0; c < colours; c++) out[i * colours + c] = Math.round(((colours === 1 ? grey : rgba[4 * i + c]) / 255) * (levels - 1));
  }
  return out;
}

// Images as a file of NumPy's format.
function npyFile(images, { shape }) {
  const head = `{'descr': '|u1', 'fortran_order': False, 'shape': (${images.length}, ${shape.join(", ")}), }`.padEnd(117) + "\n";
  return new Blob([new Uint8Array([0x93, 78, 85, 77, 80, 89, 1, 0, 118, 0]), head, ...images]);
}

async function measure(query, body, names = null) {
  if (busy) return;
  setBusy(true);
  const common = { kind: "images", model: $("l-model").value, draws: $("l-draws").value };
  const job = await follow($("l-job"), { ...common, ...query }, body, "Measuring");
  if (job) await show(job, names).catch((error) => showFault(error.message));
  setBusy(false);
}

function setBusy(now) {
  busy = now;
  for (const id of ["l-examples", "l-choose"]) $(id).disabled = now;
}

async function show(job, names) {
  const facts = await askJson(`/jobs/${job.id}/facts`), buffer = await (await ask(`/jobs/${job.id}/frames`)).arrayBuffer();
  if (shown) ask(`/jobs/${shown.id}`, "DELETE").catch(() => {});
  const pixels = facts.height * facts.width, images = facts.names.length * pixels * facts.colours;
  shown = { id: job.id, facts: { ...facts, names: names ?? facts.names }, images: new Uint8Array(buffer, 0, images), bits: new Float32Array(buffer.slice(images)) };
  const sorted = shown.bits.toSorted(), at = (q) => sorted[Math.floor(q * (sorted.length - 1))];
  shown.range = [Math.min(0, at(0.01)), at(0.995)];
  $("l-empty").hidden = true;
  $("l-result").hidden = false;
  $("l-mean").textContent = `${facts.names.length} images by ${facts.model}: ${facts.mean.toFixed(3)}${facts.error === null ? "" : ` ± ${facts.error.toFixed(3)}`} bits a ${unit()}; stored without a model, ${Math.log2(facts.levels).toFixed(2)}.`;
  $("l-download").href = `/jobs/${job.id}/result`;
  $("l-download").download = job.output;
  showWall();
  paint();
  tell($("l-mean").textContent);
}

// What bits are counted for: of grey images a dimension is a pixel.
const unit = () => (shown.facts.colours === 1 ? "pixel" : "dimension");

function showWall() {
  const { facts } = shown, order = [...facts.names.keys()];
  if ($("l-order").value !== "file") order.sort((a, b) => facts.bits[b] - facts.bits[a]);
  if ($("l-order").value === "fewest") order.reverse();
  $("l-wall").replaceChildren(...order.map((index) => {
    const both = make("div", { className: "both" }, picture(index, false), picture(index, true));
    return make("li", {}, both, make("b", { textContent: `${facts.bits[index].toFixed(2)} bits a ${unit()}` }), make("span", { className: "fine", textContent: facts.names[index] }));
  }));
}

// The image, or the heat of its pixels.
function picture(index, hot) {
  const { facts: { height, width, colours, names }, images, bits, range: [low, high] } = shown, pixels = height * width;
  const canvas = make("canvas", { width, height }), pen = canvas.getContext("2d"), image = pen.createImageData(width, height);
  for (let i = 0; i < pixels; i++) {
    const k = 3 * Math.round(255 * Math.max(0, Math.min(1, (bits[index * pixels + i] - low) / (high - low || 1))));
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = hot ? heat[k + c] : images[(index * pixels + i) * colours + (colours === 1 ? 0 : c)];
    image.data[4 * i + 3] = 255;
  }
  pen.putImageData(image, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", hot ? `Bits of the pixels of ${names[index]}` : names[index]);
  return canvas;
}

function paint() {
  if (!shown || !$("l-schedule").clientWidth) return;
  const { schedule, loss } = shown.facts, span = (column) => `${column[0].toFixed(1)} to ${column.at(-1).toFixed(1)}`;
  $("l-schedule").setAttribute("aria-label", `γ goes from ${span(schedule.map(([, y]) => y))} over time`);
  $("l-loss").setAttribute("aria-label", `Loss at γ from ${span(loss.map(([x]) => x))}, most ${Math.max(...loss.map(([, y]) => y)).toFixed(3)} bits a ${unit()} for a unit of γ`);
  drawPlot($("l-schedule"), schedule, "t", "γ", "clean", "noise");
  drawPlot($("l-loss"), loss, "γ", `bits a ${unit()}, for a unit of γ`, "clean", "noise", true);
  drawRamp($("l-bar"), heat);
  $("l-low").textContent = shown.range[0].toFixed(1);
  $("l-high").textContent = shown.range[1].toFixed(1);
}
