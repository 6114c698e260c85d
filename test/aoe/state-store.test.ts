import { execFile } from 'node:child_process';
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type SavedTarget, StateStore } from '../../src/aoe/state-store.ts';
import { StartupError } from '../../src/core/startup-error.ts';
import { native } from '../../src/native.ts';
import { descriptorsOf } from '../support/tools.ts';

const SAVED: SavedTarget = {
  configString: new Uint8Array(Buffer.from('aoe-disk-1')),
  maskList: [0x0200_0000_0001, 0xfeff_ffff_ffff],
  reserveList: [0x0a],
  sizeBytes: 2 ** 40,
};
const FRESH: SavedTarget = {
  maskList: [],
  reserveList: [],
  sizeBytes: 0,
};

let home: string;
let directory: string;
const stores: StateStore[] = [];

async function openStore(lockFile = native.lockFile): Promise<StateStore> {
  const store = await StateStore.open(directory, lockFile);
  stores.push(store);
  return store;
}

async function failureOf(promise: Promise<unknown>): Promise<StartupError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(StartupError);
  return error as StartupError;
}

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'aoe-state-'));
  directory = join(home, 'new', 'state');
});

afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  await rm(home, { recursive: true });
});

/** Makes a node of the kernel's memory devices: 3 is /dev/null, 7 is /dev/full. */
async function makeDevice(path: string, minor: number): Promise<void> {
  await promisify(execFile)('mknod', [path, 'c', '1', `${minor}`]);
}

describe('state store', () => {
  it('knows nothing of a target that was never saved', async () => {
    expect(await (await openStore()).load('e1.0')).toBeUndefined();
  });

  it('gives back what was saved, after a restart', async () => {
    const store = await openStore();
    await store.save('e1.0', SAVED);
    await store.save('e1.1', FRESH);
    await store.close();
    const reopened = await openStore();
    expect(await reopened.load('e1.0')).toEqual(SAVED);
    expect(await reopened.load('e1.1')).toEqual(FRESH);
  });

  it('replaces what was saved before, and leaves nothing else behind', async () => {
    const store = await openStore();
    await store.save('e1.0', SAVED);
    await store.save('e1.0', FRESH);
    expect(await store.load('e1.0')).toEqual(FRESH);
    expect((await readdir(directory)).sort()).toEqual(['e1.0.json', 'lock']);
  });

  it('tells a config string that is empty from one that nobody has set', async () => {
    const store = await openStore();
    await store.save('e1.0', { ...FRESH, configString: new Uint8Array() });
    expect((await store.load('e1.0'))?.configString).toEqual(new Uint8Array());
    await store.save('e1.0', FRESH);
    expect(await store.load('e1.0')).toEqual(FRESH);
  });

  it('keeps any state exactly', async () => {
    const store = await openStore();
    const anyList = fc.array(fc.nat({ max: 2 ** 48 - 1 }), { maxLength: 255 });
    const anyState = fc.record({
      configString: fc.uint8Array({ maxLength: 1024 }),
      maskList: anyList,
      reserveList: anyList,
      sizeBytes: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    });
    await fc.assert(
      fc.asyncProperty(anyState, async (state) => {
        await store.save('e1.0', state);
        expect(await store.load('e1.0')).toEqual(state);
      }),
      { numRuns: 30 },
    );
  });

  it('is readable by its owner alone', async () => {
    const store = await openStore();
    await store.save('e1.0', SAVED);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    for (const name of ['e1.0.json', 'lock']) {
      expect((await stat(join(directory, name))).mode & 0o777).toBe(0o600);
    }
  });

  it('writes addresses as people read them', async () => {
    await (await openStore()).save('e1.0', SAVED);
    expect(JSON.parse(await readFile(join(directory, 'e1.0.json'), 'utf8'))).toEqual({
      version: 1,
      sizeBytes: 2 ** 40,
      configString: Buffer.from('aoe-disk-1').toString('base64'),
      maskList: ['02:00:00:00:00:01', 'fe:ff:ff:ff:ff:ff'],
      reserveList: ['00:00:00:00:00:0a'],
    });
  });

  it('removes what interrupted saves left, and nothing that is not its own', async () => {
    await mkdir(directory, { recursive: true });
    const foreign = [
      'notes.tmp',
      'e1.0.json.tmp',
      'e1.0.json.aoe-server.tmp.txt',
      'xe1.0.json.aoe-server.tmp',
    ];
    for (const name of ['e1.0.json.aoe-server.tmp', 'e65534.254.json.aoe-server.tmp', ...foreign]) {
      await writeFile(join(directory, name), '{');
    }
    await openStore();
    expect((await readdir(directory)).sort()).toEqual([...foreign, 'lock'].sort());
  });
});

describe('state store shared by two servers', () => {
  it('is refused to the second until the first is gone', async () => {
    const first = await openStore();
    const error = await failureOf(openStore());
    expect(error.message).toContain(`${directory} is in use by another server`);
    expect(error.remedy).toContain('state_dir');
    expect(descriptorsOf(join(directory, 'lock'))).toHaveLength(1);
    await first.close();
    await openStore();
  });

  it('keeps the save that the first has under way', async () => {
    await openStore();
    await writeFile(join(directory, 'e1.0.json.aoe-server.tmp'), '{');
    await failureOf(openStore());
    expect(await readdir(directory)).toContain('e1.0.json.aoe-server.tmp');
  });
});

