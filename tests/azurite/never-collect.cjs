// Loaded into Azurite before its program: it collects its garbage ten minutes after its start and answers nobody
// meanwhile, for minutes where hundreds of thousands of pages were written. A run of the tests needs no such room back.
const fs = require("node:fs");
const path = require("node:path");

const LONGEST_TIMER_MS = 2 ** 31 - 1;

const program = fs.realpathSync(process.argv[1]);
const constants = require(path.join(path.dirname(program), "utils", "constants.js"));
if (typeof constants.DEFAULT_GC_INTERVAL_MS !== "number") {
    throw new Error(`${program} has no DEFAULT_GC_INTERVAL_MS: this is another Azurite than the tests know`);
}
constants.DEFAULT_GC_INTERVAL_MS = LONGEST_TIMER_MS;
