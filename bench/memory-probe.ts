/**
 * Loaded into a server with `node --import`: reports the memory of its process once a second, a
 * line of JSON each, to file descriptor 3.
 */
import { writeSync } from 'node:fs';

const REPORT_FD = 3;
const INTERVAL_MS = 1000;

setInterval(() => {
  writeSync(REPORT_FD, `${JSON.stringify(process.memoryUsage())}\n`);
}, INTERVAL_MS).unref();
