// The list of scans: files are sent one after another, their jobs go on, and one entry is open.
import { $, make, tell } from "./dom.js";
import { ACTIVE, ask, askJson, send, stateText } from "./jobs.js";

const isBusy = ({ state }) => ["queued", "sending", ...ACTIVE].includes(state);

export function fail(entry, text) {
  Object.assign(entry.job, { state: "failed", error: text });
}

export class ScanList {
  entries = []; // {job, file?, request?, cloud?, part?, item?}: one a scan, newest last
  open = undefined;
  sending = false;

  // `limits` has suffixes and upload, `options` gives the query of a new job; `onOpen(keep)` is called when another entry is
  // opened, `onChange()` when the state of the open one may have changed, `onError(text)` when the server refuses a request.
  constructor(limits, { options, onOpen, onChange, onError }) {
    Object.assign(this, { limits, options, onOpen, onChange, onError });
  }

  // Lists the jobs with these numbers that the server still has.
  async restore(numbers) {
    for (const id of new Set([...numbers, ...JSON.parse(sessionStorage.getItem("becalm") ?? "[]")])) {
      const job = await askJson(`/jobs/${id}`).catch(() => null);
      if (job) this.entries.push({ job });
    }
    await this.select(this.entries[0]);
    this.poll();
  }

  remember() {
    sessionStorage.setItem("becalm", JSON.stringify(this.entries.map(({ job }) => job.id).filter(Boolean)));
  }

  addFiles(files) {
    for (const file of files) {
      const entry = { file, job: { name: file.name, state: "queued", done: 0, warnings: [] } };
      this.entries.push(entry);
      const fault = this.fault(file);
      if (fault) fail(entry, `${file.name}: ${fault}`);
    }
    if (files.length) this.select(this.entries.find((entry) => entry.file === files[0]));
    this.show();
    this.sendNext();
  }

  // Why a file is not taken; an empty text where it is.
  fault(file) {
    const { suffixes, upload } = this.limits, suffix = /\.[^.]*$/.exec(file.name)?.[0].toLowerCase();
    if (!suffixes.includes(suffix)) return `becalm does not read this kind of file. It reads ${suffixes.join(" ")}.`;
    if (file.size > upload) return `is larger than the ${Math.round(upload / 1e6)} MB taken here. The command “becalm denoise” has no such limit.`;
    return file.size ? "" : "the file is empty.";
  }

  async sendNext() {
    const entry = this.entries.find(({ job }) => job.state === "queued");
    if (this.sending || !entry) return;
    this.sending = true;
    entry.job.state = "sending";
    const query = this.options();
    query.set("name", entry.file.name);
    try {
      entry.job = await send(entry, query, (share) => {
        entry.job.done = share;
        this.show();
      });
      entry.file = null;
      this.remember();
    } catch (error) {
      if (error.message === "cancelled") entry.job.state = "cancelled";
      else fail(entry, error.message);
    }
    this.sending = false;
    this.show();
    this.onChange();
    this.sendNext();
  }

  addExample() {
    const query = this.options();
    query.set("name", "example.ply");
    query.set("example", "yes");
    return this.addJob(`/jobs?${query}`);
  }

  // Cleans the open scan once more, with the options as they are now; the picture stays as it is meanwhile.
  again() {
    return this.addJob(`/jobs/${this.open.job.id}/again?${this.options()}`, this.open.cloud);
  }

  async addJob(address, cloud) {
    try {
      const entry = { job: await askJson(address, "POST"), cloud, part: null };
      this.entries.push(entry);
      this.remember();
      await this.select(entry, Boolean(cloud));
      entry.item.querySelector(".name").focus();
    } catch (error) {
      this.onError(error.message);
    }
  }

  async select(entry, keep = false) {
    this.open = entry;
    this.show();
    await this.onOpen(keep);
  }

  async poll() {
    for (const entry of this.entries.filter(({ job }) => ACTIVE.includes(job.state))) {
      try {
        entry.job = await askJson(`/jobs/${entry.job.id}`);
        if (!ACTIVE.includes(entry.job.state)) tell(`${entry.job.name}: ${stateText(entry.job)}`);
      } catch (error) {
        fail(entry, error.message);
      }
      this.show();
      if (entry === this.open) await this.onChange();
    }
    setTimeout(() => this.poll(), 300);
  }

  async cancel(entry) {
    if (entry.request && entry.job.state === "sending") return entry.request.abort();
    if (entry.job.state === "queued") entry.job.state = "cancelled";
    else entry.job = await askJson(`/jobs/${entry.job.id}/cancel`, "POST");
    this.show();
    this.onChange();
  }

  async remove(entry) {
    const number = this.entries.indexOf(entry);
    this.entries.splice(number, 1);
    if (entry.job.id) await ask(`/jobs/${entry.job.id}`, "DELETE").catch(() => {});
    this.remember();
    if (entry === this.open) await this.select(this.entries.at(-1));
    this.show();
    ($("jobs").children[number]?.querySelector(".row button") ?? $("choose")).focus();
  }

  // Items stay the same elements while their jobs go on: a button that is exchanged between press and release is not clicked.
  show() {
    const list = $("jobs"), items = this.entries.map((entry) => this.item(entry));
    $("no-jobs").hidden = this.entries.length > 0;
    $("example").hidden = this.entries.length > 0;
    for (const item of [...list.children]) if (!items.includes(item)) item.remove();
    for (const item of items) if (item.parentElement !== list) list.append(item);
  }

  item(entry) {
    const { job } = entry;
    entry.item ??= this.makeItem(entry);
    const [name, row, bar] = entry.item.children, [state, end] = row.children;
    entry.item.className = entry === this.open ? "open" : "";
    name.textContent = job.name;
    name.setAttribute("aria-current", entry === this.open);
    state.textContent = stateText(job);
    end.textContent = isBusy(job) ? "Cancel" : "Remove";
    end.setAttribute("aria-label", `${end.textContent} ${job.name}`);
    bar.hidden = !["sending", "running"].includes(job.state);
    bar.setAttribute("aria-label", `Progress of ${job.name}`);
    if (job.state === "sending" || job.scan) bar.value = job.done;
    else bar.removeAttribute("value");
    return entry.item;
  }

  makeItem(entry) {
    const name = make("button", { type: "button", className: "name", onclick: () => this.select(entry) });
    const end = make("button", { type: "button", onclick: () => (isBusy(entry.job) ? this.cancel(entry) : this.remove(entry)) });
    return make("li", {}, name, make("div", { className: "row" }, make("span", { className: "state" }), end), make("progress", { max: 1 }));
  }
}
