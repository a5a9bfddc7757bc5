// The page: tabs, and that of scans: scans in, before and after under one camera, figures beside, the result out.
import { readBundle } from "./bundle.js";
import { colourModes, lengthText, pointColours } from "./colours.js";
import { $, make, tell } from "./dom.js";
import { ask, askJson, send, stateText } from "./jobs.js";
import { startLikelihood } from "./likelihood.js";
import { startPuzzle } from "./puzzle.js";
import { drawSlice, heightRange, scatter, sectionFrame, slice, usualThickness } from "./section.js";
import { startShapes } from "./shapes.js";
import { openTab, startTabs } from "./tabs.js";
import { Viewer } from "./viewer.js";
import { render } from "./widget.js";

const ACTIVE = ["receiving", "waiting", "running"];
const entries = []; // {job, file?, request?, cloud?, part?}: one a scan, newest last
let server, viewer, open, tint, tool = null, picks = [], frame = null, playing = 0, sending = false;

// ---- files and jobs

function options() {
  const query = new URLSearchParams({ model: $("model").value, outliers: $("outliers").value });
  if ($("noise").value.trim()) query.set("noise", $("noise").value.trim().replace(",", "."));
  if ($("most").value.trim()) query.set("max_displacement", $("most").value.trim().replace(",", "."));
  return query;
}

function addFiles(files) {
  for (const file of files) {
    const entry = { file, job: { name: file.name, state: "queued", done: 0, warnings: [] } };
    entries.push(entry);
    const suffix = /\.[^.]*$/.exec(file.name)?.[0].toLowerCase();
    if (!server.suffixes.includes(suffix)) fail(entry, `${file.name}: becalm does not read this kind of file. It reads ${server.suffixes.join(" ")}.`);
    else if (file.size > server.upload) fail(entry, `${file.name}: is larger than the ${Math.round(server.upload / 1e6)} MB taken here. The command “becalm denoise” has no such limit.`);
    else if (!file.size) fail(entry, `${file.name}: the file is empty.`);
  }
  if (files.length) select(entries.find((entry) => entry.file === files[0]));
  listJobs();
  sendNext();
}

function fail(entry, text) {
  Object.assign(entry.job, { state: "failed", error: text });
}

async function sendNext() {
  const entry = entries.find(({ job }) => job.state === "queued");
  if (sending || !entry) return;
  sending = true;
  entry.job.state = "sending";
  const query = options();
  query.set("name", entry.file.name);
  try {
    entry.job = await send(entry, query, (share) => {
      entry.job.done = share;
      listJobs();
    });
    entry.file = null;
    remember();
  } catch (error) {
    if (error.message === "cancelled") entry.job.state = "cancelled";
    else fail(entry, error.message);
  }
  sending = false;
  listJobs();
  showState();
  sendNext();
}

function remember() {
  sessionStorage.setItem("becalm", JSON.stringify(entries.map(({ job }) => job.id).filter(Boolean)));
}

async function poll() {
  for (const entry of entries.filter(({ job }) => ACTIVE.includes(job.state))) {
    try {
      entry.job = await askJson(`/jobs/${entry.job.id}`);
      if (!ACTIVE.includes(entry.job.state)) tell(`${entry.job.name}: ${stateText(entry.job)}`);
    } catch (error) {
      fail(entry, error.message);
    }
    listJobs();
    if (entry === open) await showState();
  }
  setTimeout(poll, 300);
}

// Items stay the same elements while their jobs go on: a button that is exchanged between press and release is not clicked.
function listJobs() {
  const list = $("jobs"), items = entries.map((entry) => jobItem(entry));
  $("no-jobs").hidden = entries.length > 0;
  for (const item of [...list.children]) if (!items.includes(item)) item.remove();
  for (const item of items) if (item.parentElement !== list) list.append(item);
}

const isBusy = ({ state }) => ["queued", "sending", ...ACTIVE].includes(state);

