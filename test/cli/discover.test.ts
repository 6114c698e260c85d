import { afterAll, beforeAll, expect, it } from 'vitest';
import { NetworkNamespace } from '../support/netns.ts';
import { AoeServer } from '../support/server.ts';
import { describeWith, disposeAll, TempDirectory } from '../support/tools.ts';
import { PROGRAM } from './run.ts';

const MIB = 1 << 20;
const memory = (shelf: number, slot: number, sizeMib: number, configString: string) => ({
  ...{ shelf, slot, backend: 'memory', config_string: configString },
  memory: { size: sizeMib * MIB },
});

let directory: TempDirectory;
let initiator: NetworkNamespace;
let network: NetworkNamespace;
let otherNetwork: NetworkNamespace;
let server: AoeServer;
let otherServer: AoeServer;

/** Runs `aoe-server discover`; status and the two outputs. */
async function discover(namespace: NetworkNamespace, ...args: string[]) {
  const { status, stdout, output } = await namespace.tryRun(process.execPath, [
    PROGRAM,
    'discover',
    ...args,
  ]);
  return { status, stdout, stderr: output.slice(stdout.length) };
}

async function macOf(namespace: NetworkNamespace, name: string): Promise<string> {
  return (await namespace.run('cat', [`/sys/class/net/${name}/address`])).trim();
}

describeWith(['ip', 'setpriv', 'sysctl'], 'aoe-server discover', () => {
  beforeAll(async () => {
    directory = await TempDirectory.create();
    initiator = await NetworkNamespace.create();
    network = await NetworkNamespace.create();
    otherNetwork = await NetworkNamespace.create();
    await network.addVeth('aoe0', initiator, 'eth0', 9000);
    await network.addVeth('aoe1', initiator, 'eth1');
    await otherNetwork.addVeth('aoe0', initiator, 'eth2');
    await otherNetwork.addVeth('quiet0', initiator, 'eth3');
    server = await AoeServer.start({
      namespace: network,
      interfaces: ['aoe0', 'aoe1', 'lo'],
      directory: directory.join('server'),
      targets: [memory(10, 1, 3, ''), memory(2, 3, 1536, 'red \u001b[31m "disk"')],
    });
    otherServer = await AoeServer.start({
      namespace: otherNetwork,
      interfaces: ['aoe0'],
      directory: directory.join('other'),
      targets: [memory(10, 1, 4, '')],
    });
  });

  afterAll(() => disposeAll(otherServer, server, initiator, network, otherNetwork, directory));

  it('shows the targets on an interface, sorted by address', async () => {
    const { status, stdout, stderr } = await discover(initiator, 'eth0');
    const mac = await macOf(network, 'aoe0');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const lines = stdout.trimEnd().replaceAll(/\d+\.\d\d ms/g, 'TIME');
    expect(lines.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
      [
        ...['TARGET', 'INTERFACE', 'SIZE', 'MAC', 'SECTORS', 'BUFFERS', 'ROUND TRIP'],
        ...['MODEL', 'SERIAL', 'CONFIG STRING'],
      ],
      [
        ...['e2.3', 'eth0', '1.5GiB', mac, '16', '64', 'TIME', 'aoe-server e2.3'],
        ...[expect.stringMatching(/^[0-9A-F]{20}$/), '"red \\u001b[31m \\"disk\\""'],
      ],
      [
        ...['e10.1', 'eth0', '3MiB', mac, '16', '64', 'TIME', 'aoe-server e10.1'],
        ...[expect.stringMatching(/^[0-9A-F]{20}$/), '""'],
      ],
    ]);
  });

  it('prints everything as JSON', async () => {
    const { status, stdout, stderr } = await discover(initiator, '--json', 'eth1');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual([
      {
        ...{ address: 'e2.3', shelf: 2, slot: 3, interface: 'eth1' },
        ...{ mac: await macOf(network, 'aoe1'), sizeBytes: 1536 * MIB },
        ...{ sectorsPerFrame: 2, bufferCount: 64, roundTripMs: expect.any(Number) },
        ...{ model: 'aoe-server e2.3', serial: expect.any(String) },
        configString: 'red \u001b[31m "disk"',
      },
      expect.objectContaining({ address: 'e10.1', sizeBytes: 3 * MIB }),
    ]);
    const [{ roundTripMs }] = JSON.parse(stdout);
    expect(roundTripMs).toBeGreaterThan(0);
    expect(roundTripMs).toBeLessThan(2000);
  });

  it('asks on all Ethernet interfaces that are up, and warns of addresses found twice', async () => {
    await initiator.run('ip', ['link', 'set', 'eth3', 'down']);
    const { status, stdout, stderr } = await discover(initiator);
    const [first, second] = [await macOf(network, 'aoe0'), await macOf(network, 'aoe1')];
    const other = await macOf(otherNetwork, 'aoe0');
    expect(status).toBe(0);
    const found = stdout.split('\n').map((line) => line.split(/ +/).slice(0, 4).join(' '));
    expect(found.slice(1, -1).sort()).toEqual([
      `e10.1 eth0 3MiB ${first}`,
      `e10.1 eth1 3MiB ${second}`,
      `e10.1 eth2 4MiB ${other}`,
      `e2.3 eth0 1.5GiB ${first}`,
      `e2.3 eth1 1.5GiB ${second}`,
    ]);
    const [ports, advice, clash, ...rest] = stderr.trimEnd().split('\n');
    expect(ports).toMatch(/^WARNING: several MACs answer as e2\.3: /);
    expect(ports).toContain(`${first} on eth0`);
    expect(ports).toContain(`${second} on eth1`);
    expect(advice).toContain('Unless they are ports of one server');
    expect(clash).toMatch(/^WARNING: different disks answer as e10\.1: /);
    expect(clash).toContain(`${other} on eth2`);
    expect(rest).toEqual([expect.stringContaining('DESTROY DATA')]);
  });

  it('finds the targets of this machine on the loopback interface', async () => {
    const { status, stdout } = await discover(network, '--json', 'lo');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject([
      { address: 'e2.3', interface: 'lo', mac: '00:00:00:00:00:00', sizeBytes: 1536 * MIB },
      { address: 'e10.1' },
    ]);
  });

  it('succeeds and says what to look at when nobody answers', async () => {
    const { status, stdout, stderr } = await discover(network, '--json', 'aoe1');
    expect({ status, stdout }).toEqual({ status: 0, stdout: '[]\n' });
    expect(stderr).toMatch(/^No target answered on aoe1\.\n( {4}\S.*\n)+$/);
    expect(stderr).toContain('same Ethernet segment');
  });

  it('exits with 1 and a remedy for an interface that cannot be used', async () => {
    await initiator.run('ip', ['link', 'set', 'eth3', 'down']);
    expect(await discover(initiator, 'eth3')).toEqual({
      status: 1,
      stdout: '',
      stderr: expect.stringMatching(/^aoe-server: .*eth3 is down\n {4}\S.*\n$/),
    });
  });

  it('exits with 1 when no Ethernet interface is up', async () => {
    await using empty = await NetworkNamespace.create();
    expect(await discover(empty)).toEqual({
      status: 1,
      stdout: '',
      stderr: expect.stringMatching(/^aoe-server: no Ethernet interface is up\n {4}\S.*\n$/),
    });
  });
});
