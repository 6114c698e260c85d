import { once } from 'node:events';
import { mkdirSync, readdirSync } from 'node:fs';
import { mkdir, open, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type ConfigText, changeConfig, type FoundServer } from '../../src/cli/config-file.ts';
import { native } from '../../src/native.ts';
import { TempDirectory } from '../support/tools.ts';

const TEXT = `[server]
interface = "lo"
[[target]]
shelf = 1
slot = 0
backend = "memory"
memory = { size = "1M" }
`;
const RELOADED = { added: [], changed: [], removed: [] };

afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

/** A server that does `act` when it is to reload. */
async function findServer(
  directory: TempDirectory,
  act: (configPath: string) => object,
): Promise<FoundServer & AsyncDisposable> {
  const configPath = directory.join('aoe-server.toml');
  const socketPath = directory.join('control.sock');
  await writeFile(configPath, TEXT);
  const server = createServer((_request, response) => {
    const answer = act(configPath);
    response.statusCode = 'error' in answer ? 409 : 200;
    response.end(JSON.stringify(answer));
  });
  await once(server.listen(socketPath), 'listening');
  const status = { configPath } as FoundServer['status'];
  return { socketPath, status, [Symbol.asyncDispose]: async () => void server.close() };
}

/** Paths of what this process has open. */
function openFiles(): Promise<string[]> {
  return Promise.all(
    readdirSync('/proc/self/fd').map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
}

const change = ({ text }: ConfigText) => `${text}# changed\n`;

describe('a change of the configuration file', () => {
  it('that cannot be written is none, and what helps is said', async () => {
    await using directory = await TempDirectory.create();
    await using found = await findServer(directory, () => RELOADED);
    const { configPath } = found.status;
    for (const inTheWay of ['.aoe-server.tmp', '.aoe-server.lock']) {
      await mkdir(configPath + inTheWay);
      await expect(changeConfig(found, change)).rejects.toMatchObject({
        message: expect.stringMatching(/^cannot write .*aoe-server.toml.*: E/),
        remedy: expect.stringContaining('let this user write the file'),
      });
      await rm(configPath + inTheWay, { recursive: true });
      expect(await readFile(configPath, 'utf8')).toBe(TEXT);
    }
  });

  it('whose lock the file system cannot give is none, and leaves no file open', async () => {
    await using directory = await TempDirectory.create();
    await using found = await findServer(directory, () => RELOADED);
    vi.spyOn(native, 'lockFile').mockImplementation(() => {
      throw new Error('ENOLCK: no locks available, flock');
    });
    await expect(changeConfig(found, change)).rejects.toMatchObject({
      message: expect.stringMatching(/^cannot lock .*aoe-server.toml.*: ENOLCK/),
      remedy: expect.stringContaining('file system that can lock files'),
    });
    const open = await openFiles();
    expect(open.filter((path) => path.startsWith(directory.path))).toEqual([]);
    expect(await readFile(found.status.configPath, 'utf8')).toBe(TEXT);
  });

  it('that is refused and cannot be undone is told, with why it was refused', async () => {
    await using directory = await TempDirectory.create();
    await using found = await findServer(directory, (configPath) => {
      mkdirSync(`${configPath}.aoe-server.tmp`);
      return { error: 'no such disk', remedy: 'plug it in' };
    });
    await expect(changeConfig(found, change)).rejects.toMatchObject({
      message: expect.stringMatching(/^no such disk; and the file still says .*: cannot write /),
      remedy: 'plug it in; and undo what was to change',
    });
  });

  it('waits as long for another one when the clock is set', async () => {
    await using directory = await TempDirectory.create();
    await using found = await findServer(directory, () => RELOADED);
    const { configPath } = found.status;
    const other = await open(`${configPath}.aoe-server.lock`, 'w');
    expect(native.lockFile(other.fd)).toBe(true);
    vi.useFakeTimers({ toFake: ['Date'] });
    const changed = changeConfig(found, change);
    setTimeout(() => vi.setSystemTime(Date.now() + 3_600_000), 50);
    setTimeout(() => void other.close(), 300);
    expect(await changed).toEqual(RELOADED);
    expect(await readFile(configPath, 'utf8')).toBe(`${TEXT}# changed\n`);
  });
});
