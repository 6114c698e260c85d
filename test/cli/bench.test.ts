import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatHistogram } from '../../src/cli/bench.ts';
import { NetworkNamespace } from '../support/netns.ts';
import { AoeServer } from '../support/server.ts';
import { describeWith, disposeAll, TempDirectory } from '../support/tools.ts';
import { PROGRAM } from './run.ts';

const MIB = 1 << 20;

let directory: TempDirectory;
let initiator: NetworkNamespace;
let network: NetworkNamespace;
let server: AoeServer;

const image = () => directory.join('disk.img');
const hash = () => createHash('sha256').update(readFileSync(image())).digest('hex');

async function bench(...args: string[]) {
  const command = [PROGRAM, 'bench', ...args, '--seconds', '0.3'];
  const { status, stdout, output } = await initiator.tryRun(process.execPath, command);
  return { status, stdout, stderr: output.slice(stdout.length) };
}

describe('formatHistogram', () => {
  it('shows the doublings between that have no count', () => {
    const lines = formatHistogram(Float64Array.of(5, 40, 41)).split('\n');
    expect(lines.map((line) => line.replace(/ +#*$/, '').replace(/ {2,}/, ' '))).toEqual([
      '4 to 8 us 1',
      '8 to 16 us 0',
      '16 to 32 us 0',
      '32 to 64 us 2',
    ]);
  });
});

describeWith(['ip', 'setpriv', 'sysctl'], 'aoe-server bench', () => {
  beforeAll(async () => {
    directory = await TempDirectory.create();
    initiator = await NetworkNamespace.create();
    network = await NetworkNamespace.create();
    await network.addVeth('aoe0', initiator, 'eth0', 9000);
    writeFileSync(image(), Buffer.alloc(8 * MIB, 'data that somebody needs '));
    server = await AoeServer.start({
      namespace: network,
      interfaces: ['aoe0'],
      directory: directory.join('server'),
      targets: [{ shelf: 1, slot: 0, backend: 'file', file: { path: image() } }],
    });
  });

  afterAll(() => disposeAll(server, initiator, network, directory));

  it('measures reads, prints a histogram, and leaves the data alone', async () => {
    const before = hash();
    const { status, stdout, stderr } = await bench('e1.0');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^e1\.0 at .* on eth0: aoe-server e1\.0, 16384 sectors$/m);
    expect(stdout).toMatch(/^random read, 4 KiB +1 +[1-9]\d* /m);
    expect(stdout).toMatch(/^random read, 4 KiB +64 +[1-9]\d* /m);
    expect(stdout).toMatch(/^sequential read, 8 KiB +64 +[1-9]\d* /m);
    expect(stdout).toMatch(/^\d+ to \d+ us +\d+ +#{50}$/m);
    expect(stdout).not.toContain('write');
    expect(hash()).toBe(before);
  });

  it('measures writes when it may overwrite the data, and prints JSON', async () => {
    const before = hash();
    const { status, stdout, stderr } = await bench('1.0', 'eth0', '--overwrite', '--json');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const rows = JSON.parse(stdout) as Record<string, number | string>[];
    expect(
      rows.map(({ op, access, sectorCount, depth }) => [op, access, sectorCount, depth]),
    ).toEqual(
      ['read', 'write'].flatMap((op) => [
        [op, 'random', 8, 1],
        [op, 'random', 8, 64],
        [op, 'sequential', 16, 64],
      ]),
    );
    for (const row of rows) {
      expect(row['requestsPerSecond']).toBeGreaterThan(0);
      expect(row['maxUs']).toBeGreaterThanOrEqual(row['p50Us'] as number);
    }
    expect(hash()).not.toBe(before);
  });

  it('says when nothing answers at the address, and refuses what is none', async () => {
    const silent = await bench('e7.7', 'eth0');
    expect(silent.status).toBe(1);
    expect(silent.stderr).toContain('e7.7 does not answer on eth0');
    const wrong = await bench('e1');
    expect(wrong.status).toBe(2);
    expect(wrong.stderr).toContain('must be a shelf and a slot');
  });
});