function jobItem(entry) {
  const { job } = entry, moves = ["sending", "running"].includes(job.state);
  entry.item ??= makeItem(entry);
  const [name, row, bar] = entry.item.children, [state, end] = row.children;
  entry.item.className = entry === open ? "open" : "";
  name.textContent = job.name;
  name.setAttribute("aria-current", entry === open);
  state.textContent = stateText(job);
  end.textContent = isBusy(job) ? "Cancel" : "Remove";
  end.setAttribute("aria-label", `${end.textContent} ${job.name}`);
  bar.hidden = !moves;
  bar.setAttribute("aria-label", `Progress of ${job.name}`);
  if (job.state === "sending" || job.scan) bar.value = job.done;
  else bar.removeAttribute("value");
  return entry.item;
}

function makeItem(entry) {
  const name = make("button", { type: "button", className: "name", onclick: () => select(entry) });
  const end = make("button", { type: "button", onclick: () => (isBusy(entry.job) ? cancel(entry) : remove(entry)) });
  return make("li", {}, name, make("div", { className: "row" }, make("span", { className: "state" }), end), make("progress", { max: 1 }));
}

async function cancel(entry) {
  if (entry.request && entry.job.state === "sending") return entry.request.abort();
  if (entry.job.state === "queued") entry.job.state = "cancelled";
  else entry.job = await askJson(`/jobs/${entry.job.id}/cancel`, "POST");
  listJobs();
  showState();
}

async function remove(entry) {
  const number = entries.indexOf(entry);
  entries.splice(number, 1);
  if (entry.job.id) await ask(`/jobs/${entry.job.id}`, "DELETE").catch(() => {});
  remember();
  if (entry === open) await select(entries.at(-1));
  listJobs();
  ($("jobs").children[number]?.querySelector(".row button") ?? $("choose")).focus();
}

async function again() {
  try {
    const job = await askJson(`/jobs/${open.job.id}/again?${options()}`, "POST");
    const entry = { job, cloud: open.cloud, part: null };
    entries.push(entry);
    remember();
    await select(entry, true);
  } catch (error) {
    showError(error.message);
  }
}

async function select(entry, keep = false) {
  open = entry;
  viewer.shown = keep ? viewer.shown : null;
  stopTools();
  listJobs();
  await showState();
}

// ---- the open scan

// Loads what there is of the open scan and shows it, its figures and its errors.
async function showState() {
  const entry = open, job = entry?.job;
  if (job?.id && (job.run || job.scan)) {
    const part = job.run ? "run" : "scan";
    if (entry.part !== part) {
      try {
        const cloud = readBundle(await (await ask(`/jobs/${job.id}/${part}`)).arrayBuffer());
        Object.assign(entry, { cloud, part });
      } catch (error) {
        fail(entry, error.message);
      }
    }
  }
  if (entry !== open) return;
  showFacts();
  const cloud = entry?.cloud;
  if (cloud && viewer.shown !== cloud) {
    const keep = viewer.shown && sameScan(viewer.shown, cloud);
    viewer.shown = cloud;
    showCloud(cloud, keep);
  }
  if (!cloud) hideCloud(job);
}

function sameScan(a, b) {
  return a.points === b.points && a.facts.origin.join() === b.facts.origin.join();
}

function showCloud(cloud, keep) {
  const both = cloud.states.length > 1;
  $("empty").hidden = true;
  for (const id of ["handle", "sliders", "tag-before", "tag-after"]) $(id).hidden = !both;
  for (const id of ["colour", "measure", "section", "fit"]) $(id).disabled = false;
  $("canvas").hidden = false;
  const before = $("colour").value;
  $("colour").replaceChildren(...colourModes(cloud).map(([value, textContent]) => make("option", { value, textContent })));
  $("colour").value = keep && cloud.columns[before] ? before : cloud.columns.colour ? "colour" : "height";
  viewer.time = cloud.states.length - 1;
  $("time").max = Math.max(1, viewer.time);
  $("time").value = viewer.time;
  if (!keep) $("size").value = viewer.size = cloud.points < 30000 ? 3.5 : cloud.points < 150000 ? 2.5 : 2;
  tint = pointColours(cloud, $("colour").value, viewer.up);
  viewer.show(cloud, tint.colours, keep);
  showTime();
  showLegend();
  showSwipe();
  const { measured, points } = cloud.facts;
  $("drawn").textContent = measured > cloud.points
    ? `${cloud.points.toLocaleString("en")} of ${measured.toLocaleString("en")} points are drawn, spread evenly; the cleaning and the result have all of them.`
    : `${cloud.points.toLocaleString("en")} points${points > measured ? `; ${(points - measured).toLocaleString("en")} more have no coordinates` : ""}.`;
}