describe('state directory', () => {
  it('that is a file is refused with its path and a remedy', async () => {
    directory = join(home, 'file');
    await writeFile(directory, 'precious');
    const error = await failureOf(openStore());
    expect(error.message).toContain(directory);
    expect(error.remedy).toContain('state_dir');
    expect(error.cause).toMatchObject({ code: 'EEXIST' });
    expect(await readFile(directory, 'utf8')).toBe('precious');
  });

  it('on a file system without locks is refused', async () => {
    const unsupported = () => {
      throw Object.assign(new Error('flock: not supported'), { code: 'ENOTSUP' });
    };
    const error = await failureOf(openStore(unsupported));
    expect(error.message).toContain('flock: not supported');
    expect(descriptorsOf(join(directory, 'lock'))).toEqual([]);
  });

  it('with a link in the place of its lock is refused, and nothing made where it leads', async () => {
    await mkdir(directory, { recursive: true });
    await symlink(join(home, 'elsewhere'), join(directory, 'lock'));
    expect((await failureOf(openStore())).cause).toMatchObject({ code: 'ELOOP' });
    await expect(stat(join(home, 'elsewhere'))).rejects.toThrow('ENOENT');
  });

  it('that exists keeps its permissions', async () => {
    await mkdir(directory, { recursive: true });
    await chmod(directory, 0o750);
    await openStore();
    expect((await stat(directory)).mode & 0o777).toBe(0o750);
  });
});

describe('state file', () => {
  const good = {
    version: 1,
    sizeBytes: 512,
    configString: '',
    maskList: [] as string[],
    reserveList: [] as string[],
  };
  const macs = Array.from({ length: 256 }, () => '02:00:00:00:00:01');

  it.each([
    ['is empty', '', 'JSON'],
    ['is cut', JSON.stringify(good).slice(0, -2), 'JSON'],
    ['is not JSON', '\0\0\0\0', 'JSON'],
    ['is not a state', '[]', 'expected object'],
    ['is of another version', JSON.stringify({ ...good, version: 2 }), 'version'],
    ['has a key too many', JSON.stringify({ ...good, owner: 'me' }), 'owner'],
    ['has a key too few', JSON.stringify({ ...good, sizeBytes: undefined }), 'sizeBytes'],
    ['has half a size', JSON.stringify({ ...good, sizeBytes: 0.5 }), 'sizeBytes'],
    ['has a bad address', JSON.stringify({ ...good, maskList: ['2:0'] }), '2:0'],
    ['has a list too long', JSON.stringify({ ...good, reserveList: macs }), 'reserveList'],
    ['has no base64', JSON.stringify({ ...good, configString: '!' }), 'configString'],
    [
      'has a string too long',
      JSON.stringify({ ...good, configString: Buffer.alloc(1025).toString('base64') }),
      '1024 bytes',
    ],
  ])('that %s is refused with its path and a remedy, and left alone', async (_, text, problem) => {
    const store = await openStore();
    const path = join(directory, 'e1.0.json');
    await writeFile(path, text);
    const error = await failureOf(store.load('e1.0'));
    expect(error.message).toContain(path);
    expect(error.message).toContain(problem);
    expect(error.remedy).toContain('backup');
    expect(error.cause).toBeDefined();
    expect(await readFile(path, 'utf8')).toBe(text);
  });

  it('that is a link to somewhere else is refused', async () => {
    const store = await openStore();
    await writeFile(join(home, 'elsewhere'), JSON.stringify(good));
    await symlink(join(home, 'elsewhere'), join(directory, 'e1.0.json'));
    expect((await failureOf(store.load('e1.0'))).cause).toMatchObject({ code: 'ELOOP' });
  });

  it('that cannot be read is refused', async () => {
    const store = await openStore();
    await mkdir(join(directory, 'e1.0.json'));
    expect((await failureOf(store.load('e1.0'))).cause).toMatchObject({ code: 'EISDIR' });
  });
});

describe('a failed save', () => {
  // Each makes the next step of a save fail for real.
  it.each([
    ['no room for the data', 'ENOSPC', (path: string) => makeDevice(`${path}.aoe-server.tmp`, 7)],
    ['a sync that fails', 'EINVAL', (path: string) => makeDevice(`${path}.aoe-server.tmp`, 3)],
    [
      'a link to somewhere else',
      'ELOOP',
      (path: string) => symlink('/dev/null', `${path}.aoe-server.tmp`),
    ],
    ['a file that cannot be made', 'EISDIR', (path: string) => mkdir(`${path}.aoe-server.tmp`)],
  ])('for %s throws and leaves the old state whole', async (_, code, obstruct) => {
    const store = await openStore();
    const path = join(directory, 'e1.0.json');
    await store.save('e1.0', SAVED);
    await obstruct(path);
    const error = await failureOf(store.save('e1.0', FRESH));
    expect(error).toMatchObject({ message: expect.stringContaining(path), cause: { code } });
    expect(await store.load('e1.0')).toEqual(SAVED);
    await rm(`${path}.aoe-server.tmp`, { recursive: true, force: true });
    await store.save('e1.0', FRESH);
    expect(await store.load('e1.0')).toEqual(FRESH);
  });

  it('for a rename that fails throws', async () => {
    const store = await openStore();
    await mkdir(join(directory, 'e1.0.json'));
    expect((await failureOf(store.save('e1.0', FRESH))).cause).toMatchObject({ code: 'EISDIR' });
  });
});
