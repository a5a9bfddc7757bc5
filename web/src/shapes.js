// The tab of shapes: a wall of clouds; one or two of them chosen, to vary, complete, interpolate and download.
import { drawCloud, plyFile } from "./cloud.js";
import { $, fillSelect, make, onNewLook, tell } from "./dom.js";
import { ask, askJson, follow } from "./jobs.js";

const MAX_WALLS = 6;
const BETWEEN = 9; // shapes from A to B, with both
const walls = []; // {id, output, facts, shapes, title}, the newest last
let models, chosen = [], busy = false; // chosen: {wall, index}, A and B

export function startShapes(known) {
  models = known;
  const names = { lion_families: "families: six kinds of things", lion_ldraw: "bricks: parts of LDraw’s library" };
  fillSelect($("s-model"), Object.keys(models).map((value) => [value, names[value] ?? value]));
  $("s-model").onchange = listKinds;
  $("s-make").onclick = () => run({ verb: "generate", number: $("s-number").value }, "Making shapes", (label) => (label ? `New shapes: ${label}` : "New shapes"));
  $("s-vary").onclick = () => run({ verb: "vary", amount: $("s-amount").value, number: 8, ...from("one", 0) }, "Varying", () => `Variations of A, by ${$("s-amount").value}`);
  $("s-complete").onclick = () => run({ verb: "complete", side: $("s-side").value, share: $("s-share").value, number: 8, ...from("one", 0) }, "Completing", () => "Shapes that have the kept part of A");
  $("s-path").onclick = () => run({ verb: "interpolate", number: BETWEEN, ...from("one", 0), ...from("other", 1) }, "Going from A to B", () => "From A to B");
  $("s-save").onclick = save;
  $("s-earlier").onclick = () => (walls.pop(), showWall());
  $("s-amount").oninput = () => ($("s-amount-text").textContent = Number($("s-amount").value).toFixed(2));
  $("s-share").oninput = () => (($("s-share-text").textContent = `${Math.round(100 * $("s-share").value)} %`), drawChosen(true));
  $("s-side").onchange = () => drawChosen(true);
  for (const id of ["s-share", "s-side"]) $(id).addEventListener("focus", () => drawChosen(true));
  for (const id of ["s-share", "s-side"]) $(id).addEventListener("blur", () => drawChosen());
  $("s-turn").oninput = draw;
  $("s-slider").oninput = () => showBetween();
  onNewLook(draw);
  listKinds();
  showChoice();
}

function listKinds() {
  const { classes } = models[$("s-model").value];
  fillSelect($("s-label"), [["", "any"], ...classes]);
}

const from = (name, k) => (chosen[k] ? { [name]: `${chosen[k].wall.id}:${chosen[k].index}`, model: chosen[k].wall.facts.model } : {});

async function run(query, word, title) {
  if (busy) return;
  setBusy(true);
  const common = { kind: "shapes", model: $("s-model").value, seed: Math.floor(Math.random() * 1e9) };
  const label = query.verb === "generate" ? $("s-label").value : "";
  const job = await follow($("s-job"), { ...common, ...(label ? { label } : {}), name: query.verb, ...query }, "", word);
  if (job) await addWall(job, title(label)).catch((error) => tell(error.message));
  setBusy(false);
}

function setBusy(now) {
  busy = now;
  $("s-make").disabled = now;
  showChoice();
}

async function addWall(job, title) {
  const facts = await askJson(`/jobs/${job.id}/facts`), buffer = await (await ask(`/jobs/${job.id}/frames`)).arrayBuffer();
  const size = 3 * facts.points, all = new Float32Array(buffer);
  const shapes = Array.from({ length: facts.count }, (_, i) => all.subarray(size * i, size * (i + 1)));
  walls.push({ id: job.id, output: job.output, facts, shapes, title });
  while (walls.length > MAX_WALLS && !chosen.some(({ wall }) => wall === walls[0])) ask(`/jobs/${walls.shift().id}`, "DELETE").catch(() => {});
  showWall();
  tell(`${title}: ${facts.count} shapes`);
}

