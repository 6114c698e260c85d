/**
 * Coverage-guided fuzzing of what strangers and power cuts can give a server: frames, for two
 * thirds of the time, and state files.
 *
 *     npm run fuzz -- --seconds 3600
 *
 * `corpus/` holds inputs that are always tried first: findings of before, and inputs that reach
 * what chance seldom does. With --save, inputs of this run that ran new code are added to it.
 * A finding is written there too, and ends the run with status 1.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readInputs, writeInput } from './corpus.ts';
import { Coverage } from './coverage.ts';
import { FuzzLoop, type Target } from './loop.ts';

const CORPUS = join(process.cwd(), 'test/fuzz/corpus');
/** An input that takes longer than this is a finding. */
const HANG_MS = 10_000;

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: `${Date.now() % 2 ** 31}` },
    save: { type: 'boolean', default: false },
  },
});

// Before anything that it shall count is compiled.
const coverage = new Coverage(/\/\.cache\/fuzz\/src\/|\/zod\//);
const { frames } = await import('./frames.ts');
const { stateFile } = await import('./state-file.ts');

const totalMs = Number(options.seconds) * 1000;
await fuzz('frames', frames, (totalMs * 2) / 3);
await fuzz('state-file', stateFile, totalMs / 3);
process.exit(0);

async function fuzz(name: string, target: Target, durationMs: number): Promise<void> {
  const folder = join(CORPUS, name);
  mkdirSync(folder, { recursive: true });
  const inputs = [...target.seeds, ...readInputs(folder)];
  const loop = new FuzzLoop(target, coverage, Number(options.seed));
  const hangWatch = watchForHangs(loop, folder);
  const finding = await loop.run(inputs, performance.now() + durationMs);
  clearInterval(hangWatch);
  if (finding !== undefined) fail(folder, finding.input, finding.error);
  const found = loop.discoveries.filter((input) => !inputs.includes(input));
  console.log(
    `${name}: ${loop.executions} inputs in ${Math.round(durationMs / 1000)} s, ` +
      `${loop.corpus.length} kept, ${found.length} ran new code, ${loop.outcomes} outcomes, ` +
      `seed ${options.seed}: no finding`,
  );
  if (options.save) for (const input of found) writeInput(folder, input);
}

function watchForHangs(loop: FuzzLoop, folder: string): NodeJS.Timeout {
  let last = -1;
  return setInterval(() => {
    if (loop.executions === last) fail(folder, loop.current, new Error('the server hangs'));
    last = loop.executions;
  }, HANG_MS);
}

function fail(folder: string, input: Buffer, error: unknown): never {
  console.error(`A finding, seed ${options.seed}; it is kept in ${writeInput(folder, input)}`);
  console.error(error);
  process.exit(1);
}
