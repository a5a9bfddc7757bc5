// The tab of puzzles: a Sudoku in, and two runs that solve it, frame by frame.
import { $, ink, onNewLook, openCanvas, showError, tell } from "./dom.js";
import { ask, askJson, follow } from "./jobs.js";
import { drawLines, Sketch } from "./sketch.js";

const EXAMPLES = { 4: "1....4.2..4..3..", 9: "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79" };
const SPEED = 40; // ms a frame
let sketch, shown = null, playing = 0, busy = false, live = false;

// Starts the tab; gives what takes files that are dropped on it.
export function startPuzzle() {
  sketch = new Sketch($("p-draw"), () => ($("p-text").value = sketch.text));
  $("p-side").onchange = () => (sketch.resize(Number($("p-side").value)), ($("p-text").value = sketch.text), nameSketch());
  $("p-example").onclick = () => setText(EXAMPLES[sketch.side]);
  $("p-clear").onclick = () => setText("");
  $("p-text").onchange = () => readText($("p-text").value);
  $("p-solve").onclick = solveSketch;
  $("p-photo").onclick = () => $("p-file").click();
  $("p-file").onchange = () => (solvePictures([...$("p-file").files]), ($("p-file").value = ""));
  $("p-play").onclick = () => (playing ? pause() : play());
  $("p-back").onclick = () => stepTo(time() - 1);
  $("p-next").onclick = () => stepTo(time() + 1);
  $("p-time").oninput = () => stepTo(time());
  $("p-numbers").onchange = paint;
  onNewLook(paint);
  setText(EXAMPLES[4]);
  nameSketch();
  return solvePictures;
}

function nameSketch() {
  $("p-draw").setAttribute("aria-label", `A Sudoku of ${sketch.side} × ${sketch.side} cells to fill in`);
}

function setText(word) {
  sketch.text = word;
  $("p-text").value = sketch.text;
}

function readText(word) {
  const signs = word.replace(/\s/g, "").replace(/[0_*-]/g, ".");
  if (signs.length === 81 && sketch.side !== 9) ($("p-side").value = 9), sketch.resize(9);
  if (signs.length === 16 && sketch.side !== 4) ($("p-side").value = 4), sketch.resize(4);
  nameSketch();
  setText(signs);
}

async function solveSketch() {
  if (busy) return;
  const { image, mask, digits } = await sketch.export();
  if (!mask.includes("1")) return showFault("Every cell is filled. Empty the cells that are to be solved.");
  await solve({ name: "sudoku.png", mask, digits }, image);
}

// One picture is a photograph; two are the image of a puzzle and its mask, of any size.
function solvePictures(files) {
  if (!files.length) return;
  const wrong = files.find(({ type }) => !type.startsWith("image/"));
  if (wrong) return showFault(`${wrong.name}: is no picture. A photograph or scan of a Sudoku is needed.`);
  if (files.length === 1) return solve({ name: files[0].name, side: $("p-photo-side").value }, files[0]);
  const masks = files.filter(({ name }) => /mask/i.test(name)), [image] = files.filter((file) => file !== masks[0]);
  if (files.length > 2) return showFault("These are more than two pictures. Choose one photograph, or the image of a puzzle and its mask.");
  if (masks.length !== 1) return showFault("Which of the two pictures is the mask? One of them must have “mask” in its name.");
  return solve({ name: image.name, mask_from: image.size }, new Blob([image, masks[0]]));
}

const showFault = (text) => showError($("p-job"), text);

async function solve(query, body) {
  if (busy) return;
  setBusy(true);
  pause();
  if (shown) ask(`/jobs/${shown.id}`, "DELETE").catch(() => {});
  shown = null;
  $("p-result").hidden = $("p-download").hidden = true;
  $("p-empty").hidden = false;
  $("p-verdict").textContent = "";
  live = true;
  const job = await follow($("p-job"), { kind: "puzzle", steps: $("p-steps").value, ...query }, body, "Solving", load);
  setBusy(false);
  live = false;
  if (!job) return;
  $("p-download").hidden = false;
  $("p-download").href = `/jobs/${job.id}/result`;
  $("p-download").download = job.output;
  showVerdict();
}

function setBusy(now) {
  busy = now;
  for (const id of ["p-solve", "p-photo"]) $(id).disabled = now;
}

// Fetches the frames that there are, and shows the last of them while the job runs.
async function load(job) {
  if (!job.scan && !job.run) return;
  const facts = await askJson(`/jobs/${job.id}/facts`);
  const atEnd = !shown || time() >= shown.times.length - 1;
  shown ??= { id: job.id, lanes: [[], []], bytes: 0 };
  const buffer = await (await ask(`/jobs/${job.id}/frames?from=${shown.bytes}`)).arrayBuffer();
  shown.facts = facts;
  shown.bytes += readFrames(new Uint8Array(buffer), facts, shown.lanes);
  shown.times = shown.lanes[0].map(({ done }) => done);
  $("p-empty").hidden = true;
  $("p-result").hidden = false;
  $("p-time").max = shown.times.length - 1;
  if (atEnd && !playing) $("p-time").value = shown.times.length - 1;
  paint();
}

