// Beside the picture: the figures of the open scan, its warnings and errors, and the download.
import { $, make, tell } from "./dom.js";
import { howToRestart } from "./jobs.js";

const fine = (textContent) => make("p", { className: "fine", textContent });

export function showFacts(entry) {
  const job = entry?.job, facts = entry?.cloud?.facts, recorded = job?.state === "done" && job.bytes === null;
  $("again").disabled = !job?.id || job.state === "receiving" || recorded;
  const rows = facts?.summary ?? (facts ? [["Points", facts.points.toLocaleString("en")]] : []);
  const table = make("table", {}, make("tbody", {}, ...rows.map(([name, value]) =>
    make("tr", {}, make("th", { textContent: name, scope: "row" }), make("td", { textContent: value })),
  )));
  const notes = [...(facts?.notes ?? []), ...(facts && !facts.unit ? ["Lengths are in the scan’s own units."] : [])];
  $("facts").replaceChildren(...(rows.length ? [table] : []), ...notes.map(fine), ...(facts?.summary ? [] : [fine(whyFew(job, recorded))]));
  showDownload(job);
  const lines = [...new Set(job?.warnings ?? [])].map((textContent) => make("p", { className: "warning", textContent }));
  $("warnings").replaceChildren(...(job?.error ? [make("p", { className: "error", textContent: job.error })] : []), ...lines);
}

function whyFew(job, recorded) {
  if (recorded) return "A recorded run has no further figures.";
  if (job?.state === "running" || job?.state === "waiting") return "More appear when the scan is clean.";
  if (job?.state === "cancelled") return `Cancelled before the scan was clean. ${howToRestart(job)}`;
  return "They appear here when a scan is clean.";
}

function showDownload(job) {
  const ready = job?.state === "done" && job.bytes !== null;
  $("download").hidden = $("download-note").hidden = !ready;
  if (!ready) return;
  Object.assign($("download"), { href: `/jobs/${job.id}/result`, download: job.output, textContent: `Download ${job.output}` });
  $("download-note").textContent = `${(job.bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB, the same bytes that “becalm denoise” writes.`;
}

// An error that belongs to no scan, above the warnings of the open one.
export function showRefusal(text) {
  $("warnings").replaceChildren(make("p", { className: "error", textContent: text }), ...$("warnings").querySelectorAll(".warning"));
  tell(text);
}
