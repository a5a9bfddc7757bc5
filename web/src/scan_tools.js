// The tools in the picture: two clicks measure a distance, or cut a slice that is shown before and after.
import { lengthText } from "./colours.js";
import { $, ink, openCanvas, tell } from "./dom.js";
import { drawSlice, heightRange, scatter, sectionFrame, slice, usualThickness } from "./section.js";

const THINNEST = 0.001, THICKEST = 0.5; // of the length of the slice
const sliderToThickness = (value) => THINNEST * (THICKEST / THINNEST) ** (value / 100);
const thicknessToSlider = (share) => (100 * Math.log(Math.min(THICKEST, Math.max(THINNEST, share)) / THINNEST)) / Math.log(THICKEST / THINNEST);

export class Tools {
  tool = null; // measure or section
  picks = [];
  frame = null; // of the slice

  // `colours()` gives the colours of the points as they are shown.
  constructor(viewer, colours) {
    Object.assign(this, { viewer, colours });
    for (const name of ["measure", "section"]) $(name).onclick = () => this.use(name);
    $("thick").oninput = () => ((this.frame.thickness = sliderToThickness($("thick").value) * this.frame.length), this.drawSection());
    $("tall").onchange = () => this.drawSection();
    $("cut-close").onclick = () => this.stop();
    addEventListener("resize", () => this.drawSection());
    this.wireCanvas();
  }