// Appends frames to the lanes: of each its share of the work and the image, certainty, order and noise level of each cell.
// Gives the bytes of whole frames.
function readFrames(bytes, { frame, side, pixels }, lanes) {
  const cells = side * side;
  let at = 0;
  for (; at + frame <= bytes.length; at += frame) {
    const part = (from, length) => bytes.subarray(at + from, at + from + length), image = cells * pixels * pixels;
    lanes[bytes[at]].push({
      done: (bytes[at + 2] + 256 * bytes[at + 3]) / 65535, image: part(4, image), sure: part(4 + image, cells),
      order: part(4 + image + cells, cells), level: part(4 + image + 2 * cells, cells),
    });
  }
  return at;
}

const time = () => Number($("p-time").value);

function stepTo(k) {
  pause();
  $("p-time").value = k;
  paint();
}

function play() {
  if (!shown) return;
  if (time() >= shown.times.length - 1) $("p-time").value = 0;
  $("p-play").textContent = "Pause";
  playing = setInterval(() => {
    $("p-time").value = time() + 1;
    paint();
    if (time() >= shown.times.length - 1 && !live) pause();
  }, SPEED);
}

function pause() {
  clearInterval(playing);
  playing = 0;
  $("p-play").textContent = "Play";
}

function paint() {
  if (!shown?.times.length || !$("p-lane0").clientWidth) return;
  // each lane by the share of its own frames: the two make different numbers of steps
  const share = shown.times.length > 1 ? time() / (shown.times.length - 1) : 1;
  shown.lanes.forEach((frames, lane) => {
    const frame = frames[Math.round(share * (frames.length - 1))];
    if (frame) drawFrame($(`p-lane${lane}`), frame, lane);
  });
}

function drawFrame(canvas, frame, lane) {
  const { side, pixels, unknown, runs, walks } = shown.facts, { pen, width } = openCanvas(canvas), step = width / side;
  const waiting = (i) => unknown[i] && lane === 0 && frame.order[i] === 0;
  const paper = rgb("--panel"), dark = rgb("--ink"), blue = rgb("--main"), bad = rgb("--bad");
  const finished = frame.level.every((level) => level === 0), conflicts = finished ? (runs[walks[lane]]?.conflicts ?? []) : [];
  const wrong = new Set(conflicts.map(([row, column]) => (row - 1) * side + column - 1));
  let next = -1;
  for (let i = 0; i < side * side; i++) {
    const left = (i % side) * step, top = Math.floor(i / side) * step, certain = frame.sure[i] / 255;
    if (waiting(i)) {
      if (next < 0 || frame.sure[i] > frame.sure[next]) next = i;
      pen.fillStyle = mix(paper, blue, 0.06 + 0.6 * certain);
      pen.fillRect(left, top, step, step);
    } else drawCell(pen, frame.image.subarray(i * pixels * pixels, (i + 1) * pixels * pixels), pixels, [left, top, step], paper, unknown[i] ? (wrong.has(i) ? bad : blue) : dark);
    if (unknown[i] && !waiting(i) && lane === 0 && $("p-numbers").checked) {
      pen.font = `600 ${Math.max(8, step * 0.2)}px system-ui, sans-serif`;
      pen.fillStyle = ink("--soft");
      pen.fillText(frame.order[i], left + 3, top + Math.max(9, step * 0.22));
    }
  }
  drawLines(pen, width, side);
  if (next >= 0 && !finished) {
    pen.strokeStyle = ink("--focus");
    pen.lineWidth = 3;
    pen.strokeRect((next % side) * step + 2, Math.floor(next / side) * step + 2, step - 4, step - 4);
  }
}

const buffer = document.createElement("canvas");

function drawCell(pen, grey, pixels, [left, top, step], paper, colour) {
  buffer.width = buffer.height = pixels;
  const own = buffer.getContext("2d"), image = own.createImageData(pixels, pixels);
  for (let k = 0; k < grey.length; k++) {
    const x = grey[k] / 255;
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = paper[c] + x * (colour[c] - paper[c]);
    image.data[4 * k + 3] = 255;
  }
  own.putImageData(image, 0, 0);
  pen.drawImage(buffer, left, top, step, step);
}

function rgb(name) {
  const digits = ink(name).trim().slice(1), wide = digits.length === 3 ? [...digits].map((x) => x + x).join("") : digits;
  return [0, 2, 4].map((k) => parseInt(wide.slice(k, k + 2), 16));
}

const mix = (a, b, x) => `rgb(${a.map((value, c) => Math.round(value + x * (b[c] - value))).join()})`;

function showVerdict() {
  const { runs, walks } = shown.facts;
  const word = (run) => (run.valid === null ? "not checked" : run.valid ? "every rule holds" : `${run.conflicts.length} cells break a rule`);
  walks.forEach((walk, lane) => ($(`p-note${lane}`).textContent = `${runs[walk].steps} steps: ${word(runs[walk])}`));
  const digits = runs[walks[0]].digits, { side } = shown.facts;
  $("p-verdict").textContent = digits ? `Read, the most certain cell first: ${Array.from({ length: side }, (_, row) => digits.slice(row * side, (row + 1) * side).join("")).join(" / ")}` : "";
  tell(`Solved: ${word(runs[walks[0]])}`);
}
