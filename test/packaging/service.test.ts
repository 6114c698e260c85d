import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { PROGRAM } from '../cli/run.ts';
import { GUEST_TOOLS, LinuxGuest } from '../linux/guest.ts';
import { NetworkNamespace } from '../support/netns.ts';
import { describeWith, disposeAll, eventually, run, TempDirectory } from '../support/tools.ts';

// The first run downloads a Debian.
vi.setConfig({ testTimeout: 200_000, hookTimeout: 600_000 });

const HERE = import.meta.dirname;
const CACHE = join(HERE, '../../.cache/debian');
const TOOLS = [...GUEST_TOOLS, 'debootstrap', 'dpkg-shlibdeps', 'mke2fs', 'systemd-id128'];
const TAP = 'tap0';

const CONFIG = `
[server]
interface = "eth0"

[[target]]
shelf = 1
slot = 0
backend = "file"
[target.file]
path = "/var/lib/aoe-server/disk1.img"
size = "64MiB"`;

const TARGET = `
[[target]]
shelf = 1
slot = 1
backend = "file"
[target.file]
path = "/srv/aoe/disk2.img"
size = "64MiB"`;

/** Time for an emulated processor, on a machine that has other work to do. */
const SLOW_MS = 150_000;
/** A watchdog that barks while a test waits for it. */
const DROP_IN = `
mkdir -p /etc/systemd/system/aoe-server.service.d
cat >/etc/systemd/system/aoe-server.service.d/test.conf <<UNIT
[Service]
WatchdogSec=20
TimeoutStartSec=${SLOW_MS / 1000}
UNIT
systemctl daemon-reload`;

let directory: TempDirectory;
let network: NetworkNamespace;
let machine: LinuxGuest;

/** Properties of the unit, as systemd tells them. */
async function show(...properties: string[]): Promise<Record<string, string>> {
  const names = properties.map((name) => `-p ${name}`).join(' ');
  const text = await machine.run(`systemctl show aoe-server ${names}`);
  return Object.fromEntries(
    text
      .trim()
      .split('\n')
      .map((line) => line.split('=') as [string, string]),
  );
}

/** The targets that initiators on the network find. */
async function discover(): Promise<string[]> {
  const found = await network.run(process.execPath, [PROGRAM, 'discover', TAP, '--json']);
  return (JSON.parse(found) as { address: string }[]).map(({ address }) => address);
}

/** An emulated machine is now and then too late for one look. */
function expectFound(...addresses: string[]): Promise<void> {
  return eventually(async () => expect(await discover()).toEqual(addresses));
}

function configure(config: string): Promise<string> {
  return machine.run(`cat >/etc/aoe-server.toml <<'TOML'\n${config}\nTOML`);
}

describeWith(TOOLS, 'the service, run by systemd', () => {
  beforeAll(async () => {
    directory = await TempDirectory.create();
    const [disk, consolePath] = [directory.join('disk.img'), directory.join('console')];
    const script = join(HERE, '../../packaging/build-deb');
    const deb = (await run(script, [directory.path], { timeoutMs: 120_000 })).trim();
    await run(join(HERE, 'service-disk'), [CACHE, deb, disk], { timeoutMs: 240_000 });
    network = await NetworkNamespace.create();
    await network.addTap(TAP);
    machine = await LinuxGuest.boot({ namespace: network, tap: TAP, mtu: 1500, consolePath, disk });
    await configure(CONFIG);
    await machine.run(DROP_IN);
  });
  afterAll(() => disposeAll(machine, network, directory));

  it('is running once the server has said that it serves', async () => {
    await machine.run('systemctl start aoe-server', SLOW_MS);
    expect(await show('ActiveState', 'SubState', 'User')).toEqual({
      ActiveState: 'active',
      SubState: 'running',
      User: 'aoe-server',
    });
    expect(await machine.run('stat -c "%U %a %s" /var/lib/aoe-server/disk1.img')).toBe(
      'aoe-server 600 67108864\n',
    );
    await expectFound('e1.0');
  });

  it('lets initiators read and write', async () => {
    const bench = ['bench', 'e1.0', TAP, '--seconds', '0.3', '--overwrite', '--json'];
    const rows = JSON.parse(await network.run(process.execPath, [PROGRAM, ...bench]));
    for (const row of rows) expect(row.requestsPerSecond).toBeGreaterThan(0);
  });

  it('may open raw sockets, and nothing else that takes a right', async () => {
    const { MainPID: pid } = await show('MainPID');
    const status = await machine.run(`cat /proc/${pid}/status`);
    const netRaw = (1 << 13).toString(16).padStart(16, '0');
    for (const set of ['CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      expect(status).toMatch(new RegExp(`^${set}:\\t${netRaw}$`, 'm'));
    }
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    const written = await machine.run(`
      for path in /etc /usr /boot /home /root /srv; do
        nsenter --mount --target ${pid} touch "$path/written" 2>/dev/null && echo "$path"
      done
      true`);
    expect(written).toBe('/srv\n');
  });

  it('answers on its control socket', async () => {
    const config = '/etc/aoe-server.toml';
    const answer = await machine.run(`aoe-server status --json ${config}`, SLOW_MS);
    const { targets } = JSON.parse(answer);
    expect(targets).toMatchObject([{ name: 'e1.0', backend: 'file', failed: false }]);
    expect(targets[0].counters.writes).toBeGreaterThan(0);
  });

  it('serves a target more after a reload', async () => {
    await configure(CONFIG + TARGET);
    await machine.run('systemctl reload aoe-server', SLOW_MS);
    await expectFound('e1.0', 'e1.1');
  });

  it('is started again when it hangs', async () => {
    const { MainPID: hung } = await show('MainPID');
    // Each look at it takes the emulated processor a while.
    await machine.run(
      `kill -STOP ${hung}
       while [ -e /proc/${hung} ]; do sleep 1; done
       until systemctl --quiet is-active aoe-server; do sleep 4; done`,
      SLOW_MS,
    );
    expect(await machine.run('journalctl -u aoe-server')).toContain('Watchdog timeout');
    await expectFound('e1.0', 'e1.1');
  });

  it('stops cleanly', async () => {
    await machine.run('systemctl stop aoe-server');
    expect(await show('ActiveState', 'Result', 'ExecMainStatus')).toEqual({
      ActiveState: 'inactive',
      Result: 'success',
      ExecMainStatus: '0',
    });
    expect(await discover()).toEqual([]);
  });

  it('was denied nothing, and complained of nothing', async () => {
    const journal = await machine.run('journalctl --output=cat -u aoe-server');
    const levels = [...journal.matchAll(/^\{"level":"(\w+)"/gm)].map(([, level]) => level);
    expect(new Set(levels), journal).toEqual(new Set(['info']));
    expect(journal).not.toMatch(/EPERM|EACCES|denied|not permitted|read-only file system/i);
  });
});
