// The picture of the open scan: its colours and their legend, the border between before and after, and the passes of the denoising.
import { colourModes, drawRamp, pointColours, valueText } from "./colours.js";
import { $, fillSelect, make } from "./dom.js";
import { howToRestart, stateText } from "./jobs.js";

const NO_WEBGL = "This browser cannot draw scans (WebGL 2 is off). They can be cleaned and downloaded all the same.";

export class Stage {
  // `viewer` is null where the browser cannot draw in space; `onRedraw()` is called when points or colours are others than before.
  constructor(viewer, onRedraw) {
    Object.assign(this, { viewer, onRedraw, shown: null, playing: 0 });
    for (const id of ["size", "up"]) $(id).disabled = !viewer;
    if (!viewer) return;
    viewer.size = Number($("size").value);
    $("swipe").oninput = () => this.showSwipe();
    $("time").oninput = () => (this.showTime(), this.onRedraw());
    $("play").onclick = () => (this.playing ? this.stopPlaying() : this.play());
    $("colour").onchange = () => this.recolour();
    $("size").oninput = () => ((viewer.size = Number($("size").value)), viewer.draw());
    $("up").onchange = () => this.turnUp();
    $("fit").onclick = () => viewer.fit();
    this.wireHandle();
  }

  wireHandle() {
    const handle = $("handle"), move = (event) => {
      const box = $("view").getBoundingClientRect();
      $("swipe").value = (100 * (event.clientX - box.left)) / box.width;
      this.showSwipe();
    };
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.onpointermove = move;
    });
    handle.addEventListener("pointerup", () => (handle.onpointermove = null));
  }

  // Shows a cloud unless it is shown already; of the same scan the camera and the colours stay.
  show(cloud) {
    if (!this.viewer) return this.hide();
    if (this.shown === cloud) return;
    const keep = this.shown?.points === cloud.points && this.shown.facts.origin.join() === cloud.facts.origin.join();
    this.shown = cloud;
    this.showControls(cloud);
    const before = $("colour").value;
    fillSelect($("colour"), colourModes(cloud));
    $("colour").value = keep && cloud.columns[before] ? before : cloud.columns.colour ? "colour" : "height";
    this.viewer.time = cloud.states.length - 1;
    $("time").max = Math.max(1, this.viewer.time);
    $("time").value = this.viewer.time;
    if (!keep) $("size").value = this.viewer.size = cloud.points < 30000 ? 3.5 : cloud.points < 150000 ? 2.5 : 2;
    this.tint = pointColours(cloud, $("colour").value, this.viewer.up);
    this.viewer.show(cloud, this.tint.colours, keep);
    this.showTime();
    this.showLegend();
    this.showSwipe();
    this.showCount(cloud);
  }

  showControls(cloud) {
    $("empty").hidden = true;
    for (const id of ["handle", "sliders", "tag-before", "tag-after"]) $(id).hidden = cloud.states.length < 2;
    for (const id of ["colour", "measure", "section", "fit"]) $(id).disabled = false;
    $("canvas").hidden = false;
  }

  showCount({ points, facts }) {
    const { measured } = facts, number = (value) => value.toLocaleString("en");
    const missing = facts.points > measured ? `; ${number(facts.points - measured)} more have no coordinates` : "";
    $("drawn").textContent = measured > points
      ? `${number(points)} of ${number(measured)} points are drawn, spread evenly; the cleaning and the result have all of them.`
      : `${number(points)} points${missing}.`;
  }

  // Says why no cloud is shown.
  hide(job) {
    this.shown = null;
    if (this.viewer) this.viewer.cloud = null;
    for (const id of ["handle", "sliders", "tag-before", "tag-after", "legend", "cut", "canvas"]) $(id).hidden = true;
    for (const id of ["colour", "measure", "section", "fit"]) $(id).disabled = true;
    $("drawn").textContent = "";
    $("empty").hidden = false;
    const words = !this.viewer ? ["No picture.", NO_WEBGL]
      : !job ? ["No scan is open.", "Drop a file anywhere on this page. It is shown, then cleaned, and you see it before and after from one viewpoint."]
      : job.state === "failed" ? ["This scan cannot be shown.", "The reason stands under “Figures”, with what to do about it."]
      : job.state === "cancelled" ? ["Cancelled.", `The scan was not read. ${howToRestart(job)}`]
      : [`${stateText(job)} …`, "The scan appears here as soon as it is read."];
    $("empty").replaceChildren(make("p", {}, make("b", { textContent: words[0] })), make("p", { textContent: words[1] }));
  }

  turnUp() {
    this.viewer.makeControls($("up").value);
    if (this.viewer.cloud) this.viewer.fit(), this.recolour();
  }

  recolour() {
    this.tint = pointColours(this.shown, $("colour").value, this.viewer.up);
    this.viewer.setColours(this.tint.colours);
    this.showLegend();
    this.onRedraw();
  }

  showLegend() {
    const { ramp, low, high, classes } = this.tint, { unit } = this.shown.facts;
    $("legend").hidden = !ramp && !classes;
    $("legend-bar").hidden = !ramp;
    $("legend-low").textContent = ramp ? valueText(low, this.tint, unit) : "";
    $("legend-high").textContent = ramp ? valueText(high, this.tint, unit) : "";
    $("legend-classes").replaceChildren(...(classes ?? []).map(({ label, colour }) => {
      const swatch = make("i");
      swatch.style.background = `rgb(${colour.join()})`;
      return make("span", {}, swatch, label);
    }));
    if (ramp) drawRamp($("legend-bar"), ramp);
  }

  showSwipe() {
    this.viewer.swipe = $("swipe").value / 100;
    $("handle").style.left = `${$("swipe").value}%`;
    $("tag-before").style.opacity = this.viewer.swipe > 0.12 ? 1 : 0;
    $("tag-after").style.opacity = this.viewer.swipe < 0.88 ? 1 : 0;
    this.viewer.draw();
  }

  showTime() {
    this.viewer.time = Number($("time").value);
    const { time } = this.viewer, last = this.shown.states.length - 1;
    $("step").textContent = time >= last ? "done" : time === 0 ? "not begun" : `pass ${Math.ceil(time)} of ${last}`;
    $("tag-after").textContent = time >= last ? "After" : "On the way";
    this.viewer.draw();
  }

  play() {
    const end = Number($("time").max), start = performance.now(), from = this.viewer.time >= end ? 0 : this.viewer.time;
    $("play").textContent = "Pause";
    const advance = (now) => {
      const time = Math.min(end, from + ((now - start) / 3000) * end);
      $("time").value = time;
      this.showTime();
      if (time >= end) this.stopPlaying();
      else this.playing = requestAnimationFrame(advance);
    };
    this.playing = requestAnimationFrame(advance);
  }

  stopPlaying() {
    cancelAnimationFrame(this.playing);
    this.playing = 0;
    $("play").textContent = "Play";
    this.onRedraw();
  }
}
