import { open, writeFile } from 'node:fs/promises';
import { afterEach, expect, it } from 'vitest';
import {
  BLOCK_SIZE,
  EntryKind,
  RecordType,
  recordSizeMax,
  writeRecordHeader,
} from '../../../src/backends/cas/format.ts';
import { native } from '../../../src/native.ts';
import { ExportedFile, STORAGE_TOOLS } from '../../faults/storage.ts';
import { describeWith, TempDirectory } from '../../support/tools.ts';
import { readRecord } from './oracle.ts';
import { blockOf } from './tiny-store.ts';

const SEGMENT = 1;
const READ_OK = 0;
const WOULD_BLOCK = 1;

describeWith(STORAGE_TOOLS, 'a store on a file system that a program serves', () => {
  let directory: TempDirectory;
  let exported: ExportedFile;
  afterEach(async () => {
    await exported[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });

  it('reads nothing in the thread of the server, not even what is cached', async () => {
    directory = await TempDirectory.create();
    const engine = new native.CasEngine(2 ** 30);
    const record = Buffer.alloc(recordSizeMax(1, BLOCK_SIZE));
    const rest = { sequence: 1, epoch: 1, durableSequence: 1 };
    const header = { type: RecordType.data, segment: SEGMENT, offset: 0, ...rest };
    writeRecordHeader(record, new Uint8Array(16), header);
    engine.ingestNow(blockOf(2), new Int32Array([1, 5, 0, 1, 0, 1]), 1, record, false);
    const path = directory.join('segment');
    await writeFile(path, record);
    exported = await ExportedFile.of(path, directory.join('served'));

    const [entry] = readRecord(record);
    const words = new Uint32Array(new Uint8Array(entry?.hash ?? []).buffer);
    const place = record.readUInt32LE(128 + 52);
    const out = Buffer.alloc(BLOCK_SIZE);
    const at = [SEGMENT, place, EntryKind.block, words, 0, out, 0] as const;
    for (const [file, atOnce] of [
      [path, READ_OK],
      [exported.path, WOULD_BLOCK],
    ] as const) {
      await using handle = await open(file);
      engine.attach(SEGMENT, handle.fd);
      expect(await engine.read(...at)).toBe(READ_OK);
      expect(out.equals(blockOf(2))).toBe(true);
      expect(engine.readNow(...at)).toBe(atOnce);
    }
  });
});
