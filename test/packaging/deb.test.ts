import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { PROGRAM } from '../cli/run.ts';
import { NetworkNamespace, stopChild } from '../support/netns.ts';
import {
  type CommandResult,
  describeWith,
  disposeAll,
  run,
  TempDirectory,
  tryRun,
  waitUntil,
} from '../support/tools.ts';

// The first run downloads a Debian.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 420_000 });

const HERE = import.meta.dirname;
const CACHE = join(HERE, '../../.cache/debian');
const TOOLS = ['debootstrap', 'dpkg-deb', 'dpkg-shlibdeps', 'lintian', 'ip', 'unshare', 'setpriv'];
const CONFIG = 'etc/aoe-server.toml';

/** Lets a user have what the unit gives it, and runs a command. */
const AS_SERVICE = [
  ...['setpriv', '--reuid=aoe-server', '--regid=aoe-server', '--clear-groups', '--no-new-privs'],
  ...['--inh-caps=-all,+net_raw', '--ambient-caps=-all,+net_raw', '--bounding-set=-all,+net_raw'],
];

let directory: TempDirectory;
let outside: NetworkNamespace;
let inside: NetworkNamespace;
let root: string;
let deb: string;

/** A command in the new Debian, with mounts of its own that end with it. */
function enter(command: readonly string[]): string[] {
  const mounts = `mount -t proc proc ${root}/proc && mount -t sysfs sys ${root}/sys`;
  const script = `${mounts} && exec chroot ${root} "$@"`;
  return ['--mount', 'sh', '-c', script, 'sh', ...command];
}

function debian(...command: string[]): Promise<CommandResult> {
  const clean = ['env', '-i', 'PATH=/usr/sbin:/usr/bin', 'DEBIAN_FRONTEND=noninteractive'];
  return tryRun('unshare', enter([...clean, ...command]), { timeoutMs: 80_000 });
}

async function exists(...path: string[]): Promise<boolean> {
  return (await stat(join(root, ...path)).catch(() => undefined)) !== undefined;
}

describeWith(TOOLS, 'the Debian package', () => {
  beforeAll(async () => {
    directory = await TempDirectory.create();
    root = directory.join('root');
    await run(join(HERE, 'debian-root'), [CACHE, root], { timeoutMs: 240_000 });
    const builder = ['DEBFULLNAME=A Builder', 'DEBEMAIL=builder@example.net'];
    const script = join(HERE, '../../packaging/build-deb');
    deb = (await run('env', [...builder, script, directory.path], { timeoutMs: 120_000 })).trim();
    outside = await NetworkNamespace.create();
    inside = await NetworkNamespace.create();
    await inside.addVeth('eth0', outside, 'eth0');
  });
  afterAll(() => disposeAll(inside, outside, directory));

  it('leaves lintian nothing to complain about', async () => {
    const checked = await tryRun('lintian', ['--allow-root', deb], { timeoutMs: 80_000 });
    expect(checked).toMatchObject({ status: 0, output: '' });
  });

  it('depends on what this machine has as well', async () => {
    const { output } = await tryRun('apt-get', ['install', '--simulate', deb]);
    expect(output).toMatch(/^Inst aoe-server/m);
  });

  it('installs on a fresh Debian with what it needs', async () => {
    await run('cp', [deb, join(root, 'tmp/aoe-server.deb')]);
    const install = ['apt-get', 'install', '--yes', '--no-install-recommends'];
    const { status, output } = await debian(...install, '/tmp/aoe-server.deb');
    expect({ status, output }).toMatchObject({ status: 0 });
    expect((await debian('aoe-server', '--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect((await debian('id', '-un', 'aoe-server')).stdout).toBe('aoe-server\n');
    expect((await debian('stat', '-c', '%U %a', '/srv/aoe')).stdout).toBe('aoe-server 750\n');
  });

  it('brings a unit that systemd of that Debian accepts', async () => {
    const unit = '/usr/lib/systemd/system/aoe-server.service';
    const verified = await debian('systemd-analyze', 'verify', '--man=no', unit);
    expect(verified).toMatchObject({ status: 0, output: '' });
  });

  it('says what is missing until an interface and a disk are named', async () => {
    const { status, output } = await debian('aoe-server', 'check', `/${CONFIG}`);
    expect(status).toBe(3);
    expect(output).toContain('server.interface is missing');
    expect(output).toContain('target is missing');
  });

  it('serves what its configuration suggests, as the user of the service', async () => {
    const shipped = await readFile(join(root, CONFIG), 'utf8');
    const uncommented = shipped
      .replace(/^# (?=[[a-z]+[\]a-z.]* ?=|\[)/gm, '')
      .replace('20GiB', '20MiB');
    await writeFile(join(root, CONFIG), uncommented);
    expect((await debian('aoe-server', 'check', `/${CONFIG}`)).stdout).toMatch(/e1\.0 .*20MiB/);

    await mkdir(join(root, 'var/lib/aoe-server'));
    await debian('chown', 'aoe-server:', '/var/lib/aoe-server');
    const server = inside.spawn('unshare', enter([...AS_SERVICE, 'aoe-server', `/${CONFIG}`]), {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let log = '';
    server.stderr?.on('data', (chunk: Buffer) => {
      log += chunk.toString();
    });
    try {
      await waitUntil(`serving: ${log}`, () => log.includes('"serving'), 20_000).catch(() => {
        throw new Error(log);
      });
      const found = await outside.run(process.execPath, [PROGRAM, 'discover', 'eth0', '--json']);
      expect(JSON.parse(found)).toMatchObject([{ address: 'e1.0', sizeBytes: 20 << 20 }]);
      const { stdout } = await debian('aoe-server', 'status', `/${CONFIG}`);
      expect(stdout).toContain('e1.0');
    } finally {
      await stopChild(server, 'SIGTERM');
    }
  });

  it('goes, but for the configuration, state and disks', async () => {
    expect((await debian('apt-get', 'remove', '--yes', 'aoe-server')).status).toBe(0);
    expect(await exists('usr/lib/aoe-server')).toBe(false);
    expect(await exists('usr/bin/aoe-server')).toBe(false);
    expect(await readFile(join(root, CONFIG), 'utf8')).toContain('\ninterface = "eth0"');
    expect(await exists('var/lib/aoe-server')).toBe(true);
  });

  it('takes configuration and state along when purged, and never a disk', async () => {
    await writeFile(join(root, 'var/lib/aoe-server/dashboard-token'), 'secret');
    expect((await debian('apt-get', 'purge', '--yes', 'aoe-server')).status).toBe(0);
    expect(await exists(CONFIG)).toBe(false);
    expect(await exists('var/lib/aoe-server')).toBe(false);
    expect(await exists('srv/aoe/disk1.img')).toBe(true);
  });
});