function hideCloud(job) {
  viewer.cloud = viewer.shown = null;
  for (const id of ["handle", "sliders", "tag-before", "tag-after", "legend", "cut", "canvas"]) $(id).hidden = true;
  for (const id of ["colour", "measure", "section", "fit"]) $(id).disabled = true;
  $("drawn").textContent = "";
  $("empty").hidden = false;
  const words = !job ? ["No scan is open.", "Drop a file anywhere on this page. It is shown at once, cleaned, and then stands before and after under one camera."]
    : job.state === "failed" ? ["This scan cannot be shown.", "The reason stands beside the picture, with what to do about it."]
    : job.state === "cancelled" ? ["Cancelled.", "The scan was not read. Drop it again to start again."]
    : [`${stateText(job)} …`, "The scan appears here as soon as it is read."];
  $("empty").replaceChildren(make("p", {}, make("b", { textContent: words[0] })), make("p", { textContent: words[1] }));
}

function showError(text) {
  $("warnings").replaceChildren(make("p", { className: "error", textContent: text }), ...$("warnings").querySelectorAll(".warning"));
  tell(text);
}

function showFacts() {
  const job = open?.job, facts = open?.cloud?.facts;
  const recorded = job?.state === "done" && job.bytes === null;
  $("again").disabled = !job?.id || job.state === "receiving" || recorded;
  const rows = facts?.summary ?? (facts ? [["Points", facts.points.toLocaleString("en")]] : []);
  const note = recorded ? "A recorded run has no further figures." : job?.state === "running" || job?.state === "waiting" ? "More appear when the scan is clean."
    : job?.state === "cancelled" ? "Cancelled before the scan was clean. “How to clean” has a button that starts again." : "They appear here when a scan is clean.";
  const table = make("table", {}, make("tbody", {}, ...rows.map(([name, value]) => {
    const head = make("th", { textContent: name, scope: "row" });
    return make("tr", {}, head, make("td", { textContent: value }));
  })));
  const unit = facts && !facts.unit ? [make("p", { className: "fine", textContent: "Lengths are in the scan’s own units." })] : [];
  $("facts").replaceChildren(...(rows.length ? [table, ...unit] : []), ...(facts?.summary ? [] : [make("p", { className: "fine", textContent: note })]));
  const ready = job?.state === "done" && job.bytes !== null;
  $("download").hidden = $("download-note").hidden = !ready;
  if (ready) {
    $("download").href = `/jobs/${job.id}/result`;
    $("download").download = job.output;
    $("download").textContent = `Download ${job.output}`;
    $("download-note").textContent = `${(job.bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB, the same bytes that “becalm denoise” writes.`;
  }
  const lines = [...new Set(job?.warnings ?? [])].map((textContent) => make("p", { className: "warning", textContent }));
  $("warnings").replaceChildren(...(job?.error ? [make("p", { className: "error", textContent: job.error })] : []), ...lines);
}

// ---- colours, sliders

function recolour() {
  tint = pointColours(viewer.cloud, $("colour").value, viewer.up);
  viewer.setColours(tint.colours);
  showLegend();
  drawSection();
}

function showLegend() {
  const { ramp, low, high, classes, length } = tint, unit = length ? viewer.cloud.facts.unit : "";
  $("legend").hidden = !ramp && !classes;
  $("legend-bar").hidden = !ramp;
  const text = (value) => (length ? lengthText(value, unit) : Number(value.toPrecision(3)).toLocaleString("en"));
  $("legend-low").textContent = ramp ? text(low) : "";
  $("legend-high").textContent = ramp ? text(high) : "";
  $("legend-classes").replaceChildren(...(classes ?? []).map(({ label, colour }) => {
    const swatch = make("i");
    swatch.style.background = `rgb(${colour.join()})`;
    return make("span", {}, swatch, label);
  }));
  if (!ramp) return;
  const pen = $("legend-bar").getContext("2d");
  for (let x = 0; x < 128; x++) {
    pen.fillStyle = `rgb(${ramp.slice(6 * x, 6 * x + 3).join()})`;
    pen.fillRect(x, 0, 1, 10);
  }
}

