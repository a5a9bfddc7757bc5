// Builds the page into becalm/page/static: `npm ci && npm run build`.
// SHA256SUMS there has a line for each built file and one for the sources, so that a stale build shows.
import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const target = "../becalm/page/static";
await build({
  entryPoints: ["src/page.js"],
  outfile: `${target}/page.js`,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "eof",
});
await build({ entryPoints: ["src/page.css"], outfile: `${target}/page.css`, minify: true, target: "es2022" });
for (const name of ["index.html", "icon.svg"]) copyFileSync(`src/${name}`, `${target}/${name}`);

const sum = (parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("hex");
const sources = readdirSync("src").sort().map((name) => readFileSync(`src/${name}`));
const built = ["icon.svg", "index.html", "page.css", "page.js"];
const lines = built.map((name) => `${sum([readFileSync(`${target}/${name}`)])}  ${name}`);
writeFileSync(`${target}/SHA256SUMS`, [...lines, `${sum(sources)}  sources`, ""].join("\n"));
