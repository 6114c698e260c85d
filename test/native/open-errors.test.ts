import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { StartupError } from '../../src/core/startup-error.ts';
import { PacketLink } from '../../src/net/packet-link.ts';
import { NetworkNamespace } from '../support/netns.ts';
import { describeWith, disposeAll, tryRun } from '../support/tools.ts';

const PROGRAM = join(import.meta.dirname, 'addon.mjs');

function openLink(name: string): PacketLink {
  return new PacketLink({
    interface: name,
    slab: new ArrayBuffer(4096),
    queueCount: 1,
    spinUs: 0,
    ringBytes: 1 << 20,
    filter: new Uint32Array([0x06, 0, 0, 0]),
    registerMemory: (ring) => ({ bytes: Buffer.from(ring), region: 0 }),
    unregisterMemory: () => {},
  });
}

function failureOf(open: () => unknown): StartupError {
  try {
    open();
  } catch (error) {
    if (error instanceof StartupError) return error;
    throw error;
  }
  throw new Error('it opened');
}

describeWith(['ip', 'setpriv'], 'an interface that cannot be opened', () => {
  let network: NetworkNamespace;
  const down = `aoed${process.pid}`;
  const tunnel = `aoen${process.pid}`;

  /** How the addon fails inside the namespace. */
  async function open(name: string, ...prefix: string[]): Promise<Record<string, unknown>> {
    const [command, ...args] = [...prefix, process.execPath, PROGRAM, 'open', name];
    return JSON.parse(await network.run(command as string, args)) as Record<string, unknown>;
  }

  beforeAll(async () => {
    network = await NetworkNamespace.create();
    await network.run('ip', ['link', 'add', down, 'type', 'veth', 'peer', 'name', `${down}p`]);
    await network.run('ip', ['tuntap', 'add', tunnel, 'mode', 'tun']);
    await network.run('ip', ['link', 'set', tunnel, 'up']);
  });
  afterAll(() => disposeAll(network));

  it('tells code, errno and system call when there is no such interface', async () => {
    expect(await open('nowhere0')).toMatchObject({
      code: 'ENODEV',
      errno: 19,
      syscall: 'ioctl(SIOCGIFINDEX)',
    });
    expect(await open('a-name-of-17-char')).toMatchObject({ code: 'ENODEV' });
  });

  it('tells them when it is down', async () => {
    expect(await open(down)).toMatchObject({
      code: 'ENETDOWN',
      errno: 100,
      syscall: 'ioctl(SIOCGIFFLAGS)',
    });
  });

  it('tells them when it is not Ethernet', async () => {
    expect(await open(tunnel)).toMatchObject({
      code: 'EPROTONOSUPPORT',
      errno: 93,
      syscall: 'ioctl(SIOCGIFHWADDR)',
    });
  });

  it('tells them when raw sockets are not permitted', async () => {
    const unprivileged = ['setpriv', '--bounding-set', '-net_raw', '--inh-caps', '-net_raw'];
    expect(await open('lo', ...unprivileged)).toMatchObject({
      code: 'EPERM',
      errno: 1,
      syscall: 'socket(AF_PACKET)',
    });
  });

  it('opens one that is up', async () => {
    expect(await open('lo')).toEqual({});
  });

  it('says what to do about an interface that is missing', () => {
    const { message, remedy, cause } = failureOf(() => openLink('nowhere0'));
    expect(message).toBe('there is no interface nowhere0');
    expect(remedy).toContain('ip link');
    expect(cause).toMatchObject({ code: 'ENODEV' });
  });

  it('says what to do about one that is down, and about one that is not Ethernet', async () => {
    const cases = [
      [down, 'is down', `ip link set ${down} up`],
      [tunnel, 'is not Ethernet', 'a bridge'],
    ] as const;
    for (const [name, problem, remedy] of cases) {
      // Into our own network, which is where this process can open it.
      await network.run('ip', ['link', 'set', name, 'netns', `${process.pid}`]);
      if (name === tunnel) await tryRun('ip', ['link', 'set', name, 'up']);
      try {
        const failure = failureOf(() => openLink(name));
        expect(failure.message).toContain(problem);
        expect(failure.remedy).toContain(remedy);
      } finally {
        await tryRun('ip', ['link', 'del', name]);
      }
    }
  });

  it('lets an open link be closed twice, and send and stop afterwards', async () => {
    const link = openLink('lo');
    let sentCount = 0;
    const frame = { frameOffset: 0, frameSize: 60, sent: () => void sentCount++ };
    link.close();
    link.close();
    link.stopReceiving();
    link.send(frame);
    expect(sentCount).toBe(1);
    expect((await link.next()).done).toBe(true);
  });
});
