// PostgreSQL with TimescaleDB, in WASM and in memory: `node server.mjs [LICENCE]` prints {"port": ...} once it serves.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { timescaledb } from "@electric-sql/pglite/timescaledb";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";

const licence = process.argv[2] ?? "timescale";
const dataDir = mkdtempSync(join(tmpdir(), "timescaledb-"));
process.on("exit", () => rmSync(dataDir, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));

const open = () => PGlite.create({ dataDir, extensions: { timescaledb } });
let db = await open();
await db.exec("CREATE EXTENSION timescaledb WITH SCHEMA public");
if (licence !== "timescale") {
  // a licence is read at the start of a server only
  await db.exec(`ALTER SYSTEM SET timescaledb.license = '${licence}'`);
  await db.close();
  db = await open();
}
const server = new PGLiteSocketServer({ db, host: "127.0.0.1", port: 0 });
server.addEventListener("listening", (event) => console.log(JSON.stringify({ port: event.detail.port })));
await server.start();
