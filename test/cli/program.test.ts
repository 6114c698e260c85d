import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { SERVER, TARGET } from '../config/samples.ts';
import { PROGRAM, run } from './run.ts';

const MANIFEST = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };

const directory = mkdtempSync(join(tmpdir(), 'aoe-cli-'));
afterAll(() => rmSync(directory, { recursive: true }));

function configFile(text: string): string {
  const path = join(directory, 'aoe.toml');
  writeFileSync(path, text);
  return path;
}

describe('aoe-server', () => {
  it('prints the version of the package', () => {
    expect(run('--version')).toMatchObject({ status: 0, stdout: `${MANIFEST.version}\n` });
  });

  it('explains its commands, exit codes and use', () => {
    const { status, stdout } = run('--help');
    expect(status).toBe(0);
    for (const text of ['serve <config>', 'check <config>', 'discover', 'Exit codes:', 'eth0']) {
      expect(stdout).toContain(text);
    }
  });

  it.each([
    ['no arguments', [], "missing required argument 'config'", ''],
    ['too many arguments', ['a.toml', 'b.toml'], 'too many arguments', ''],
    ['an unknown option', ['--fast', 'a.toml'], "unknown option '--fast'", ''],
    ['a slip of a command', ['statsu'], 'Did you mean status?', ''],
    ['a slip of a command with arguments', ['chekc', 'a.toml'], 'Did you mean check?', ''],
    ['a slip of a command with options', ['statsu', '--json', 'a'], 'Did you mean status?', ''],
    ['no MAC address', ['mask', 'a.toml', 'e1.0', '--set', 'x'], 'a MAC address, such', ' mask'],
    ['check without a file', ['check'], "missing required argument 'config'", ' check'],
    ['a command of a command', ['cas', 'scrub', '--fast'], 'unknown option', ' cas scrub'],
  ])('exits with 2 for %s', (_, args, message, command) => {
    const { status, stdout, stderr } = run(...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(message);
    expect(stderr).toContain(`Try: aoe-server${command} --help`);
  });

  it.each([['serve'], ['check']])('exits with 3 when %s finds the file wrong', (command) => {
    const path = configFile(`${SERVER}spin_us = -1\n`);
    expect(run(command, path)).toMatchObject({
      status: 3,
      stdout: '',
      stderr: [
        `${path}:1: target is missing`,
        '    Add it, for example: [[target]]',
        `${path}:3: server.spin_us = -1 must be a whole number from 0 to 1000`,
        '    Write, for example: spin_us = 50',
        '',
      ].join('\n'),
    });
  });

  it('exits with 3 when there is no such file', () => {
    const { status, stderr } = run('stats.toml');
    expect(status).toBe(3);
    expect(stderr).toMatch(/^stats\.toml: cannot be read: ENOENT.*\n {4}\S.*\n$/);
  });
});

describe('the output of aoe-server', () => {
  const runTo = (output: string, ...args: string[]) =>
    spawnSync(
      'bash',
      ['-c', `set -o pipefail; "$0" "$@" ${output}`, process.execPath, PROGRAM, ...args],
      {
        encoding: 'utf8',
      },
    );

  it.each([[['--help']], [['completion', 'bash']]])(
    'makes %s fail when there is no room for it, and not when nobody reads on',
    (args) => {
      expect(runTo('>/dev/full', ...args)).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(/^aoe-server: cannot write the output: ENOSPC/),
      });
      expect(runTo('| true', ...args)).toMatchObject({ status: 0, stderr: '' });
      expect(runTo('>&-', ...args)).toMatchObject({ status: 0, stderr: '' });
    },
  );
});

describe('the output of aoe-server that is longer than a pipe', () => {
  const COUNT = 250;
  const targets = Array.from({ length: COUNT }, (_, slot) => {
    const text = `config_string = "${'x'.repeat(400)}"`;
    return TARGET.replace('slot = 0', `slot = ${slot}\n${text}`);
  });
  const check = (reader: string) => {
    const path = configFile(SERVER + targets.join(''));
    const command = `"$0" "$1" check "$2" | ${reader}`;
    return spawnSync('bash', ['-c', command, process.execPath, PROGRAM, path], {
      encoding: 'utf8',
    });
  };

  it('reaches a slow reader whole', () => {
    const { stdout } = check('(sleep 1; cat)');
    expect(stdout.match(/^e1\.\d+ .*x{400}/gm)).toHaveLength(COUNT);
  });

  it('is given up when its reader goes', () => {
    const { stdout, stderr } = check('(sleep 1; head -c 1)');
    expect([stdout.length, stderr]).toEqual([1, '']);
  });
});

