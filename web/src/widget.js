// A scan in a notebook: before and after under one camera, in an element that the notebook gives.
import { readBundle } from "./bundle.js";
import { colourModes, pointColours, valueText } from "./colours.js";
import { fillSelect, make } from "./dom.js";
import { Viewer } from "./viewer.js";

const BACK = "#e9eeef";

export function render({ model, el }) {
  const bytes = model.get("bundle");
  const cloud = readBundle(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const both = cloud.states.length > 1;
  const canvas = make("canvas", { tabIndex: 0 }), stage = make("div", {}, canvas), line = make("div"), legend = make("span");
  Object.assign(stage.style, { position: "relative", height: `${model.get("height")}px`, background: BACK, borderRadius: "6px", overflow: "hidden" });
  Object.assign(canvas.style, { position: "absolute", inset: 0, width: "100%", height: "100%" });
  Object.assign(line.style, { display: "flex", flexWrap: "wrap", gap: ".4rem 1rem", alignItems: "center", padding: ".4rem 0", font: "14px system-ui, sans-serif" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The scan in space; drag to turn it.");
  const border = make("div");
  Object.assign(border.style, { position: "absolute", top: 0, bottom: 0, width: "2px", background: "#15252a", pointerEvents: "none" });
  if (both) stage.append(border);
  el.replaceChildren(stage, line);
  const viewer = new Viewer(canvas, () => {}), select = make("select");
  viewer.size = cloud.points < 30000 ? 3.5 : 2.5;
  viewer.time = cloud.states.length - 1;
  fillSelect(select, colourModes(cloud));
  if (cloud.columns.colour) select.value = "colour";
  const colour = () => {
    const tint = pointColours(cloud, select.value, viewer.up), text = (value) => valueText(value, tint, cloud.facts.unit);
    legend.textContent = tint.ramp ? `${text(tint.low)} to ${text(tint.high)}` : "";
    return tint.colours;
  };
  select.onchange = () => viewer.setColours(colour());
  line.append(make("label", {}, "Colour ", select), legend);
  if (both) line.append(make("label", {}, "Before | after ", slider(viewer, border)));
  line.append(`${cloud.points.toLocaleString("en")}${cloud.facts.measured > cloud.points ? ` of ${cloud.facts.measured.toLocaleString("en")}` : ""} points`);
  viewer.show(cloud, colour(), false);
  new ResizeObserver(() => viewer.fitted || (canvas.clientWidth && (viewer.fit(), (viewer.fitted = true)))).observe(canvas);
}

function slider(viewer, border) {
  const input = make("input", { type: "range", min: 0, max: 100, value: 50 });
  const set = () => {
    viewer.swipe = input.value / 100;
    border.style.left = `${input.value}%`;
    viewer.draw();
  };
  input.oninput = set;
  set();
  return input;
}
