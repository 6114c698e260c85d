import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { NetworkNamespace } from '../support/netns.ts';
import { AoeServer } from '../support/server.ts';
import { describeWith, disposeAll, TempDirectory } from '../support/tools.ts';
import { decodeFrames } from './capture.ts';
import { bootableImage, bootFromNetwork, FIRMWARE_TOOLS, TEXT, WRITTEN_SECTOR } from './ipxe.ts';

vi.setConfig({ testTimeout: 90_000 });

const TOOLS = [...FIRMWARE_TOOLS, 'tshark'];
const SECTOR_SIZE = 512;

describeWith(TOOLS, 'iPXE', () => {
  let directory: TempDirectory;
  let namespace: NetworkNamespace;
  let server: AoeServer;

  beforeAll(async () => {
    directory = await TempDirectory.create();
    await writeFile(directory.join('boot.img'), bootableImage());
    await writeFile(directory.join('script'), '#!ipxe\nifopen net0\nsanboot aoe:e3.5\n');

    namespace = await NetworkNamespace.create();
    await namespace.addTap('tap0');
    const targets = [{ shelf: 3, slot: 5, backend: 'file', file: { path: 'boot.img' } }];
    const options = { namespace, interfaces: ['tap0'], directory: directory.path, targets };
    server = await AoeServer.start(options);
  });

  afterAll(() => disposeAll(server, namespace, directory));

  it('boots from a target, reads it and writes to it', async () => {
    const dump = `filter-dump,id=dump,netdev=net,file=${directory.join('frames.pcap')}`;
    const script = directory.join('script');
    const printed = await bootFromNetwork(namespace, 'tap0', script, ['-object', dump]);

    expect(printed).toContain(TEXT);
    const image = await readFile(directory.join('boot.img'));
    const written = image.subarray(WRITTEN_SECTOR * SECTOR_SIZE).subarray(0, SECTOR_SIZE);
    expect(written.toString('latin1')).toBe(TEXT.padEnd(SECTOR_SIZE, '\0'));
  });

  it('is answered in frames that tshark decodes without complaint', async () => {
    const frames = await decodeFrames(directory.join('frames.pcap'), [
      'aoe.response',
      'aoe.ata.cmd',
      'aoe.ata.status',
    ]);
    const replies = frames.filter((frame) => frame.fields['aoe.response'] === '1');
    expect(frames.flatMap((frame) => frame.complaints)).toEqual([]);
    const statuses = new Set(replies.map((frame) => frame.fields['aoe.ata.status']));
    // Config replies have no status; all else is DRDY.
    expect(statuses).toEqual(new Set(['', '0x40']));
  });
});