function showWall() {
  const wall = walls.at(-1);
  $("s-empty").hidden = true;
  $("s-result").hidden = false;
  $("s-earlier").hidden = walls.length < 2;
  $("s-title").textContent = wall.title;
  $("s-all").href = `/jobs/${wall.id}/result`;
  $("s-all").download = wall.output;
  $("s-wall").replaceChildren(...wall.shapes.map((_, index) => tile(wall, index)));
  const path = wall.facts.verb === "interpolate";
  $("s-between").hidden = !path;
  $("s-slider").max = wall.shapes.length - 1;
  if (path) showBetween(0);
  showChoice();
}

function tile(wall, index) {
  const button = make("button", { type: "button", className: "tile", onclick: () => choose(wall, index) }, make("canvas"), make("span"));
  button.setAttribute("aria-label", `Shape ${index + 1}`);
  return button;
}

// The first choice is A, the second B; a third begins anew; a chosen one is let go.
function choose(wall, index) {
  const at = chosen.findIndex((one) => one.wall === wall && one.index === index);
  if (at >= 0) chosen.splice(at, 1);
  else chosen = chosen.length === 2 ? [{ wall, index }] : [...chosen, { wall, index }];
  showChoice();
}

function showBetween(place) {
  if (place !== undefined) $("s-slider").value = place;
  const wall = walls.at(-1), index = Number($("s-slider").value);
  $("s-between-text").textContent = `${index + 1} of ${wall.shapes.length}`;
  chosen = [{ wall, index }];
  showChoice();
}

function showChoice() {
  const wall = walls.at(-1), two = chosen.length === 2;
  $("s-edit").disabled = !chosen.length || busy;
  $("s-path").disabled = !two || chosen[0]?.wall.facts.model !== chosen[1]?.wall.facts.model;
  $("s-hint").textContent = !wall ? "Make shapes first." : !chosen.length ? "Choose a shape of the wall: it becomes A." : two ? "A and B are chosen." : "A is chosen. Choose a second one, B, to see what lies between.";
  $("s-chosen").hidden = !chosen.length;
  $("s-figure1").hidden = !two;
  $("s-result").classList.toggle("path", wall?.facts.verb === "interpolate");
  [...$("s-wall").children].forEach((button, index) => {
    const k = chosen.findIndex((one) => one.wall === wall && one.index === index);
    button.setAttribute("aria-pressed", k >= 0);
    button.lastChild.textContent = k < 0 ? "" : "AB"[k];
  });
  draw();
}

function draw() {
  const wall = walls.at(-1);
  if (!wall || !$("s-wall").clientWidth) return;
  const yaw = ($("s-turn").value * Math.PI) / 180;
  [...$("s-wall").children].forEach((button, index) => drawCloud(button.firstChild, wall.shapes[index], yaw, keptSet(wall, index)));
  drawChosen();
}

const keptSet = (wall, index) => (wall.facts.given ? new Set(wall.facts.given[index]) : null);

// The chosen shapes, large; with `part` A shows what would be kept of it.
function drawChosen(part = false) {
  const yaw = ($("s-turn").value * Math.PI) / 180;
  chosen.forEach(({ wall, index }, k) => {
    const kept = part && k === 0 ? partOf(wall.shapes[index]) : keptSet(wall, index);
    $(`s-name${k}`).textContent = part && k === 0 ? "orange: what is kept" : kept ? "orange: on the kept part" : "";
    drawCloud($(`s-canvas${k}`), wall.shapes[index], yaw, kept);
  });
}

// The points of a shape that lie in the chosen share at the chosen side.
function partOf(points) {
  const [axis, sign] = { left: [0, 1], right: [0, -1], bottom: [1, 1], top: [1, -1], back: [2, 1], front: [2, -1] }[$("s-side").value];
  const place = Array.from({ length: points.length / 3 }, (_, i) => sign * points[3 * i + axis]), share = Number($("s-share").value);
  const limit = place.toSorted((a, b) => a - b)[Math.floor(share * (place.length - 1))];
  return new Set(place.flatMap((x, i) => (x <= limit ? [i] : [])));
}

async function save() {
  const { wall, index } = chosen[0], format = $("s-format").value;
  if (format === "points") return download(URL.createObjectURL(plyFile(wall.shapes[index])), `shape${index + 1}.ply`);
  setBusy(true);
  const query = { kind: "shapes", verb: "mesh", format, name: `shape${index + 1}`, ...from("one", 0) };
  const job = await follow($("s-job"), query, "", "Finding the surface");
  setBusy(false);
  if (job) download(`/jobs/${job.id}/result`, job.output);
}

function download(href, name) {
  make("a", { href, download: name }).click();
}
