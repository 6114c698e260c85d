import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers/promises';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { seldomTasks } from '../../src/backends/file-tasks.ts';
import { check } from '../../src/cli/check.ts';
import { changeConfig, type FoundServer } from '../../src/cli/config-file.ts';
import { SERVER } from '../config/samples.ts';
import { TempDirectory } from '../support/tools.ts';

const HANGS = 'the storage of e1.0 hangs';
const TARGET = '[[target]]\nshelf = 1\nslot = 0\nbackend = "file"\nfile.path = "disk.img"\n';
const MEMORY = '[[target]]\nshelf = 2\nslot = 0\nbackend = "memory"\nmemory.size = "1M"\n';

let directory: TempDirectory;
let configPath: string;

beforeEach(async () => {
  directory = await TempDirectory.create();
  configPath = directory.join('aoe-server.toml');
  vi.spyOn(seldomTasks, 'open').mockReturnValue(new Promise(() => {}));
  const sleep = timers.setTimeout;
  vi.spyOn(timers, 'setTimeout').mockImplementation((ms, value, options) =>
    sleep(ms === 15_000 ? 10 : ms, value, options),
  );
  syncBuiltinESMExports();
});
afterEach(async () => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  await directory[Symbol.asyncDispose]();
});

it('is told by a check', async () => {
  await writeFile(configPath, SERVER + TARGET);
  await expect(check(configPath)).rejects.toMatchObject({
    message: HANGS,
    remedy: expect.stringContaining('with an editor'),
  });
});

it.each([
  ['is', SERVER + TARGET, (text: string) => `${text}# changed\n`],
  ['would be', SERVER + MEMORY, (text: string) => text + TARGET],
])('is told by a change of the configuration that it %s in', async (_, before, edit) => {
  await writeFile(configPath, before);
  const socketPath = directory.join('control.sock');
  const server = createServer((_request, response) => void response.end('{}'));
  await once(server.listen(socketPath), 'listening');
  const found: FoundServer = { socketPath, status: { configPath } as FoundServer['status'] };
  await expect(changeConfig(found, ({ text }) => edit(text))).rejects.toThrow(HANGS);
  expect(await readFile(configPath, 'utf8')).toBe(before);
  server.close();
});
