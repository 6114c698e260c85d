import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NetworkNamespace } from '../support/netns.ts';
import { AoeServer } from '../support/server.ts';
import { describeWith, disposeAll, TempDirectory } from '../support/tools.ts';
import { decodeFrames, FrameCapture } from './capture.ts';

const TOOLS = ['aoeping', 'aoecfg', 'aoe-sancheck', 'dumpcap', 'tshark', 'ip', 'setpriv'];
const MIB = 1 << 20;
const MTU = 9000;

const TARGETS = [
  { shelf: 1, slot: 0, backend: 'file', file: { path: 'disk.img', size: 8 * MIB } },
  {
    ...{ shelf: 2, slot: 9, backend: 'memory', config_string: 'spare-disk' },
    memory: { size: 8 * MIB },
  },
];

let directory: TempDirectory;
let initiator: NetworkNamespace;
let network: NetworkNamespace;
let server: AoeServer;
let capture: FrameCapture;

function startServer(): Promise<AoeServer> {
  const options = { interfaces: ['aoe0'], directory: directory.path, targets: TARGETS };
  return AoeServer.start({ namespace: network, ...options });
}

function aoeping(...args: string[]) {
  return initiator.tryRun('aoeping', ['-s', '5', ...args, 'eth0']);
}

/** With an address aoecfg ends at the first answer, without one when the time is over. */
function aoecfg(...args: string[]): Promise<string> {
  return initiator.run('aoecfg', ['-t', '2', ...args, 'eth0']);
}

/** The bytes that follow the first colon, as aoeping dumps them. */
function parseHex(dump: string): Buffer {
  return Buffer.from(dump.slice(dump.indexOf(':') + 1).replace(/\s+/g, ''), 'hex');
}

describeWith(TOOLS, 'aoetools', () => {
  beforeAll(async () => {
    directory = await TempDirectory.create();
    network = await NetworkNamespace.create();
    initiator = await NetworkNamespace.create();
    await network.addVeth('aoe0', initiator, 'eth0', MTU);
    server = await startServer();
    capture = await FrameCapture.start(initiator, 'eth0', directory.join('frames.pcapng'));
  });

  afterAll(() => disposeAll(capture, server, initiator, network, directory));

  describe('aoeping', () => {
    it('finds a target and shows the config reply', async () => {
      const { status, output } = await aoeping('-v', '2', '9');
      expect(status).toBe(0);
      expect(output).toMatch(/^found e2\.9 with mac [0-9a-f]{12}$/m);
      expect(output).toContain(Buffer.from('spare').toString('hex').replace(/../g, '$& ').trim());
    });

    it('gets no answer from a slot that is not served', async () => {
      const { status, output } = await initiator.tryRun('aoeping', [
        '-v',
        '-s',
        '1',
        '2',
        '8',
        'eth0',
      ]);
      expect(status).not.toBe(0);
      expect(output).not.toContain('found');
    });

    it('prints the identity', async () => {
      const { status, output } = await aoeping('-I', '1', '0');
      expect(status).toBe(0);
      expect(output).toMatch(/^serial_number: \S+/m);
      expect(output).toMatch(/^model: \S+/m);
    });

    it('prints the size in the words of the identity', async () => {
      const { output } = await aoeping('-i', '1', '0');
      const identity = parseHex(output);
      expect(identity.length).toBe(512);
      expect(identity.readUInt32LE(60 * 2)).toBe((8 * MIB) / 512);
      expect(identity.readBigUInt64LE(100 * 2)).toBe(BigInt((8 * MIB) / 512));
    });

    it('is answered to whatever tag it starts with', async () => {
      for (const tag of ['0', '1', '305419896', '2147483646']) {
        expect((await aoeping('-i', '-t', tag, '1', '0')).status).toBe(0);
      }
    });

    it('learns by SMART that the disk is healthy', async () => {
      const { status, output } = await aoeping('-S', 'return_status', '1', '0');
      expect(status).toBe(0);
      expect(output).toMatch(/LBA Mid: 0x4f\n +LBA High: 0xc2\n +Status: 0x40/);
    });

    it('reads a page of SMART data whose checksum is right', async () => {
      const { status, output } = await aoeping('-S', 'read_data', '1', '0');
      expect(status).toBe(0);
      const page = parseHex(output.slice(output.indexOf('SMART data:')));
      expect(page.length).toBe(512);
      expect(page.reduce((sum, byte) => sum + byte, 0) % 256).toBe(0);
    });

    it('fails when it asks for a SMART command that there is not', async () => {
      expect((await aoeping('-S', 'offline_immediate', '1', '0')).status).not.toBe(0);
    });
  });

  describe('aoe-sancheck', () => {
    it('finds every target with its payload, and a path that carries the whole MTU', async () => {
      const report = await initiator.run('aoe-sancheck', ['-v']);
      const devices = report.slice(report.indexOf('Device\t'));
      expect(devices).toMatch(/^e1\.0\t +1\t8192\teth0$/m);
      expect(devices).toMatch(/^e2\.9\t +1\t8192\teth0$/m);
      expect(devices).not.toMatch(/Mismatched|only capable|not set optimally|different/);
    });
  });

  describe('aoecfg', () => {
    it('reads the config strings of all targets by one broadcast', async () => {
      const rows = (await aoecfg())
        .split('\n')
        .filter((row) => row !== '')
        .sort();
      expect(rows).toEqual(['1.0\t', '2.9\tspare-disk']);
    });

    it('finds a target by its config string or the beginning of it', async () => {
      expect(await aoecfg('-c', 'test', '-s', 'spare-disk')).toBe('2.9\tspare-disk\n');
      expect(await aoecfg('-c', 'test', '-s', 'spare')).toBe('');
      expect(await aoecfg('-c', 'prefix', '-s', 'spare')).toBe('2.9\tspare-disk\n');
    });

    it('claims an unclaimed target, once', async () => {
      expect(await aoecfg('-c', 'set', '-s', 'mine', '1', '0')).toBe('mine\n');
      expect(await aoecfg('-c', 'set', '-s', 'mine', '1', '0')).toBe('mine\n');
      expect(await aoecfg('-c', 'set', '-s', 'yours', '1', '0')).toBe('*badcfg*\n');
      expect(await aoecfg('1', '0')).toBe('mine\n');
    });

    it('replaces a config string by force', async () => {
      expect(await aoecfg('-c', 'fset', '-s', 'yours', '1', '0')).toBe('yours\n');
      expect(await aoecfg('1', '0')).toBe('yours\n');
    });

    it('reads the same config string after the server was killed and started again', async () => {
      await server.kill();
      server = await startServer();
      expect(await aoecfg('1', '0')).toBe('yours\n');
    });
  });

  describe('tshark', () => {
    it('decodes all of it without complaint', async () => {
      await capture.stop();
      const path = directory.join('frames.pcapng');
      const frames = await decodeFrames(path, [
        'aoe.response',
        'aoe.cmd',
        'aoe.error',
        'aoe.major',
      ]);
      const replies = frames.filter((frame) => frame.fields['aoe.response'] === '1');
      expect(frames.flatMap((frame) => frame.complaints)).toEqual([]);
      expect(new Set(replies.map((frame) => frame.fields['aoe.cmd']))).toEqual(new Set(['0', '1']));
      // The refused claim is the only error, and nothing answers as a wildcard address.
      expect(replies.filter((frame) => frame.fields['aoe.error'] !== '').length).toBe(1);
      expect(new Set(replies.map((frame) => frame.fields['aoe.major']))).toEqual(
        new Set(['0x0001', '0x0002']),
      );
    });
  });
});
