// Bundles src/ into built/: files named by their content, each with its gzip, and index.html that names them.
import { build } from "esbuild";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const OUT = "built";
await rm(OUT, { recursive: true, force: true });
await mkdir(OUT, { recursive: true });

const { metafile } = await build({
  entryPoints: { main: "src/main.tsx", style: "src/style/index.css" },
  outdir: OUT,
  bundle: true,
  splitting: true,
  format: "esm",
  minify: true,
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  legalComments: "none",
  metafile: true,
});

const outputs = Object.entries(metafile.outputs);
const built = (entry) => outputs.find(([, output]) => output.entryPoint === entry)[0];
const main = built("src/main.tsx");
const withPrefix = (path) => path.replace(`${OUT}/`, "page/");
// what main.js imports at once, so that the browser need not read it first to learn of them
const preloaded = metafile.outputs[main].imports
  .filter((one) => one.kind === "import-statement")
  .map((one) => `<link rel="modulepreload" href="${withPrefix(one.path)}">`);
const html = (await readFile("index.html", "utf8"))
  .replace("{{style}}", withPrefix(built("src/style/index.css")))
  .replace("{{preloaded}}", preloaded.join(""))
  .replace("{{main}}", withPrefix(main));
await writeFile(`${OUT}/index.html`, html);

// the licences of what is bundled ask for their text to go with it
const packages = new Set(
  Object.keys(metafile.inputs).flatMap((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []),
);
const licences = await Promise.all([...packages].sort().map(licenceOf));
await writeFile(`${OUT}/licences.txt`, licences.join("\n\n"));

async function licenceOf(name) {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(await readFile(`${folder}/package.json`, "utf8"));
  const files = (await readdir(folder)).filter((file) => /^(licen[cs]e|notice)/i.test(file)).sort();
  const texts = await Promise.all(files.map((file) => readFile(`${folder}/${file}`, "utf8")));
  return [`==== ${name} ${version} (${license})`, ...texts].join("\n");
}

for (const name of await readdir(OUT)) {
  await writeFile(`${OUT}/${name}.gz`, gzipSync(await readFile(`${OUT}/${name}`), { level: 9 }));
}
