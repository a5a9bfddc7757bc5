// The tab of scans: scans in, before and after under one camera, figures beside, the result out.
import { readBundle } from "./bundle.js";
import { $, fillSelect } from "./dom.js";
import { ask } from "./jobs.js";
import { showFacts, showRefusal } from "./scan_facts.js";
import { fail, ScanList } from "./scan_list.js";
import { Stage } from "./scan_stage.js";
import { Tools } from "./scan_tools.js";
import { Viewer } from "./viewer.js";

let list, stage, tools;

// Starts the tab; gives what takes files that are dropped on it.
export function startScan(server) {
  const viewer = makeViewer();
  stage = new Stage(viewer, () => tools?.drawSection());
  tools = viewer && new Tools(viewer, () => stage.tint.colours);
  window.becalm = viewer; // for measurements: benchmarks/page.py
  list = new ScanList(server, { options: readOptions, onOpen, onChange: showOpen, onError: showRefusal });
  fillSelect($("model"), server.models);
  $("kinds").textContent = server.suffixes.filter((name) => name !== ".safetensors").join(" ");
  $("files").accept = server.suffixes.join();
  $("choose").onclick = () => $("files").click();
  $("files").onchange = () => {
    list.addFiles([...$("files").files]);
    $("files").value = "";
  };
  $("example").onclick = () => list.addExample();
  $("again").onclick = () => list.again();
  list.restore(server.jobs);
  return (files) => list.addFiles(files);
}

// Null where the browser cannot draw in space.
function makeViewer() {
  try {
    return new Viewer($("canvas"), () => tools?.drawOverlay());
  } catch {
    return null;
  }
}

function readOptions() {
  const query = new URLSearchParams({ model: $("model").value, outliers: $("outliers").value });
  for (const [id, name] of [["noise", "noise"], ["most", "max_displacement"]]) {
    const value = $(id).value.trim().replace(",", ".");
    if (value) query.set(name, value);
  }
  return query;
}

// Another scan is opened; with `keep` it is the one that is shown already.
function onOpen(keep) {
  if (!keep) stage.shown = null;
  tools?.stop();
  return showOpen();
}

// Loads what there is of the open scan and shows it, its figures and its errors.
async function showOpen() {
  const entry = list.open, part = entry?.job.run ? "run" : entry?.job.scan ? "scan" : null;
  if (part && entry.job.id && entry.part !== part) {
    try {
      const cloud = readBundle(await (await ask(`/jobs/${entry.job.id}/${part}`)).arrayBuffer());
      Object.assign(entry, { cloud, part });
    } catch (error) {
      fail(entry, error.message);
    }
  }
  if (entry !== list.open) return;
  showFacts(entry);
  if (entry?.cloud) stage.show(entry.cloud);
  else stage.hide(entry?.job);
}
