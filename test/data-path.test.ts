import { mkdtemp, rm } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import timers from 'node:timers/promises';
import { pino } from 'pino';
import { stringify, type TomlTable } from 'smol-toml';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AoeTarget } from '../src/aoe/aoe-target.ts';
import { addressOf } from '../src/aoe/codec/header.ts';
import { StateStore } from '../src/aoe/state-store.ts';
import { openCasStore } from '../src/backends/cas/index.ts';
import { parseConfig } from '../src/config/load.ts';
import type { BlockStatus } from '../src/core/block-error.ts';
import { CommittedDevice } from '../src/core/committed-device.ts';
import { RequestPool } from '../src/core/request-pool.ts';
import { DataPath } from '../src/data-path.ts';
import { native } from '../src/native.ts';
import { LinkSupervisor } from '../src/net/link-supervisor.ts';

const SIZE = 1 << 20;
const FLUSH_MS_MAX = 10_000;

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp('/dev/shm/aoe-data-path-');
});
afterEach(async () => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  await rm(directory, { recursive: true });
});

it('tells the status of targets one after the other, with turns of the event loop in between', async () => {
  const memory = { backend: 'memory', memory: { size: SIZE } };
  const { path, state } = await open([
    { shelf: 1, slot: 0, ...memory },
    { shelf: 1, slot: 1, ...memory },
  ]);
  skipTime();
  let turnCount = 0;
  setImmediate(() => turnCount++);
  const { targets } = await path.status();
  expect(targets.map(({ name }) => name)).toEqual(['e1.0', 'e1.1']);
  expect(turnCount).toBe(1);
  await path.close();
  await state.close();
});

it('takes no more requests when it stops, and answers until none is in flight', async () => {
  const memory = { backend: 'memory', memory: { size: SIZE } };
  const { path, state } = await open([{ shelf: 1, slot: 0, ...memory }]);
  const stopped = vi.spyOn(LinkSupervisor.prototype, 'stopReceiving');
  const closed = vi.spyOn(LinkSupervisor.prototype, 'close');
  const inFlight = vi.spyOn(RequestPool.prototype, 'inFlight', 'get').mockReturnValue(1);
  const closing = path.close();
  await timers.setTimeout(20);
  expect([stopped.mock.calls.length, closed.mock.calls.length]).toEqual([1, 0]);
  inFlight.mockReturnValue(0);
  await closing;
  expect(closed).toHaveBeenCalledOnce();
  await state.close();
});

describe('a data path of which the storage of one target hangs', () => {
  it('closes all others when it stops', async () => {
    const cas = { size: SIZE, blob_store: { type: 'file', path: 'store' } };
    const { path, state, targets } = await open([
      { shelf: 1, slot: 0, backend: 'file', file: { path: 'disk.img', size: SIZE } },
      { shelf: 1, slot: 1, backend: 'cas', write_cache: true, cas },
    ]);
    skipTime();
    vi.spyOn(CommittedDevice.prototype, 'flush').mockReturnValue(
      new Promise<BlockStatus>(() => {}),
    );
    const hanging = targets.slice(0, 1).map(addressOf);
    await expect(path.targets.drain(hanging)).rejects.toThrow('the storage of e1.0 hangs');

    const close = vi.spyOn(AoeTarget.prototype, 'close');
    await expect(path.close()).rejects.toThrow('requests in flight were abandoned');
    const closed = close.mock.contexts as AoeTarget[];
    expect(closed.map(({ name }) => name)).toEqual(['e1.1']);
    const store = await openCasStore(join(directory, 'store'));
    await store.close();
    await state.close();
  });
});

/** Opens a data path that serves `tables`, and no link. */
async function open(tables: readonly TomlTable[]) {
  const text = stringify({
    server: { interfaces: ['aoe0'], state_dir: 'state' },
    target: tables,
  });
  const { server, targets } = parseConfig(text, join(directory, 'aoe-server.toml'), {});
  const state = await StateStore.open(server.stateDir, native.lockFile);
  const path = new DataPath({
    server,
    targets,
    share: { index: 0, count: 1 },
    state,
    log: pino({ enabled: false }),
    makeRoom: async () => false,
    onFailed: () => {},
  });
  await path.targets.open(targets);
  await path.targets.remember();
  await path.targets.serve([]);
  return { path, state, targets };
}

/** Lets the time pass at once that a flush, and what is in flight, have. */
function skipTime(): void {
  const sleep = timers.setTimeout;
  vi.spyOn(timers, 'setTimeout').mockImplementation((ms, value, options) =>
    sleep(ms === FLUSH_MS_MAX ? 10 : ms, value, options),
  );
  syncBuiltinESMExports();
  let nowMs = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => {
    nowMs += 1000;
    return nowMs;
  });
}