  wireCanvas() {
    const canvas = $("canvas");
    let down = null;
    canvas.addEventListener("pointerdown", ({ offsetX, offsetY }) => (down = [offsetX, offsetY]));
    canvas.addEventListener("pointerup", ({ offsetX, offsetY }) => {
      const still = down && Math.hypot(offsetX - down[0], offsetY - down[1]) < 5;
      if (this.tool && still && this.viewer.cloud) this.pickAt(offsetX, offsetY);
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.drawOverlay());
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const { viewer } = this, { clientWidth, clientHeight } = $("canvas");
    if (!viewer.cloud || event.ctrlKey || event.metaKey || event.altKey) return;
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (x || y) event.shiftKey ? viewer.shift(0.05 * x, 0.05 * y) : viewer.turn(0.08 * x, -0.08 * y);
    else if (event.key === "+" || event.key === "=") viewer.zoom(0.88);
    else if (event.key === "-") viewer.zoom(1 / 0.88);
    else if (event.key === "Enter" && this.tool) this.pickAt(clientWidth / 2, clientHeight / 2);
    else if (event.key === "Escape" && this.tool) this.stop();
    else return;
    event.preventDefault();
  }

  // Takes a tool, or puts the one in use away.
  use(name) {
    this.take(this.tool === name ? null : name);
  }

  stop() {
    this.take(null);
  }

  take(name) {
    this.tool = name;
    this.picks = [];
    this.closeSection();
    this.show();
  }

  closeSection() {
    this.frame = null;
    $("cut").hidden = true;
  }

  show() {
    for (const id of ["measure", "section"]) $(id).setAttribute("aria-pressed", this.tool === id);
    $("canvas").classList.toggle("pick", this.tool !== null);
    const { length } = this.picks, what = { measure: "to measure between", section: "to cut between" }[this.tool];
    const hint = this.tool && length < 2 ? `Click ${length ? "the second point" : "two points"} ${what}; or press Enter for the point in the middle.` : "";
    $("hint").hidden = !hint;
    $("hint").textContent = hint;
    this.drawOverlay();
  }

  pickAt(x, y) {
    const place = this.viewer.pick(x, y);
    if (!place) return tell("There is no point here.");
    this.picks = this.picks.length >= 2 ? [place] : [...this.picks, place];
    if (this.picks.length === 2 && this.picks[0].distanceTo(this.picks[1]) === 0) this.picks.pop();
    if (this.tool === "section") this.picks.length === 2 ? this.cut() : this.closeSection();
    if (this.tool === "measure" && this.picks.length === 2) tell(this.measured().join(", "));
    this.show();
  }

  measured() {
    const { unit } = this.viewer.cloud.facts, d = this.picks[1].clone().sub(this.picks[0]);
    const exact = (value) => (unit === "m" && Math.abs(value) < 1 ? `${(1000 * value).toFixed(1)} mm` : `${Number(value.toPrecision(5)).toLocaleString("en", { maximumFractionDigits: 6 })} ${unit}`).trim();
    const [up, axis] = this.viewer.up === "z" ? [d.z, "z"] : [d.y, "y"];
    return [`distance ${exact(d.length())}`, `horizontal ${exact(Math.sqrt(Math.max(0, d.lengthSq() - up * up)))}`, `Δ${axis} ${exact(up)}`];
  }

  cut() {
    const { viewer, picks } = this;
    this.frame = sectionFrame(viewer.cloud, ...picks, viewer.camera.up.clone());
    this.frame.thickness = usualThickness(viewer.cloud, this.frame);
    $("thick").value = thicknessToSlider(this.frame.thickness / this.frame.length);
    $("cut").hidden = false;
    this.drawSection();
  }

  drawSection() {
    const { frame, viewer } = this, { cloud } = viewer;
    if (!frame || !cloud || !$("cut-before").clientWidth) return; // another tab is open
    const { unit } = cloud.facts, end = cloud.states.length - 1, last = Math.min(end, Math.round(viewer.time));
    const slices = [slice(cloud, 0, frame, frame.thickness), slice(cloud, last, frame, frame.thickness)];
    const range = heightRange(slices), tall = Number($("tall").value), words = ["Before", last === end ? "After" : "On the way"];
    ["before", "after"].forEach((name, k) => {
      drawSlice($(`cut-${name}`), slices[k], frame, range, tall, this.colours(), unit);
      const rough = scatter(slices[k], frame.length);
      $(`cut-${name}-text`).textContent = `${words[k]}: ${slices[k].rows.length.toLocaleString("en")} points${rough === null ? "" : `, scatter about the surface ${lengthText(rough, unit)}`}`;
    });
    $("cut-after").parentElement.hidden = end < 1;
    $("thick-value").textContent = lengthText(frame.thickness, unit);
    $("cut-note").textContent = `${lengthText(frame.length, unit)} long, seen along the surface. Scatter: how far points are from straight lines through short pieces, in the median of the pieces; relief within a piece counts.`;
    this.drawOverlay();
  }

  drawOverlay() {
    const canvas = $("overlay"), { pen, width, height } = openCanvas(canvas);
    if (!this.tool || !this.viewer.cloud) return;
    const places = this.picks.map((place) => this.viewer.project(place));
    pen.strokeStyle = ink("--focus");
    pen.lineWidth = 2.5;
    pen.beginPath();
    if (places.length < 2 && document.activeElement === $("canvas")) addCross(pen, width / 2, height / 2);
    if (places.length === 2) places.forEach(({ x, y }) => pen.lineTo(x, y));
    for (const { x, y } of places) {
      pen.moveTo(x + 5, y);
      pen.arc(x, y, 5, 0, 7);
    }
    pen.stroke();
    if (this.tool === "measure" && places.length === 2) drawLabel(pen, this.measured(), places, width, height);
  }
}

function addCross(pen, x, y) {
  for (const [dx, dy] of [[9, 0], [0, 9]]) {
    pen.moveTo(x - dx, y - dy);
    pen.lineTo(x + dx, y + dy);
  }
}

function drawLabel(pen, lines, [a, b], width, height) {
  pen.font = "14px system-ui, sans-serif";
  const wide = Math.max(...lines.map((line) => pen.measureText(line).width)) + 16, high = 18 * lines.length + 8;
  const x = Math.max(4, Math.min(width - wide - 4, (a.x + b.x) / 2 + 10)), y = Math.max(4, Math.min(height - high - 4, (a.y + b.y) / 2 + 10));
  pen.fillStyle = ink("--panel");
  pen.fillRect(x, y, wide, high);
  pen.fillStyle = ink("--ink");
  lines.forEach((line, k) => pen.fillText(line, x + 8, y + 18 + 18 * k));
}
