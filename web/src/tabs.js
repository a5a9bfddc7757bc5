// The tabs: links to #scan, #puzzle …, each of which shows its panel.
import { $ } from "./dom.js";

const ABOUT = {
  scan: "Takes the noise out of a scan. Every point stays; files never leave this computer.",
  puzzle: "Solves a Sudoku of handwritten digits, and shows in which order the model decides the cells.",
  shapes: "Makes new shapes from noise, varies them, completes parts, and interpolates between two.",
  likelihood: "Tells how many bits a model needs to store an image, and which parts of the image need most of them.",
};

export const openTab = () => (ABOUT[location.hash.slice(1)] ? location.hash.slice(1) : "scan");

function show() {
  const open = openTab();
  for (const name of Object.keys(ABOUT)) $(`panel-${name}`).hidden = name !== open;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${open}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  $("about").textContent = ABOUT[open];
  document.title = `becalm: ${open}`;
  dispatchEvent(new Event("resize"));
}

export function startTabs() {
  addEventListener("hashchange", show);
  show();
}
