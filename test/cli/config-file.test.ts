import { once } from 'node:events';
import { open, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { changeConfig, type FoundServer } from '../../src/cli/config-file.ts';
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
  vi.useRealTimers();
});

describe('a change of the configuration file', () => {
  it('waits as long for another one when the clock is set', async () => {
    await using directory = await TempDirectory.create();
    const configPath = directory.join('aoe-server.toml');
    const socketPath = directory.join('control.sock');
    await writeFile(configPath, TEXT);
    const server = createServer((_request, response) => response.end(JSON.stringify(RELOADED)));
    await once(server.listen(socketPath), 'listening');
    const other = await open(`${configPath}.aoe-server.lock`, 'w');
    expect(native.lockFile(other.fd)).toBe(true);
    vi.useFakeTimers({ toFake: ['Date'] });
    const found = { socketPath, status: { configPath } } as FoundServer;
    const changed = changeConfig(found, ({ text }) => `${text}# changed\n`);
    setTimeout(() => vi.setSystemTime(Date.now() + 3_600_000), 50);
    setTimeout(() => void other.close(), 300);
    try {
      expect(await changed).toEqual(RELOADED);
    } finally {
      server.close();
    }
    expect(await readFile(configPath, 'utf8')).toBe(`${TEXT}# changed\n`);
  });
});
