// Prints, as JSON, what the Khronos validator says about each GLB named on the command line.
// GLTF_VALIDATOR names the folder whose node_modules holds the package gltf-validator.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const folder = resolve(process.env.GLTF_VALIDATOR ?? ".");
const validator = createRequire(join(folder, "index.js"))("gltf-validator");

const reports = [];
for (const path of process.argv.slice(2)) {
  const report = await validator.validateBytes(new Uint8Array(readFileSync(path)), { uri: path });
  const { numErrors: errors, numWarnings: warnings, numInfos: infos, numHints: hints, messages } =
    report.issues;
  reports.push({ path, errors, warnings, infos, hints, messages: messages.slice(0, 5) });
}
console.log(JSON.stringify(reports));
