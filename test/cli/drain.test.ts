import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { createProgram } from '../../src/cli/program.ts';
import { TARGET } from '../config/samples.ts';
import { TempDirectory } from '../support/tools.ts';

const NAMES = Array.from({ length: 12 }, (_, slot) => `e1.${slot}`);

let directory: TempDirectory;
let server: http.Server;
/** What was asked and has no answer yet. */
let asked: { readonly name: string; readonly response: http.ServerResponse }[];
let printed: string[];

beforeEach(async () => {
  directory = await TempDirectory.create();
  asked = [];
  printed = [];
  server = http.createServer(({ url = '' }, response) => {
    asked.push({ name: url.split('/')[3] as string, response });
  });
  await once(server.listen(directory.join('control.sock')), 'listening');
  await writeFile(
    directory.join('aoe.toml'),
    `[server]\ninterface = "lo"\nstate_dir = "."\n${TARGET}`,
  );
  for (const method of ['log', 'error'] as const) {
    vi.spyOn(console, method).mockImplementation((line) => void printed.push(line));
  }
});
afterEach(async () => {
  vi.restoreAllMocks();
  server.closeAllConnections();
  server.close();
  await directory[Symbol.asyncDispose]();
});

async function resume(...args: string[]): Promise<void> {
  const line = ['resume', ...args, '--config', directory.join('aoe.toml')];
  await createProgram().parseAsync(line, { from: 'user' });
}

/** Answers for those of the targets that were asked for. */
function answer(...names: string[]): void {
  for (const { name, response } of asked) {
    if (!names.includes(name)) continue;
    response.end(JSON.stringify({ name, sizeBytes: 1 << 20, drained: false }));
  }
  asked = asked.filter(({ name }) => !names.includes(name));
}

it('asks for eight at a time, and tells of them in their order', async () => {
  const resumed = resume(...NAMES);
  await expect.poll(() => asked.length).toBe(8);
  answer(...NAMES.slice(1));
  await expect.poll(() => asked.length).toBe(5);
  expect(printed).toEqual([]);
  answer(...NAMES);
  await resumed;
  expect(printed).toEqual(NAMES.map((name) => `${name} is served, 1MiB`));
});

it.each([false, true])(
  'tells of all that are done when the server goes away (JSON: %s)',
  async (json) => {
    const [stuck, done, refused, late] = NAMES as [string, string, string, string];
    const options = json ? ['--json'] : [];
    const resumed = resume(stuck, done, refused, late, ...options).catch((error: Error) => error);
    await expect.poll(() => asked.length).toBe(4);
    answer(done, late);
    const refusal = asked.find(({ name }) => name === refused)?.response.writeHead(409);
    refusal?.end(JSON.stringify({ error: `${refused} is refused`, remedy: 'no' }));
    await expect.poll(() => refusal?.writableFinished).toBe(true);
    server.closeAllConnections();
    expect(await resumed).toMatchObject({ message: expect.stringContaining('cannot reach') });
    const problem = [`aoe-server: ${refused} is refused`, '    no'];
    expect(printed.splice(-2)).toEqual(problem);
    if (json) expect(JSON.parse(printed.join())).toMatchObject([{ name: done }, { name: late }]);
    else expect(printed).toEqual([done, late].map((name) => `${name} is served, 1MiB`));
  },
);
