import { mkdtemp, rm } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import timers from 'node:timers/promises';
import { pino } from 'pino';
import type { TomlTable } from 'smol-toml';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RivalWatch, refuseRivals } from '../src/aoe/rival-watch.ts';
import type { LogLevel } from '../src/config/schema.ts';
import { StartupError } from '../src/core/startup-error.ts';
import { LiveOperations } from '../src/live-operations.ts';
import type { PartStatus } from '../src/status.ts';
import type { Callable } from '../src/worker-thread.ts';
import { LiveServer } from './support/live-server.ts';

const DISK_BYTES = 1 << 20;
const RIVAL = new StartupError('e1.0 is already served on aoe0', 'stop that server');
const STOPPING = 'the server is stopping';
const FAILURE = new StartupError('the disk is gone', 'find it');
const IMAGE = { path: 'disk.img', size: DISK_BYTES };
const TARGETS: TomlTable[] = [
  { shelf: 1, slot: 0, backend: 'file', file: IMAGE },
  { shelf: 1, slot: 1, backend: 'memory', memory: { size: DISK_BYTES } },
];
const CAS = { size: DISK_BYTES, blob_store: { type: 'file', path: 'store' } };

vi.mock('../src/aoe/rival-watch.ts', () => ({ refuseRivals: vi.fn(), RivalWatch: vi.fn() }));

let directory: string;
let server: LiveServer;
let operations: LiveOperations;
/** What a reload finds in the configuration file. */
let file: TomlTable[] | Promise<TomlTable[]>;
/** The log level there. */
let logLevel: LogLevel;
/** Sets that of a thread. */
const setLogLevel = vi.fn<Callable['setLogLevel']>();

async function open(targets: TomlTable[]): Promise<void> {
  server = await LiveServer.start(directory, targets);
  file = targets;
  const part: Partial<Callable> = {
    targets: server.targets,
    status: async () => ({ targets: [...server.targets.status()] }) as PartStatus,
    setLogLevel,
  };
  logLevel = 'info';
  const read = (tables: TomlTable[]) => {
    const config = server.read(tables);
    return { ...config, server: { ...config.server, logLevel } };
  };
  operations = new LiveOperations({
    config: read(targets),
    parts: [part as Callable],
    log: pino({ base: null }, { write: () => {} }),
    loadAgain: async () => read(await file),
  });
}

async function start(targets: TomlTable[]): Promise<void> {
  await open(targets);
  await operations.start([]);
}

function states(): string[] {
  return server
    .status()
    .map(([name, , state]) => `${name} ${state}`)
    .sort();
}

/** Names of the targets whose rivals are looked out for. */
function watched(): string[] {
  return vi.mocked(RivalWatch).mock.instances.flatMap(({ targets }) => [...targets.values()]);
}

/** Lets a change go on, so that others wait for their turn, until what is returned is called. */
function holdTurn(): () => void {
  let end = () => {};
  file = new Promise((resolve) => {
    end = () => resolve(TARGETS);
  });
  operations.reload().catch(() => {});
  return end;
}

