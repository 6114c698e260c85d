import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { run as runProgram } from '../cli/run.ts';
import { describeWith, disposeAll } from '../support/tools.ts';
import { type AtaFields, ataReply, ataRequest, dataOf, expectFrames, sectors } from './frames.ts';
import { MIB, Served, TOOLS } from './served.ts';

const ABORTED = { status: 0x41, error: 0x04 };
const READ_EXT = { opcode: 0x24, aflags: 0x40, sectorCount: 2 };
const WRITE_EXT = { opcode: 0x34, aflags: 0x41, sectorCount: 1 };
const TRIM = { opcode: 0x06, aflags: 0x41, feature: 1, sectorCount: 1 };
const VOLUME_SECTORS = (4 * MIB) / 512;

/** Runs a command on the store that the server has when it runs. */
function succeed(...args: string[]): string {
  const { status, stdout, stderr } = runProgram(...args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

describeWith(TOOLS, 'targets on snapshots of a content-addressed store', () => {
  const content = randomBytes(4 * MIB);
  let served: Served;

  async function ask(fields: AtaFields): Promise<Buffer> {
    const [reply] = await served.client.exchange(ataRequest(fields), 1);
    return reply as Buffer;
  }

  beforeAll(async () => {
    served = await Served.start([]);
    await served.server.stop();
    const store = served.join('blobs');
    await writeFile(served.join('disk.img'), content);
    succeed('import', served.join('disk.img'), store, 'e1.0');
    succeed('cas', 'snapshot', store, 'e1.0', 'monday');
    const { snapshots } = JSON.parse(succeed('cas', 'list', store, '--json'));
    const blob_store = { type: 'file', path: 'blobs' };
    await served.start([
      { shelf: 1, slot: 0, backend: 'cas', cas: { size: 4 * MIB, blob_store } },
      { shelf: 1, slot: 1, backend: 'cas', cas: { root: 'monday', blob_store } },
      { shelf: 1, slot: 2, backend: 'cas', cas: { root: snapshots[0].root, blob_store } },
    ]);
  });
  afterAll(() => disposeAll(served));

  it('have the size of the snapshot and no TRIM in IDENTIFY', async () => {
    for (const slot of [0, 1, 2]) {
      const data = dataOf(await ask({ opcode: 0xec, sectorCount: 1, slot }));
      expect(data.readUInt32LE(100 * 2)).toBe(VOLUME_SECTORS);
      expect(data.readUInt16LE(169 * 2) & 1).toBe(slot === 0 ? 1 : 0);
    }
  });

  it('keep what the volume had, whatever is written to it', async () => {
    const write = ataRequest({ ...WRITE_EXT, lba: 8, data: sectors(1, 7) });
    expectFrames(await served.client.exchange(write, 1), [ataReply(write)]);
    expect(dataOf(await ask({ ...READ_EXT, lba: 8 }))).toEqual(
      Buffer.concat([sectors(1, 7), content.subarray(9 * 512, 10 * 512)]),
    );
    for (const slot of [1, 2]) {
      const data = dataOf(await ask({ ...READ_EXT, slot, lba: 8 }));
      expect(data).toEqual(content.subarray(8 * 512, 10 * 512));
    }
  });

  it('abort writing and trimming like any read-only target', async () => {
    for (const slot of [1, 2]) {
      const fields = { slot, lba: 8, data: sectors(1, 9) };
      for (const request of [
        { ...WRITE_EXT, ...fields },
        { ...TRIM, ...fields },
      ].map(ataRequest)) {
        expectFrames(await served.client.exchange(request, 1), [ataReply(request, ABORTED)]);
      }
    }
  });

  it('are refused when there is no such snapshot', async () => {
    await served.server.stop();
    const cas = { root: 'tuesday', blob_store: { type: 'file', path: 'blobs' } };
    const started = served.start([{ shelf: 1, slot: 1, backend: 'cas', cas }]);
    await expect(started).rejects.toThrow('has no snapshot tuesday');
  });
});