function showSwipe() {
  viewer.swipe = $("swipe").value / 100;
  $("handle").style.left = `${$("swipe").value}%`;
  $("tag-before").style.opacity = viewer.swipe > 0.12 ? 1 : 0;
  $("tag-after").style.opacity = viewer.swipe < 0.88 ? 1 : 0;
  viewer.draw();
}

function showTime() {
  viewer.time = Number($("time").value);
  const last = viewer.cloud.states.length - 1;
  $("step").textContent = viewer.time >= last ? "done" : viewer.time === 0 ? "not begun" : `pass ${Math.ceil(viewer.time)} of ${last}`;
  $("tag-after").textContent = viewer.time >= last ? "After" : "On the way";
  viewer.draw();
}

function play() {
  if (playing) return stopPlaying();
  const end = Number($("time").max), start = performance.now(), from = viewer.time >= end ? 0 : viewer.time;
  $("play").textContent = "Pause";
  const advance = (now) => {
    const time = Math.min(end, from + ((now - start) / 3000) * end);
    $("time").value = time;
    showTime();
    if (time >= end) stopPlaying();
    else playing = requestAnimationFrame(advance);
  };
  playing = requestAnimationFrame(advance);
}

function stopPlaying() {
  cancelAnimationFrame(playing);
  playing = 0;
  $("play").textContent = "Play";
  drawSection();
}

// ---- measuring and cutting

function useTool(name) {
  tool = tool === name ? null : name;
  picks = [];
  if (tool !== "section") closeSection();
  showTool();
}

function stopTools() {
  tool = null;
  picks = [];
  closeSection();
  showTool();
}

function closeSection() {
  frame = null;
  $("cut").hidden = true;
}

function showTool() {
  for (const id of ["measure", "section"]) $(id).setAttribute("aria-pressed", tool === id);
  $("canvas").classList.toggle("pick", tool !== null);
  const whats = { measure: "to measure between", section: "to cut between" };
  const hint = tool && picks.length < 2 ? `Click ${picks.length ? "the second point" : "two points"} ${whats[tool]}; or press Enter for the point in the middle.` : "";
  $("hint").hidden = !hint;
  $("hint").textContent = hint;
  drawOverlay();
}

function pickAt(x, y) {
  const place = viewer.pick(x, y);
  if (!place) return tell("There is no point here.");
  picks = picks.length >= 2 ? [place] : [...picks, place];
  if (picks.length === 2 && picks[0].distanceTo(picks[1]) === 0) picks.pop();
  if (tool === "section") picks.length === 2 ? cut() : closeSection();
  if (tool === "measure" && picks.length === 2) tell(measured().join(", "));
  showTool();
}

function measured() {
  const unit = viewer.cloud.facts.unit, d = picks[1].clone().sub(picks[0]);
  const exact = (value) => (unit === "m" && Math.abs(value) < 1 ? `${(1000 * value).toFixed(1)} mm` : `${Number(value.toPrecision(5)).toLocaleString("en", { maximumFractionDigits: 6 })} ${unit}`).trim();
  const [up, axis] = viewer.up === "z" ? [d.z, "z"] : [d.y, "y"];
  return [`distance ${exact(d.length())}`, `horizontal ${exact(Math.sqrt(Math.max(0, d.lengthSq() - up * up)))}`, `Δ${axis} ${exact(up)}`];
}

function cut() {
  const up = viewer.camera.up.clone();
  frame = sectionFrame(viewer.cloud, picks[0], picks[1], up);
  frame.thickness = usualThickness(viewer.cloud, frame);
  $("thick").value = thicknessToSlider(frame.thickness / frame.length);
  $("cut").hidden = false;
  drawSection();
}

