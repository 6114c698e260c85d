/** What the command `cas fsck --remote` says of a store on a real service, as tests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { BlobStore } from '../../../../src/backends/cas/blob-store.ts';
import { hostFiles } from '../../../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { openCasStore } from '../../../../src/backends/cas/open.ts';
import type { BlobsConfig } from '../../../../src/backends/cas/remote/open-blobs.ts';
import { REMOTE_DEFAULTS } from '../../../../src/backends/cas/remote/remote-options.ts';
import { PROGRAM } from '../../../cli/run.ts';
import { tryRun } from '../../../support/tools.ts';
import { blockOf, blocksOf, clientOf, TINY } from '../tiny-store.ts';
import { diskBytes, WAIT } from './remote-store.ts';

export interface FsckService {
  /** Where commands find the blobs. */
  readonly location: BlobsConfig;
  readonly blobs: BlobStore;
  /** Its credentials. */
  readonly environment: Readonly<Record<string, string>>;
}

const COUNT = 128;
const SIZE_BYTES = COUNT * BLOCK_SIZE;
/** Of the block at LBA 8, which is only in a blob. */
const SEED = 4;

/** @param open gives a service with blobs that are empty */
export function testFsckCommand(open: () => Promise<FsckService>): void {
  describe('under cas fsck --remote', () => {
    const path = mkdtempSync(join(tmpdir(), 'aoe-fsck-command-'));
    let service: FsckService;
    afterAll(() => rmSync(path, { recursive: true }));

    beforeAll(async () => {
      service = await open();
      const { blobs, location } = service;
      const remote = { ...REMOTE_DEFAULTS, blobs, location, cacheBytes: 0 };
      const store = await openCasStore(path, { ...TINY, files: hostFiles(), remote });
      const client = clientOf(await store.openVolume('e1.0', SIZE_BYTES));
      await client.write(0, blocksOf(2, COUNT, 2));
      for (let i = 0; i < 3; i++) {
        await client.write(0, blockOf(1002));
        await client.flush();
        await store.checkpoint();
      }
      // Heads of records and nodes stay: of blocks this small they are half.
      await vi.waitUntil(async () => (await diskBytes(store)) < SIZE_BYTES * 0.7, WAIT);
      await store.close();
    }, 60_000);

    /** Not waited for in one go: the service closes connections of which nothing is heard meanwhile. */
    function fsck(...options: string[]) {
      const given = Object.entries(service.environment).map(([name, value]) => `${name}=${value}`);
      const args = [...given, process.execPath, PROGRAM, 'cas', 'fsck', path, ...options];
      return tryRun('env', args, { timeoutMs: 60_000 });
    }

    const readBlob = (name: string) => service.blobs.getRange(name, 0, 8 << 20);

    async function namesOf(prefix: string): Promise<string[]> {
      const names: string[] = [];
      for await (const { name } of service.blobs.list(prefix)) names.push(name);
      return names;
    }

    async function findBlock(): Promise<{ readonly name: string; readonly at: number }> {
      for (const name of await namesOf('segment-')) {
        const at = Buffer.from(await readBlob(name)).indexOf(blockOf(SEED).subarray(0, 64));
        if (at >= 0) return { name, at };
      }
      throw new Error('the block is in no part');
    }

    /** Runs the command while a blob is another one, or none. */
    async function fsckWith(name: string, other: Uint8Array | undefined) {
      const bytes = await readBlob(name);
      await service.blobs.delete(name);
      if (other !== undefined) await service.blobs.put(name, other, true);
      const result = await fsck('--remote');
      await service.blobs.delete(name);
      await service.blobs.put(name, bytes, true);
      return result;
    }

    it('finds nothing where all is well, and sees everything', async () => {
      const contents = async () => {
        const names = await namesOf('');
        return Promise.all(names.map(async (name) => [name, await readBlob(name)]));
      };
      const before = await contents();
      const { status, stdout, output } = await fsck('--remote');
      expect(stdout).toMatch(/^generation \d+: .* are intact\nblob store: \d+ entries .*\n$/);
      expect({ status, output }).toEqual({ status: 0, output: stdout });
      expect(await contents()).toEqual(before);
      expect((await fsck()).stdout).toMatch(/\d+ blocks and nodes are in the blob store only/);
      const { blobStore, absent } = JSON.parse((await fsck('--remote', '--json')).stdout);
      expect({ ...blobStore, absent }).toMatchObject({
        parts: (await namesOf('segment-')).length,
        absent: 0,
      });
    });

    it('names a part that is damaged, cut off or missing, and what is lost with it', async () => {
      const { name, at } = await findBlock();
      const bytes = await readBlob(name);
      const flipped = bytes.slice();
      flipped[at + 9] = (flipped[at + 9] as number) ^ 1;
      for (const [other, problem] of [
        [flipped, /: .*block [0-9a-f]{64} is damaged/],
        [bytes.slice(0, 5000), ` has 5000 of ${bytes.length} bytes`],
        [undefined, ' is missing'],
      ] as const) {
        const { status, stdout, output } = await fsckWith(name, other);
        const line = stdout.split('\n').find((one) => one.startsWith(`blob: ${name}`));
        expect(line?.slice(`blob: ${name}`.length)).toMatch(problem);
        expect(stdout).toMatch(/LOST IN +NAME +LBA +SECTORS\n/);
        expect(stdout).toMatch(/volume +e1\.0 +8 +8\n/);
        expect(output).toContain('blocks are lost, see above');
        expect(status).toBe(5);
      }
    });

    it('names an entry of the journal that is damaged, with which nothing is lost', async () => {
      const name = (await namesOf('journal-')).at(-1) as string;
      const { status, stdout, output } = await fsckWith(name, Buffer.from('{"version":1'));
      expect(stdout).toContain(`journal: ${name} is no JSON`);
      expect(output).toContain('no block is lost');
      expect(status).toBe(4);
    });
  });
}
