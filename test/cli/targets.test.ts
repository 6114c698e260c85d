import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  chown,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify, type TomlTable } from 'smol-toml';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { native } from '../../src/native.ts';
import type { ServerStatus } from '../../src/status.ts';
import { MIB, memoryTarget, Served, TOOLS } from '../protocol/served.ts';
import { askStatus } from '../support/control.ts';
import { describeWith, disposeAll, tryRun } from '../support/tools.ts';
import { PROGRAM } from './run.ts';

const FILE: TomlTable = {
  shelf: 1,
  slot: 1,
  backend: 'file',
  file: { path: 'one.img', size: MIB },
};
const HANG = `require('net').createServer(() => console.log('reached')).listen(9, '127.0.0.1')`;
const COMMENT = '# Nobody shall lose this.\n';

let served: Served;
let config: string;

function operate(...args: string[]) {
  return tryRun(process.execPath, [PROGRAM, ...args, '--config', config]);
}

function status(): Promise<ServerStatus> {
  return askStatus(served.join('state/control.sock'));
}

async function names(): Promise<string[]> {
  return (await status()).targets.map(({ name }) => name);
}

describeWith(TOOLS, 'the commands about targets of a running server', () => {
  beforeAll(async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'x');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'x');
    served = await Served.start([memoryTarget(1, 0), FILE]);
    // The server's file is a link to one in another directory.
    const link = served.join('aoe-server.toml');
    await mkdir(served.join('etc'));
    config = served.join('etc/real.toml');
    await rename(link, config);
    await writeFile(config, COMMENT + (await readFile(config, 'utf8')));
    await chmod(config, 0o640);
    await chown(config, 12, 34);
    await symlink('etc/real.toml', link);
    config = link;
  });
  afterAll(() => disposeAll(served));

  it('add, resize, set and remove a target, in the file and in the server', async () => {
    const before = await readFile(config, 'utf8');
    const path = served.join('new.img');
    const added = await operate(
      ...['targets', 'add', 'e1.5', '--backend', 'file', '--path', path, '--size', '1M'],
      ...['--set', 'config_string=12', 'file.offset=0'],
    );
    expect(added.output).toBe('e1.5 is served (added e1.5, changed none, removed none)\n');
    const text = await readFile(config, 'utf8');
    expect(text.startsWith(before)).toBe(true);
    expect(loadConfig(config).targets.at(-1)).toMatchObject({ name: 'e1.5', configString: '12' });

    expect((await operate('targets', 'resize', 'e1.5', '2M')).output).toMatch(/^e1.5 has 2MiB \(/);
    const set = await operate('targets', 'set', 'e1.5', 'write_cache=true', '--json');
    expect(JSON.parse(set.stdout)).toEqual({ added: [], changed: ['e1.5'], removed: [] });
    const target = (await status()).targets.find(({ name }) => name === 'e1.5');
    expect(target).toMatchObject({ sizeBytes: 2 * MIB, writeCache: true });
    const unset = await operate(
      'targets',
      'set',
      'e1.5',
      'read_only=true',
      '--unset',
      'write_cache',
    );
    expect(unset.output).toMatch(/^e1.5 is served with read_only = true, no write_cache \(/);
    const changed = (await status()).targets.find(({ name }) => name === 'e1.5');
    expect(changed).toMatchObject({ readOnly: true, writeCache: false });

    const removed = await operate('targets', 'remove', 'e1.5');
    expect(removed.output).toMatch(new RegExp(`^e1.5 is not served any more; .*stays: ${path} `));
    expect((await stat(path)).size).toBe(2 * MIB);
    expect(await names()).toEqual(['e1.0', 'e1.1', 'e9.9']);
    expect(await readFile(config, 'utf8')).toBe(before);
    const real = await stat(served.join('etc/real.toml'));
    expect(real).toMatchObject({ uid: 12, gid: 34 });
    expect(real.mode & 0o7777).toBe(0o640);
    expect(await readdir(served.join('etc'))).toEqual(['real.toml']);
  });

  it.each<[string, string[], RegExp]>([
    ['a smaller size', ['resize', 'e1.1', '512K'], /has 1MiB, and would shrink to 512KiB\n.*never/],
    [
      'a smaller size by its key',
      ['set', 'e1.1', 'file.size=512K'],
      /would shrink[\s\S]*as it was/,
    ],
    ['a larger disk in memory', ['resize', 'e1.0', '16M'], /only a restart can change e1.0/],
    ['a target that is not there', ['remove', 'e7.7'], /no target e7.7 in .*\n.*e1.0, e1.1, e9.9/],
    ['a key that is not there', ['set', 'e1.1', 'file.sise=1'], /Did you mean size\?/],
    ['to unset what is not set', ['set', 'e1.1', '--unset', 'direct'], /direct is not set/],
    ['to unset what it needs', ['set', 'e1.1', '--unset', 'file.path'], /file.*path/],
    ['to set nothing', ['set', 'e1.1'], /name keys to set/],
    ['a value that makes no sense', ['set', 'e1.1', 'read_only=maybe'], /must be true or false/],
    [
      'an address that is taken',
      ['add', 'e1.1', '--backend', 'memory', '--size', '1M'],
      /e1.1 a second/,
    ],
    [
      'an image in use',
      ['add', 'e1.7', '--backend', 'file', '--path', 'PATH'],
      /of target e1.1 too/,
    ],
    [
      'an image in no folder',
      ['add', 'e1.7', '--backend', 'file', '--path', '/no/x', '--size', '1M'],
      /cannot open \/no\/x[\s\S]*nothing has changed[\s\S]*as it was/,
    ],
    ['an image without a path', ['add', 'e1.7', '--backend', 'file'], /file needs --path/],
    ['another slot', ['set', 'e1.0', 'slot=7'], /A target keeps its address/],
    [
      'another shelf',
      ['add', 'e1.7', '--backend', 'memory', '--size', '1M', '--set', 'shelf=2'],
      /A target keeps its address/,
    ],
    ['a size of a device', ['add', 'e1.7', '--backend', 'device', '--size', '1M'], /has no --size/],
  ])('refuse %s, and change nothing', async (_, args, problem) => {
    const before = await readFile(config, 'utf8');
    const paths = args.map((arg) => (arg === 'PATH' ? served.join('one.img') : arg));
    const { status: exit, output } = await operate('targets', ...paths);
    expect(output).toMatch(problem);
    expect(exit).not.toBe(0);
    expect(await readFile(config, 'utf8')).toBe(before);
    expect(await names()).toEqual(['e1.0', 'e1.1', 'e9.9']);
  });

  it('come one after the other when they are given at once', async () => {
    const before = await readFile(config, 'utf8');
    const slots = [20, 21, 22];
    const add = (slot: number) => [
      'targets',
      'add',
      `e1.${slot}`,
      '--backend',
      'memory',
      '--size',
      '1M',
    ];
    const results = await Promise.all(slots.map((slot) => operate(...add(slot))));
    for (const { status: exit, output } of results) expect([exit, output]).toEqual([0, output]);
    expect(await names()).toEqual(['e1.0', 'e1.1', ...slots.map((slot) => `e1.${slot}`), 'e9.9']);
    expect((await readFile(config, 'utf8')).startsWith(before)).toBe(true);
    for (const slot of slots) await operate('targets', 'remove', `e1.${slot}`);
    expect(await readFile(config, 'utf8')).toBe(before);
  });

  it('are kept out by nobody who may only read the file', async () => {
    for (const path of [served.join('etc'), config]) {
      const file = await open(path, 'r');
      expect(native.lockFile(file.fd)).toBe(true);
      const { status: exit, output } = await operate('targets', 'set', 'e1.1', 'config_string=');
      await file.close();
      expect([exit, output]).toEqual([0, output]);
    }
  });

  it('leave a file that a server can use, and keep nobody out, when they are killed', async () => {
    const before = await readFile(config, 'utf8');
    const args = ['targets', 'set', 'e1.1', 'config_string=killed', '--config', config];
    let changed = false;
    // Killed sooner and later, until it happened between the change and the reload or after it.
    for (let delayMs = 100; delayMs < 10_000 && !changed; delayMs *= 1.25) {
      const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: 'ignore' });
      const ended = once(child, 'exit');
      await Promise.race([ended, sleep(delayMs)]);
      child.kill('SIGKILL');
      await ended;
      const text = await readFile(config, 'utf8');
      expect(() => loadConfig(config)).not.toThrow();
      changed = text !== before;
      if (!changed) expect(text).toBe(before);
    }
    expect(changed).toBe(true);
    expect((await operate('targets', 'set', 'e1.1', 'config_string=')).status).toBe(0);
  }, 90_000);

  it('drain, resume and open anew', async () => {
    expect((await operate('drain', 'e1.1')).output).toMatch(/^e1.1 is silent until it is resumed/);
    const { output } = await tryRun(process.execPath, [PROGRAM, 'status', config]);
    expect(output).toMatch(/e1.1 +drained/);
    expect((await operate('targets', 'set', 'e1.1', 'config_string=x')).output).toMatch(
      /^e1.1 stays drained, and has config_string = x /,
    );
    expect((await operate('readd', 'e1.1')).output).toBe('e1.1 is served, 1MiB\n');
    expect((await operate('drain', '--all', '--json')).stdout).toContain('"drained": true');
    expect((await operate('resume', '--all')).output).toMatch(
      /e1.0 is served[\s\S]*e9.9 is served/,
    );
    expect(await operate('readd', 'e1.0')).toMatchObject({
      status: 1,
      output: expect.stringContaining('opened anew, it would be empty'),
    });
    expect(await operate('drain')).toMatchObject({ status: 2 });
  });

  it('drain and resume all that they can', async () => {
    const names = ['e7.7', 'e1.1', 'e8.8'];
    for (const [command, drained] of [
      ['drain', true],
      ['resume', false],
    ] as const) {
      const { status: exit, output } = await operate(command, ...names);
      expect([exit, output]).toEqual([1, expect.stringMatching(/^e1.1 is [\s\S]*e7.7[\s\S]*e8.8/)]);
      expect((await status()).targets[1]).toMatchObject({ name: 'e1.1', drained });
    }
    const { stdout } = await operate('drain', ...names, '--json');
    expect(JSON.parse(stdout)).toMatchObject([{ name: 'e1.1', drained: true }]);
    expect((await operate('resume', 'e1.1')).status).toBe(0);
  });

  it('resume many, and tell of them in their order', async () => {
    const before = await readFile(config, 'utf8');
    const many = Array.from({ length: 12 }, (_, slot) => memoryTarget(5, slot));
    await writeFile(config, `${before}\n${stringify({ target: many })}`);
    try {
      await tryRun(process.execPath, [PROGRAM, 'reload', config]);
      const names = many.map(({ slot }) => `e5.${slot}`);
      expect(await operate('drain', ...names)).toMatchObject({ status: 0 });
      const { output } = await operate('resume', ...names);
      expect(output.trimEnd().split('\n')).toEqual(names.map((name) => `${name} is served, 8MiB`));
    } finally {
      await writeFile(config, before);
      await tryRun(process.execPath, [PROGRAM, 'reload', config]);
    }
  });

  it('say what is wrong with a name that no request can carry', async () => {
    const { status: exit, output } = await operate('drain', 'e'.repeat(10_000));
    expect([exit, output]).toEqual([1, expect.stringMatching(/with status 431\n {4}see what/)]);
    expect(output).not.toMatch(/^\s+at /m);
  });

  it('go with a server that stops while a reload hangs', async () => {
    // A blob store that takes every connection, and never answers.
    const hang = served.network.spawn(process.execPath, ['-e', HANG], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const store = {
      type: 's3',
      path: 'blobs',
      bucket: 'b',
      endpoint: 'http://127.0.0.1:9',
      region: 'x',
    };
    const hanging = { shelf: 3, slot: 0, backend: 'cas', cas: { size: MIB, blob_store: store } };
    await writeFile(
      config,
      `${await readFile(config, 'utf8')}\n${stringify({ target: [hanging] })}`,
    );
    const connected = once(hang.stdout as Readable, 'data');
    const reload = tryRun(process.execPath, [PROGRAM, 'reload', config]);
    await connected;
    const startMs = performance.now();
    expect(await served.server.stop()).toBe(0);
    expect(performance.now() - startMs).toBeLessThan(9000);
    expect((await reload).status).toBe(1);
    hang.kill();
  });

  it('say what helps when no server is running', async () => {
    for (const args of [
      ['targets', 'remove', 'e1.1'],
      ['drain', 'e1.1'],
    ]) {
      const { status: exit, output } = await operate(...args);
      expect([exit, output]).toEqual([1, expect.stringContaining('cannot reach a server')]);
      if (args[0] === 'targets') expect(output).toContain(`aoe-server check ${config}`);
    }
  });
});