const sliderToThickness = (value) => 0.001 * 500 ** (value / 100);
const thicknessToSlider = (share) => (100 * Math.log(Math.min(0.5, Math.max(0.001, share)) / 0.001)) / Math.log(500);

function drawSection() {
  if (!frame || !viewer.cloud) return;
  const cloud = viewer.cloud, unit = cloud.facts.unit, last = Math.min(cloud.states.length - 1, Math.round(viewer.time));
  const slices = [slice(cloud, 0, frame, frame.thickness), slice(cloud, last, frame, frame.thickness)];
  const range = heightRange(slices), tall = Number($("tall").value);
  ["before", "after"].forEach((name, k) => {
    drawSlice($(`cut-${name}`), slices[k], frame, range, tall, tint.colours, unit);
    const rough = scatter(slices[k], frame.length);
    const word = k === 0 ? "Before" : last === cloud.states.length - 1 ? "After" : "On the way";
    $(`cut-${name}-text`).textContent = `${word}: ${slices[k].rows.length.toLocaleString("en")} points${rough === null ? "" : `, scatter about the surface ${lengthText(rough, unit)}`}`;
  });
  $("cut-after").parentElement.hidden = cloud.states.length < 2;
  $("thick-value").textContent = lengthText(frame.thickness, unit);
  $("cut-note").textContent = `${lengthText(frame.length, unit)} long, seen along the surface. Scatter: how far points are from straight lines through short pieces, in the median of the pieces; relief within a piece counts.`;
  drawOverlay();
}

function drawOverlay() {
  const canvas = $("overlay"), ratio = devicePixelRatio, pen = canvas.getContext("2d");
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  if (!tool || !viewer.cloud) return;
  pen.scale(ratio, ratio);
  const ink = getComputedStyle(document.body), places = picks.map((place) => viewer.project(place));
  pen.strokeStyle = ink.getPropertyValue("--focus");
  pen.lineWidth = 2.5;
  if (picks.length < 2 && document.activeElement === $("canvas")) cross(pen, canvas.clientWidth / 2, canvas.clientHeight / 2);
  if (places.length === 2) {
    pen.beginPath();
    places.forEach(({ x, y }) => pen.lineTo(x, y));
    pen.stroke();
  }
  for (const { x, y } of places) {
    pen.beginPath();
    pen.arc(x, y, 5, 0, 7);
    pen.stroke();
  }
  if (tool === "measure" && places.length === 2) label(pen, measured(), places, canvas, ink);
}

function cross(pen, x, y) {
  pen.beginPath();
  for (const [dx, dy] of [[9, 0], [0, 9]]) {
    pen.moveTo(x - dx, y - dy);
    pen.lineTo(x + dx, y + dy);
  }
  pen.stroke();
}

function label(pen, lines, places, canvas, ink) {
  pen.font = "14px system-ui, sans-serif";
  const width = Math.max(...lines.map((line) => pen.measureText(line).width)) + 16, height = 18 * lines.length + 8;
  const x = Math.max(4, Math.min(canvas.clientWidth - width - 4, (places[0].x + places[1].x) / 2 + 10));
  const y = Math.max(4, Math.min(canvas.clientHeight - height - 4, (places[0].y + places[1].y) / 2 + 10));
  pen.fillStyle = ink.getPropertyValue("--panel");
  pen.fillRect(x, y, width, height);
  pen.fillStyle = ink.getPropertyValue("--ink");
  lines.forEach((line, k) => pen.fillText(line, x + 8, y + 18 + 18 * k));
}

// ---- wiring