beforeEach(async () => {
  directory = await mkdtemp('/dev/shm/aoe-operations-');
  vi.mocked(RivalWatch).mockImplementation(function (this: RivalWatch) {
    this.targets = new Map();
    this.close = () => {};
  } as never);
  vi.mocked(refuseRivals).mockResolvedValue();
  setLogLevel.mockResolvedValue();
});
afterEach(async () => {
  setLogLevel.mockReset();
  vi.mocked(refuseRivals).mockReset();
  vi.mocked(RivalWatch).mockReset();
  vi.restoreAllMocks();
  await operations.stop();
  await operations.close();
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

describe('a target that another server serves while it is drained', () => {
  beforeEach(async () => {
    await start(TARGETS);
    await operations.drain('e1.0');
    vi.mocked(refuseRivals).mockClear();
  });

  it.each(['resume', 'readd'] as const)('stays so when it is to %s', async (operation) => {
    vi.mocked(refuseRivals).mockRejectedValue(RIVAL);
    await expect(operations[operation]('e1.0')).rejects.toThrow(RIVAL);
    expect(refuseRivals).toHaveBeenCalledWith(new Map([[0x100, 'e1.0']]), ['aoe0']);
    expect(states()).toEqual(['e1.0 drained', 'e1.1 served']);
    vi.mocked(refuseRivals).mockResolvedValue();
    expect(await operations[operation]('e1.0')).toMatchObject({ drained: false });
  });

  it('stays so when that server has come while it waited for its turn', async () => {
    const { now } = performance;
    const end = holdTurn();
    const resumed = operations.resume('e1.0').catch((error: unknown) => error);
    await expect.poll(() => vi.mocked(refuseRivals).mock.calls.length).toBe(1);
    vi.mocked(refuseRivals).mockRejectedValue(RIVAL);
    vi.spyOn(performance, 'now').mockImplementation(() => now.call(performance) + 3001);
    end();
    expect(await resumed).toBe(RIVAL);
    expect(states()).toEqual(['e1.0 drained', 'e1.1 served']);
  });
});

it('adds no target that another server serves', async () => {
  await start(TARGETS.slice(1));
  vi.mocked(refuseRivals).mockRejectedValue(RIVAL);
  file = TARGETS;
  await expect(operations.reload()).rejects.toThrow(RIVAL);
  expect(refuseRivals).toHaveBeenCalledWith(new Map([[0x100, 'e1.0']]), ['aoe0']);
  expect(states()).toEqual(['e1.1 served']);
});

describe('targets that are resumed together', () => {
  it('are looked for at once, and not again when it is soon their turn', async () => {
    await start(TARGETS);
    for (const name of ['e1.0', 'e1.1']) await operations.drain(name);
    vi.mocked(refuseRivals).mockClear();
    // However long that is here.
    vi.spyOn(performance, 'now').mockReturnValue(performance.now());
    const end = holdTurn();
    const resumed = Promise.all(['e1.0', 'e1.1'].map((name) => operations.resume(name)));
    await expect.poll(() => vi.mocked(refuseRivals).mock.calls.length).toBe(2);
    end();
    await resumed;
    // A reload looks for what it adds: nothing.
    const looks = vi.mocked(refuseRivals).mock.calls.filter(([targets]) => targets.size > 0);
    expect(looks).toHaveLength(2);
    expect(states()).toEqual(['e1.0 served', 'e1.1 served']);
  });
});

describe('a target that is served', () => {
  it('is opened anew without a look: its own server would be found', async () => {
    await start(TARGETS);
    vi.mocked(refuseRivals).mockRejectedValue(RIVAL);
    expect(await operations.readd('e1.0')).toMatchObject({ drained: false });
  });

  it('is left as it is when it is to be resumed', async () => {
    await start(TARGETS);
    const disks = [...server.table];
    expect(await operations.resume('e1.0')).toMatchObject({ drained: false });
    expect([...server.table]).toEqual(disks);
  });
});

describe('a disk in memory', () => {
  it('is not opened anew, as it would be empty', async () => {
    await start(TARGETS);
    const disks = [...server.table];
    await expect(operations.readd('e1.1')).rejects.toThrow('opened anew, it would be empty');
    expect([...server.table]).toEqual(disks);
  });
});

describe('a volume that has the name of a target', () => {
  it('is rolled back beside that one when it serves another store, or a snapshot', async () => {
    const [one, two] = ['store', 'other'].map((path) => join(directory, path)) as [string, string];
    const other = { ...CAS, blob_store: { type: 'file', path: 'other' } };
    const volumes: TomlTable[] = [
      { shelf: 1, slot: 0, backend: 'cas', cas: CAS },
      { shelf: 1, slot: 1, backend: 'cas', cas: other },
    ];
    await start(volumes);
    await operations.store(two)?.clone('e1.1', 'e1.0');
    await operations.store(one)?.snapshot('e1.0', 'monday');
    await operations.store(one)?.clone('monday', 'e1.2');
    const snapshot = { blob_store: CAS.blob_store, root: 'monday' };
    file = [...volumes, { shelf: 1, slot: 2, backend: 'cas', cas: snapshot }];
    await operations.reload();
    for (const target of server.table) target.lastAccessUs = Date.now() * 1000;

    const { signal } = new AbortController();
    const rollBack = (path: string, name: string, source: string) =>
      operations.store(path)?.rollback(name, source, false, signal);
    await expect(rollBack(two, 'e1.0', 'e1.1')).resolves.toMatchObject({ name: 'e1.0' });
    await expect(rollBack(one, 'e1.2', 'monday')).resolves.toMatchObject({ name: 'e1.2' });
    await expect(rollBack(one, 'e1.0', 'monday')).rejects.toThrow('have e1.0 in use');
  });
});

describe('a log level', () => {
  it('is that of all threads', async () => {
    await start(TARGETS);
    expect(await operations.setLogLevel('debug')).toBe(true);
    expect(setLogLevel.mock.calls).toEqual([['debug']]);
    expect(await operations.setLogLevel('loud')).toBe(false);
    expect(setLogLevel).toHaveBeenCalledOnce();
  });

  it('that the operator has set stays until the configuration has another one', async () => {
    await start(TARGETS);
    await operations.reload();
    expect(setLogLevel).not.toHaveBeenCalled();
    logLevel = 'warn';
    await operations.reload();
    await operations.reload();
    expect(setLogLevel.mock.calls).toEqual([['warn']]);
  });

  it('that cannot be set keeps no targets from being what a reload has made of them', async () => {
    await start(TARGETS);
    setLogLevel.mockRejectedValue(new Error('the thread has ended'));
    logLevel = 'warn';
    file = TARGETS.slice(1);
    await expect(operations.reload()).resolves.toMatchObject({ removed: ['e1.0'] });
    await expect(operations.reload()).resolves.toMatchObject({ removed: [] });
  });
});

describe('a server that stops', () => {
  it('waits for a change that goes on, and lets no other begin', async () => {
    await start(TARGETS);
    const end = holdTurn();
    await new Promise(setImmediate);
    const next = operations.setLists('e1.0', {}).catch(({ message }: Error) => message);
    let isStopped = false;
    const stopped = operations.stop().then(() => {
      isStopped = true;
    });
    await new Promise(setImmediate);
    expect(isStopped).toBe(false);
    end();
    await stopped;
    expect(await next).toBe(STOPPING);
  });

  it('lets a change go no further that takes too long', async () => {
    await start(TARGETS);
    let find = (_targets: TomlTable[]) => {};
    file = new Promise((resolve) => {
      find = resolve;
    });
    const reloaded = expect(operations.reload()).rejects.toThrow(STOPPING);
    await new Promise(setImmediate);
    const sleep = timers.setTimeout;
    vi.spyOn(timers, 'setTimeout').mockImplementation((_ms, ...more) => sleep(10, ...more));
    syncBuiltinESMExports();
    await operations.stop();
    vi.restoreAllMocks();
    syncBuiltinESMExports();
    find(TARGETS.slice(1));
    await reloaded;
    expect(states()).toEqual(['e1.0 served', 'e1.1 served']);
  });

  it('waits for the end of work on its stores', async () => {
    await start(TARGETS);
    let end = () => {};
    const closed = vi.spyOn(operations.stores, 'close').mockReturnValueOnce(
      new Promise((resolve) => {
        end = resolve;
      }),
    );
    let isClosed = false;
    const closing = operations.close().then(() => {
      isClosed = true;
    });
    await new Promise(setImmediate);
    expect([closed.mock.calls.length, isClosed]).toEqual([1, false]);
    end();
    await closing;
  });

  it('looks out for rivals no more', async () => {
    await start(TARGETS);
    const [watch] = vi.mocked(RivalWatch).mock.instances as [RivalWatch];
    const closed = vi.spyOn(watch, 'close');
    await operations.close();
    expect(closed).toHaveBeenCalledOnce();
  });
});

describe('rivals', () => {
  it('are looked out for of the targets that are served', async () => {
    await start(TARGETS);
    expect(watched()).toEqual(['e1.0', 'e1.1']);
    await operations.drain('e1.0');
    expect(watched()).toEqual(['e1.1']);
    await operations.resume('e1.0');
    expect(watched().sort()).toEqual(['e1.0', 'e1.1']);
    file = TARGETS.slice(1);
    await operations.reload();
    expect(watched()).toEqual(['e1.1']);
  });

  it('are not of one that a reload has left drained when it failed', async () => {
    await start(TARGETS);
    vi.spyOn(server.targets, 'remember').mockRejectedValueOnce(FAILURE);
    vi.spyOn(server.targets, 'resume').mockRejectedValueOnce(FAILURE);
    file = TARGETS.map((target) => ({ ...target, write_cache: target['slot'] === 0 }));
    await expect(operations.reload()).rejects.toThrow(/not undone: e1.0 as it was/);
    expect(states()).toEqual(['e1.0 drained', 'e1.1 served']);
    expect(watched()).toEqual(['e1.1']);
  });

  it('are not of one that could not be resumed after it was rolled back', async () => {
    await start([{ shelf: 1, slot: 0, backend: 'cas', cas: CAS }, ...TARGETS.slice(1)]);
    const store = operations.store(join(directory, 'store'));
    await store?.snapshot('e1.0', 'monday');
    vi.spyOn(server.targets, 'resume').mockRejectedValueOnce(FAILURE);
    const { signal } = new AbortController();
    await expect(store?.rollback('e1.0', 'monday', false, signal)).rejects.toThrow(FAILURE);
    expect(states()).toEqual(['e1.0 drained', 'e1.1 served']);
    expect(watched()).toEqual(['e1.1']);
  });

  it('are not looked out for by a server that stops before it has begun to', async () => {
    await open(TARGETS);
    let stopped: Promise<void> | undefined;
    vi.spyOn(server.targets, 'serve').mockImplementationOnce(async () => {
      stopped = operations.stop();
    });
    await operations.start([]);
    await stopped;
    expect(RivalWatch).not.toHaveBeenCalled();
  });
});