describe('aoe-server check', () => {
  it('shows what would be served', () => {
    writeFileSync(join(directory, 'existing.img'), Buffer.alloc(12288));
    const path = configFile(`
      [server]
      interfaces = ["eth0", "eth1"]
      state_dir = "state"
      [[target]]
      shelf = 1
      slot = 0
      backend = "file"
      config_string = 'say "hi"'
      file = { path = "new.img", size = "64MiB", offset = "16MiB" }
      [[target]]
      shelf = 1
      slot = 1
      backend = "file"
      read_only = true
      file.path = "existing.img"
      [[target]]
      shelf = 1
      slot = 2
      backend = "file"
      file.path = "missing.img"
      [[target]]
      shelf = 1
      slot = 3
      backend = "device"
      write_cache = true
      device.path = "/dev/nonexistent"
      [[target]]
      shelf = 10
      slot = 4
      backend = "memory"
      memory.size = "1GiB"
      [[target]]
      shelf = 10
      slot = 5
      backend = "cas"
      cas = { total_sectors = 2097152, blob_store = { type = "file", path = "/blobs" } }
      [[target]]
      shelf = 10
      slot = 6
      backend = "cas"
      cas = { root = "monday", blob_store = { type = "file", path = "/blobs" } }
    `);
    const { status, stdout, stderr } = run('check', path);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout.replaceAll(directory, '@').split('\n')).toEqual([
      'interfaces  eth0, eth1',
      'state       @/state',
      '',
      'TARGET  BACKEND  SIZE     MODE         CONFIG STRING  PATH',
      'e1.0    file     48MiB    read-write   "say \\"hi\\""   @/new.img from 16MiB',
      'e1.1    file     12KiB    read-only    ""             @/existing.img',
      'e1.2    file     missing  read-write   ""             @/missing.img',
      'e1.3    device   missing  write cache  ""             /dev/nonexistent',
      'e10.4   memory   1GiB     read-write   ""             -',
      'e10.5   cas      8GiB     read-write   ""             /blobs',
      'e10.6   cas      stored   read-only    ""             /blobs at monday',
      '',
    ]);
  });

  it('shows an image that is longer than its size as it is served', () => {
    writeFileSync(join(directory, 'long.img'), Buffer.alloc(12288));
    const target = '[[target]]\nshelf = 1\nslot = 0\nbackend = "file"\n';
    const path = configFile(`${SERVER}${target}file = { path = "long.img", size = "4KiB" }\n`);
    expect(run('check', path).stdout).toContain('e1.0    file     12KiB');
  });

  it('says so when an image ends before its target begins', () => {
    writeFileSync(join(directory, 'short.img'), Buffer.alloc(4096));
    const target = '[[target]]\nshelf = 1\nslot = 0\nbackend = "file"\n';
    const path = configFile(`${SERVER}${target}file = { path = "short.img", offset = "16KiB" }\n`);
    expect(run('check', path).stdout).toContain('e1.0    file     too short  read-write');
  });

  it('warns on standard error and succeeds', () => {
    const path = configFile(`${SERVER}${TARGET.replace('shelf = 1', 'shelf = 4095')}`);
    const { status, stdout, stderr } = run('check', path);
    expect(status).toBe(0);
    expect(stdout).toContain('e4095.0');
    expect(stderr).toMatch(
      /^warning: .*aoe\.toml:4: target\[0\]\.shelf = 4095 is refused by Linux initiators\n {4}\S/,
    );
  });

  it('accepts the example', () => {
    const example = fileURLToPath(new URL('../../config.example.toml', import.meta.url));
    expect(run('check', example)).toMatchObject({ status: 0, stderr: '' });
  });
});
