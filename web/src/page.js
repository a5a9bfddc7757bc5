// The page: its tabs are started, and files that are dropped go to the one that is open.
import { $, showError } from "./dom.js";
import { askJson } from "./jobs.js";
import { startLikelihood } from "./likelihood.js";
import { startPuzzle } from "./puzzle.js";
import { startScan } from "./scan.js";
import { startShapes } from "./shapes.js";
import { openTab, startTabs } from "./tabs.js";
import { render } from "./widget.js";

// What becomes of files that are dropped on a tab.
const takeFiles = {};

function wireDrop() {
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

async function start() {
  startTabs();
  wireDrop();
  takeFiles.puzzle = startPuzzle();
  try {
    const server = await askJson("/api");
    takeFiles.scan = startScan(server);
    takeFiles.likelihood = startLikelihood(server.images);
    startShapes(server.shapes);
  } catch (error) {
    showError($("warnings"), error.message);
  }
}

// In a notebook there is no page: the same script draws the widget of `becalm.view`.
export default { render };
if (document.getElementById("panel-scan")) start();
