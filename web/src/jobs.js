// What is asked of the server: uploads, one after another, and the state of jobs.
import { make, showError, tell } from "./dom.js";

export async function ask(address, method = "GET", more = {}) {
  const answer = await fetch(address, { method, ...more }).catch(() => {
    throw new Error("The server does not answer. If it was stopped, start it again by “becalm serve” and open the new address.");
  });
  if (!answer.ok) throw new Error((await answer.text()) || `The server refused (${answer.status}).`);
  return answer;
}

export const askJson = async (address, method, more) => (await ask(address, method, more)).json();

// Sends a file; `onShare` is called with the share that has arrived. The request can be aborted by `entry.request`.
export function send(entry, query, onShare) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    entry.request = request;
    request.open("POST", `/jobs?${query}`);
    request.upload.onprogress = ({ loaded, total }) => onShare(loaded / total);
    request.onload = () =>
      request.status === 201 ? resolve(JSON.parse(request.responseText)) : reject(new Error(request.responseText || `refused (${request.status})`));
    request.onerror = () => reject(new Error("The file could not be sent: the server does not answer, or refused it because of its size."));
    request.onabort = () => reject(new Error("cancelled"));
    request.send(entry.file);
  });
}

// "about 3 minutes left"
export function timeLeft(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 5) return "a few seconds left";
  if (seconds < 90) return `about ${Math.ceil(seconds / 5) * 5} seconds left`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} minutes left`;
  return `about ${(seconds / 3600).toFixed(1)} hours left`;
}

// One line on where a job stands.
export function stateText(job) {
  const share = `${Math.round(100 * (job.done ?? 0))} %`;
  switch (job.state) {
    case "sending": return `Reading in, ${share}`;
    case "queued": return "Waits to be read in";
    case "receiving": return "Arriving";
    case "waiting": return "Waits for its turn";
    case "running": return job.scan ? [`Cleaning, ${share}`, timeLeft(job.seconds_left)].filter(Boolean).join(", ") : "Reading the scan";
    case "done": return job.bytes === null ? "Recorded run" : "Clean";
    case "cancelled": return "Cancelled";
    default: return "Could not be cleaned";
  }
}

// How a cancelled job is started again: the server has the files of those that it gave a number.
export const howToRestart = (job) => (job.id ? "Press “Clean this scan again” under “How to clean” to start it again." : "Drop the file again to start again.");

// States of jobs that go on at the server.
export const ACTIVE = ["receiving", "waiting", "running"];

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Sends a file and follows the job to its end, with a bar, the time left and a button that cancels in `box`. `onChange` is called
// with each state of the job. Gives the job, done; null where it was cancelled or failed, in which case the box says why.
export async function follow(box, query, body, word, onChange = () => {}) {
  const text = make("span", { className: "state" }), bar = make("progress", { max: 1 });
  const stop = make("button", { type: "button", textContent: "Cancel" });
  bar.setAttribute("aria-label", word);
  box.replaceChildren(make("div", { className: "row" }, text, stop), bar);
  box.hidden = false;
  const show = (job) => {
    const begun = job.state === "running" && job.done > 0;
    text.textContent = begun ? [`${word}, ${Math.round(100 * job.done)} %`, timeLeft(job.seconds_left)].filter(Boolean).join(", ") : "Starting …";
    if (begun) bar.value = job.done;
  };
  try {
    let job = await askJson(`/jobs?${new URLSearchParams(query)}`, "POST", { body });
    stop.onclick = () => ask(`/jobs/${job.id}/cancel`, "POST").catch(() => {});
    for (; ACTIVE.includes(job.state); job = await askJson(`/jobs/${job.id}`)) {
      show(job);
      await onChange(job);
      await wait(300);
    }
    await onChange(job);
    if (job.state === "failed") throw new Error(job.error);
    const lines = [...new Set(job.warnings)].map((textContent) => make("p", { className: "warning", textContent }));
    box.replaceChildren(...(job.state === "cancelled" ? [make("p", { className: "fine", textContent: "Cancelled." })] : lines));
    box.hidden = !box.childElementCount;
    tell(job.state === "done" ? `${word}: done` : "Cancelled");
    return job.state === "done" ? job : null;
  } catch (error) {
    showError(box, error.message);
    return null;
  }
}