function wireCanvas() {
  const canvas = $("canvas");
  let down = null;
  canvas.addEventListener("pointerdown", ({ offsetX, offsetY }) => (down = [offsetX, offsetY]));
  canvas.addEventListener("pointerup", ({ offsetX, offsetY }) => {
    const still = down && Math.hypot(offsetX - down[0], offsetY - down[1]) < 5;
    if (tool && still && viewer.cloud) pickAt(offsetX, offsetY);
  });
  canvas.addEventListener("focus", drawOverlay);
  canvas.addEventListener("blur", drawOverlay);
  canvas.addEventListener("keydown", (event) => {
    if (!viewer.cloud || event.ctrlKey || event.metaKey || event.altKey) return;
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (x || y) event.shiftKey ? viewer.shift(0.05 * x, 0.05 * y) : viewer.turn(0.08 * x, -0.08 * y);
    else if (event.key === "+" || event.key === "=") viewer.zoom(0.88);
    else if (event.key === "-") viewer.zoom(1 / 0.88);
    else if (event.key === "Enter" && tool) pickAt(canvas.clientWidth / 2, canvas.clientHeight / 2);
    else if (event.key === "Escape" && tool) stopTools();
    else return;
    event.preventDefault();
  });
}

function wireDrop() {
  $("choose").onclick = () => $("files").click();
  $("files").onchange = () => {
    addFiles([...$("files").files]);
    $("files").value = "";
  };
  const over = (event, on) => {
    event.preventDefault();
    document.body.classList.toggle("over", on);
  };
  addEventListener("dragover", (event) => over(event, true));
  addEventListener("dragleave", (event) => event.relatedTarget || over(event, false));
  addEventListener("drop", (event) => {
    over(event, false);
    takeFiles[openTab()]?.([...event.dataTransfer.files]);
  });
}

function wireHandle() {
  const move = (event) => {
    const box = $("view").getBoundingClientRect();
    $("swipe").value = (100 * (event.clientX - box.left)) / box.width;
    showSwipe();
  };
  $("handle").addEventListener("pointerdown", (event) => {
    $("handle").setPointerCapture(event.pointerId);
    $("handle").onpointermove = move;
  });
  $("handle").addEventListener("pointerup", () => ($("handle").onpointermove = null));
}

function wire() {
  $("swipe").oninput = showSwipe;
  $("time").oninput = () => (showTime(), drawSection());
  $("play").onclick = play;
  $("colour").onchange = recolour;
  $("size").oninput = () => ((viewer.size = Number($("size").value)), viewer.draw());
  $("up").onchange = () => {
    viewer.makeControls($("up").value);
    if (viewer.cloud) viewer.fit(), recolour();
  };
  $("fit").onclick = () => viewer.fit();
  $("measure").onclick = () => useTool("measure");
  $("section").onclick = () => useTool("section");
  $("thick").oninput = () => ((frame.thickness = sliderToThickness($("thick").value) * frame.length), drawSection());
  $("tall").onchange = drawSection;
  $("cut-close").onclick = stopTools;
  $("again").onclick = again;
  addEventListener("resize", drawSection);
}

// What becomes of files that are dropped on a tab.
const takeFiles = { scan: addFiles };

async function start() {
  startTabs();
  takeFiles.puzzle = startPuzzle();
  try {
    viewer = new Viewer($("canvas"), drawOverlay);
  } catch {
    $("empty").replaceChildren(make("p", { className: "error", textContent: "This browser cannot draw in space (WebGL 2 is off). Scans can be cleaned and downloaded all the same." }));
    return;
  }
  viewer.size = Number($("size").value);
  window.becalm = viewer; // for measurements: benchmarks/page.py
  wire();
  wireCanvas();
  wireDrop();
  wireHandle();
  try {
    server = await askJson("/api");
  } catch (error) {
    return showError(error.message);
  }
  startShapes(server.shapes);
  takeFiles.likelihood = startLikelihood(server.images);
  $("model").replaceChildren(...server.models.map((value) => make("option", { value, textContent: value })));
  $("kinds").textContent = server.suffixes.filter((name) => name !== ".safetensors").join(" ");
  $("files").accept = server.suffixes.join();
  for (const id of new Set([...server.jobs, ...JSON.parse(sessionStorage.getItem("becalm") ?? "[]")])) {
    const job = await askJson(`/jobs/${id}`).catch(() => null);
    if (job) entries.push({ job });
  }
  await select(entries[0]);
  poll();
}

// In a notebook there is no page: the same script draws the widget of `becalm.view`.
export default { render };
if (document.getElementById("panel-scan")) start();
