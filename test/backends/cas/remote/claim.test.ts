import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { BlobExistsError } from '../../../../src/backends/cas/blob-store.ts';
import { collect } from '../../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import {
  decodeEntry,
  type Entry,
  encodeEntry,
  FencedError,
} from '../../../../src/backends/cas/remote/journal-entry.ts';
import { describeOwner, isOwner } from '../../../../src/backends/cas/remote/owner-file.ts';
import { REMOTE_DEFAULTS } from '../../../../src/backends/cas/remote/remote-options.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import { SimFs } from '../sim-fs.ts';
import { abandon, blockOf, openTiny } from '../tiny-store.ts';
import {
  BLOCK_COUNT,
  copyOf,
  openRemote,
  openVolume,
  ownerOf,
  readSeeds,
  recoverSeeds,
  WAIT,
} from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

const MODES = [
  ['with conditions', true],
  ['without conditions', false],
] as const;

function newBlobs(knowsConditions: boolean): TraceBlobs {
  const blobs = new TraceBlobs();
  blobs.knowsConditions = knowsConditions;
  return blobs;
}

/** Opens a store whose first block is 1, also in the blob store. */
async function openWritten(files: SimFs, blobs: TraceBlobs) {
  const store = await openRemote(files, blobs, { durability: 'remote' });
  const client = await openVolume(store);
  await client.write(0, blockOf(1));
  await client.flush();
  return { store, client };
}

function entryOf(bytes: Uint8Array): Entry {
  const entry = decodeEntry(bytes);
  if (entry === undefined) throw new Error('the entry is damaged');
  return entry;
}

/** Puts what a twin has gone on with from an entry, where there are no conditions. */
function putTwin({ blobs }: TraceBlobs, [name, bytes]: [string, Uint8Array]): void {
  const entry = entryOf(bytes);
  const [number, nonce] = [entry.number + 1, '0'.repeat(32)];
  const twin = { ...entry, number, nonce, after: name, segments: [], removed: [] };
  const twinName = `${name.slice(0, -49)}${String(number).padStart(16, '0')}-${nonce}`;
  blobs.set(twinName, encodeEntry(twin));
}

function flip(bytes: Uint8Array, at: number): void {
  bytes[at] = (bytes[at] as number) ^ 1;
}

/** The name and content of the journal's last entry. */
function lastEntry({ blobs }: TraceBlobs): [string, Uint8Array] {
  const names = [...blobs.keys()].filter((name) => name.startsWith('journal-')).sort();
  const name = names.at(-1) as string;
  return [name, blobs.get(name) as Uint8Array];
}

it('who has claimed a store knows all of its claims that may still arrive', () => {
  const options = { ...REMOTE_DEFAULTS, blobs: new TraceBlobs() };
  const first = describeOwner(undefined, undefined, options);
  const claims = [first];
  // None of the others has arrived.
  for (let count = 0; count < 3; count++) {
    claims.push(describeOwner(claims.at(-1), first, options));
  }
  const last = claims.at(-1);
  expect(claims.map((claim) => isOwner(last, claim))).toEqual([true, true, true, true]);
  const other = describeOwner(undefined, undefined, options);
  expect(isOwner(last, other)).toBe(false);
  expect(isOwner(describeOwner(last, other, options), first)).toBe(false);
});

describe.each(MODES)('a journal %s', (_, knowsConditions) => {
  /** One of which the next entry says everything, so that those before it go. */
  async function openFull(blobs: TraceBlobs): Promise<Journal> {
    const journal = await Journal.read(blobs);
    await journal.claim({ id: 'an id', host: 'a host' });
    while (journal.entries.size < 64) await journal.append({});
    return journal;
  }

  it('is read though its owner removes entries meanwhile', async () => {
    const blobs = newBlobs(knowsConditions);
    const journal = await openFull(blobs);
    blobs.beforeRead = async () => {
      blobs.beforeRead = async () => {};
      await journal.append({});
    };
    expect((await Journal.read(blobs)).entries).toEqual(journal.entries);
    expect(journal.entries.size).toBe(1);
  });

  it('goes on though entries cannot be removed, and removes them later', async () => {
    const blobs = newBlobs(knowsConditions);
    const journal = await openFull(blobs);
    blobs.fail = ({ op }) => (op === 'delete' ? 'before' : undefined);
    await journal.append({});
    expect(journal.entries.size).toBe(1);
    blobs.fail = () => undefined;
    while (journal.entries.size < 64) await journal.append({});
    await journal.append({});
    // The mark of a claim without conditions stays.
    const left = [...blobs.blobs.keys()].filter((name) => !name.includes('-0000000000000000-'));
    expect(left).toEqual([...journal.entries.keys()]);
  });
});

describe.each(MODES)('two servers and one blob store %s', (_, knowsConditions) => {
  it('refuses the second while the first has it', async () => {
    const blobs = newBlobs(knowsConditions);
    const first = await openRemote(new SimFs(), blobs);
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('is in use by the server on');
    await first.close();
    await (await openRemote(new SimFs(), blobs)).close();
  });

  it('stops the first when it was taken over, before it confirms anything', async () => {
    const blobs = newBlobs(knowsConditions);
    const failures: Error[] = [];
    const onFailed = (error: Error) => failures.push(error);
    const first = await openRemote(new SimFs(), blobs, { durability: 'remote' }, { onFailed });
    const client = await openVolume(first);
    await client.write(0, blockOf(1));
    await client.flush();
    const second = await openRemote(new SimFs(), blobs, {
      takeOver: await ownerOf(blobs),
    });
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    expect(failures[0]?.message).toContain('has taken over the blob store');
    await expect(client.write(0, blockOf(3))).rejects.toThrow();
    expect((await readSeeds(second))[0]).toBe(1);
    await second.close();
    await first.close();
  });

  it('stops the first though entries of who has taken it over are damaged', async () => {
    const blobs = newBlobs(knowsConditions);
    const first = await openRemote(new SimFs(), blobs, { durability: 'remote' });
    const client = await openVolume(first);
    const known = new Set(blobs.blobs.keys());
    const second = await openRemote(new SimFs(), blobs, { takeOver: await ownerOf(blobs) });
    for (const [name, bytes] of blobs.blobs) {
      if (!known.has(name) && name.startsWith('journal-')) flip(bytes, bytes.length - 10);
    }
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    expect(first.failure).toBeInstanceOf(FencedError);
    await first.close();
    await abandon(second);
  });

  it('lets one of two that start at once on copies of a directory have it', async () => {
    const blobs = newBlobs(knowsConditions);
    const files = new SimFs();
    const { store } = await openWritten(files, blobs);
    await abandon(store);
    const starts = [copyOf(files), copyOf(files)].map((copy) => openRemote(copy, blobs));
    const ends = await Promise.allSettled(starts);
    const [failure] = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason] : []));
    expect(failure).toBeInstanceOf(FencedError);
    expect(failure.remedy).toContain('copy');
    const [winner] = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
    expect((await readSeeds(winner as CasStore))[0]).toBe(1);
    await winner?.close();
  });

  it('stops one whose directory was copied when the copy is started, and for good', async () => {
    const blobs = newBlobs(knowsConditions);
    const files = new SimFs();
    const { client } = await openWritten(files, blobs);
    const second = await openRemote(copyOf(files), blobs, { durability: 'remote' });
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    const other = await openVolume(second);
    await other.write(0, blockOf(3));
    await other.flush();
    // As long as what is here, and something else.
    await expect(openRemote(files, blobs)).rejects.toThrow('is in use by the server on');
    await second.close();
    await expect(openRemote(files, blobs)).rejects.toThrow('is out of date');
    expect((await recoverSeeds(blobs))[0]).toBe(3);
  });

  for (const [failure, what] of [
    ['before', 'never arrived'],
    ['after', 'had no answer'],
  ] as const) {
    it(`lets a server go on whose claim ${what}`, async () => {
      const blobs = newBlobs(knowsConditions);
      const files = new SimFs();
      await abandon(await openRemote(files, blobs));
      const owner = await ownerOf(blobs);
      // The mark of a claim without conditions does arrive.
      blobs.fail = ({ name }) => (name.includes('-0000000000000000-') ? undefined : failure);
      blobs.onChange = () => {
        blobs.beforeRead = () => Promise.reject(new Error('no route'));
      };
      await expect(openRemote(files, blobs)).rejects.toThrow('cannot be used');
      blobs.fail = () => undefined;
      blobs.beforeRead = async () => {};
      blobs.onChange = () => {};
      expect((await ownerOf(blobs)) === owner).toBe(failure === 'before');
      await (await openRemote(files, blobs)).close();
    });
  }

  it('writes who it is anew over what a crash left of that', async () => {
    const blobs = newBlobs(knowsConditions);
    const files = new SimFs();
    const left = await files.open('/store/owner.partial', true);
    await left.write(new Uint8Array(9999).fill(32), 9999, 0, true);
    await left.close();
    await (await openRemote(files, blobs)).close();
    expect(JSON.parse(Buffer.from(files.contentOf('/store/owner')).toString())).toBeDefined();
    expect(files.contentOf('/store/owner').length).toBeLessThan(9999);
    await (await openRemote(files, blobs)).close();
  });

  it('names the file that says who it is when that is damaged', async () => {
    const blobs = newBlobs(knowsConditions);
    const files = new SimFs();
    await (await openRemote(files, blobs)).close();
    files.contentOf('/store/owner')[0] = 0;
    await expect(openRemote(files, blobs)).rejects.toThrow('/store/owner is damaged');
    await expect(openTiny(files)).rejects.toThrow('/store/owner is damaged');
  });

  it('refuses a directory that another server has overtaken', async () => {
    const blobs = newBlobs(knowsConditions);
    const files = new SimFs();
    await (await openRemote(files, blobs)).close();
    await (await openRemote(new SimFs(), blobs)).close();
    await expect(openRemote(files, blobs)).rejects.toThrow('is out of date');
  });

  it('refuses a directory that was put back from a copy', async () => {
    const blobs = newBlobs(knowsConditions);
    const files = new SimFs();
    const remote = { durability: 'remote' } as const;
    const store = await openRemote(files, blobs, remote);
    const client = await openVolume(store);
    const copy = copyOf(files);
    await client.write(0, blockOf(1));
    await client.flush();
    await abandon(store);
    await expect(openRemote(copy, blobs)).rejects.toThrow('is out of date');
    expect((await recoverSeeds(blobs))[0]).toBe(1);
  });

  it('refuses a journal with a changed digit, and reads one of a server that knew no hashes', async () => {
    const blobs = newBlobs(knowsConditions);
    await (await openRemote(new SimFs(), blobs)).close();
    const [name, bytes] = lastEntry(blobs);
    const text = Buffer.from(bytes).toString();
    blobs.blobs.set(name, Buffer.from(text.replace('"segmentBytes":6', '"segmentBytes":7')));
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow(`${name} in the blob store is`);
    blobs.blobs.set(name, Buffer.from(JSON.stringify(entryOf(bytes))));
    await (await openRemote(new SimFs(), blobs)).close();
  });

  it('refuses a journal of another version, and does not mind keys that it does not know', async () => {
    const blobs = newBlobs(knowsConditions);
    await (await openRemote(new SimFs(), blobs)).close();
    const [name, bytes] = lastEntry(blobs);
    const entry = entryOf(bytes);
    blobs.blobs.set(name, encodeEntry({ ...entry, version: 2 }));
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('no journal entry of version 1');
    blobs.blobs.set(name, encodeEntry({ ...entry, later: true }));
    await (await openRemote(new SimFs(), blobs)).close();
  });

  it('refuses a directory of another store', async () => {
    const blobs = newBlobs(knowsConditions);
    await (await openRemote(new SimFs(), blobs)).close();
    const files = new SimFs();
    await (await openRemote(files, newBlobs(knowsConditions))).close();
    await expect(openRemote(files, blobs)).rejects.toThrow('is not the store');
  });
});

describe('two servers and blobs with conditions', () => {
  it('stops the first also when the entry that was in its way is gone', async () => {
    const blobs = new TraceBlobs();
    const { store: first, client } = await openWritten(new SimFs(), blobs);
    const takeOver = await ownerOf(blobs);
    const second = await openRemote(new SimFs(), blobs, { durability: 'remote', takeOver });
    const other = await openVolume(second);
    const claim = [...blobs.blobs]
      .filter(([name]) => name.startsWith('journal-'))
      .find(([, bytes]) => entryOf(bytes).epoch === 2);
    expect(claim).toBeDefined();
    let seed = 100;
    while (blobs.blobs.has(claim?.[0] as string)) {
      await other.write(0, blockOf(++seed));
      await other.flush();
    }
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    expect(first.failure).toBeInstanceOf(FencedError);
    await first.close();
    await second.close();
    expect((await recoverSeeds(blobs))[0]).toBe(seed);
  });

  it('does not take a store with a damaged superblock for an empty directory', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs);
    const client = await openVolume(store);
    await client.write(0, blockOf(1));
    await client.flush();
    await abandon(store);
    const state = () => files.paths().map((path) => files.contentOf(path).slice());
    files.contentOf('/store/superblock').fill(7);
    const before = state();
    await expect(openRemote(files, blobs)).rejects.toThrow('no copy of the superblock');
    expect(state()).toEqual(before);
  });

  it('stops one that finds an entry as if it had written it itself', async () => {
    const blobs = new TraceBlobs();
    const { store, client } = await openWritten(new SimFs(), blobs);
    // What a machine does that was cloned while it ran, or set back to a moment of its past.
    const entry = entryOf(lastEntry(blobs)[1]);
    const number = entry.number + 1;
    const twin = { ...entry, number, segments: [], removed: [], nonce: '0'.repeat(32) };
    const name = `journal-${String(number).padStart(16, '0')}`;
    await blobs.put(name, encodeEntry(twin));
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    await store.close();
    expect((await recoverSeeds(blobs))[0]).toBe(1);
  });

  it('stops one that finds other bytes under the name of a part', async () => {
    const blobs = new TraceBlobs();
    const { store, client } = await openWritten(new SimFs(), blobs);
    const put = blobs.put.bind(blobs);
    blobs.put = async (name, bytes) => {
      if (!name.startsWith('segment-')) return put(name, bytes);
      await put(
        name,
        bytes.map((byte) => byte ^ 1),
      );
      throw new BlobExistsError(name);
    };
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    await store.close();
    expect((await recoverSeeds(blobs))[0]).toBe(1);
  });

  it('refuses blobs that cannot keep them apart', async () => {
    const blobs = new TraceBlobs();
    blobs.isExclusive = false;
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('cannot keep two servers apart');
  });
});

describe('two servers and blobs without conditions', () => {
  it('stops one that finds an entry as if it had written it itself', async () => {
    const blobs = newBlobs(false);
    const { store, client } = await openWritten(new SimFs(), blobs);
    putTwin(blobs, lastEntry(blobs));
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    expect(store.failure).toBeInstanceOf(FencedError);
    await store.close();
    expect((await recoverSeeds(blobs))[0]).toBe(1);
  });

  it('keeps what a twin has gone on from', async () => {
    const blobs = newBlobs(false);
    const { store, client } = await openWritten(new SimFs(), blobs);
    const { number } = entryOf(lastEntry(blobs)[1]);
    blobs.onChange = () => {
      const last = lastEntry(blobs);
      const isNext = entryOf(last[1]).number === number + 1;
      if (isNext) putTwin(blobs, last);
    };
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    expect(store.failure).toBeInstanceOf(FencedError);
    await store.close();
    expect((await recoverSeeds(blobs))[0]).toBe(2);
  });

  it('does not believe a claim whose mark is gone', async () => {
    const blobs = newBlobs(false);
    await (await openRemote(new SimFs(), blobs)).close();
    const isMark = (name: string) => name.includes('-0000000000000000-');
    const marks = () => [...blobs.blobs.keys()].filter(isMark);
    const [old] = marks();
    blobs.onChange = () => {
      // A twin, copied when the mark was there already, takes it back behind our list.
      const entry = entryOf(lastEntry(blobs)[1]);
      if (entry.epoch === 2 && entry.number > 0) {
        for (const name of marks()) if (name !== old) blobs.blobs.delete(name);
      }
    };
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('is gone');
  });

  it('stores no part under a name that a twin may use, too', async () => {
    const blobs = newBlobs(false);
    const store = await openRemote(new SimFs(), blobs);
    await (await openVolume(store)).write(0, blockOf(2));
    await store.close();
    const parts = [...blobs.blobs.keys()].filter((name) => name.startsWith('segment-'));
    expect(parts.length).toBeGreaterThan(0);
    for (const name of parts) expect(name).toMatch(/^segment-(\d{8}-){4}[0-9a-f]{32}$/);
    expect((await recoverSeeds(blobs))[0]).toBe(2);
  });

  it('refuses a journal with which two have gone on from one entry', async () => {
    const blobs = newBlobs(false);
    const files = new SimFs();
    await (await openRemote(files, blobs)).close();
    const [name, bytes] = lastEntry(blobs);
    const twin = { ...entryOf(bytes), nonce: 'f'.repeat(32) };
    const twinName = `${name.slice(0, -32)}${twin.nonce}`;
    await blobs.put(twinName, encodeEntry(twin), true);
    await expect(openRemote(files, blobs)).rejects.toThrow('two servers have gone on');
  });

  it('refuses a service that does not list what it has stored', async () => {
    const blobs = newBlobs(false);
    blobs.list = async function* () {};
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('is not consistent');
  });

  for (const [answer, other] of [
    [true, 'journal-e0000000000000001-0000000000000000-00'],
    [false, 'journal-0000000000000001'],
  ] as const) {
    it(`begins no journal beside ${other}, which came about meanwhile`, async () => {
      const blobs = newBlobs(answer);
      const list = blobs.list.bind(blobs);
      let lists = 0;
      blobs.list = async function* (prefix) {
        if (lists++ > 0) yield* list(prefix);
        else blobs.blobs.set(other, encodeEntry(entry));
      };
      const number = answer ? 0 : 1;
      const entry = { version: 1, number, owner: { id: 'x', host: 'there' } };
      await expect(openRemote(new SimFs(), blobs)).rejects.toThrow(FencedError);
      expect([...blobs.blobs.keys()]).toEqual([other]);
    });
  }
});

describe('a server that was killed', () => {
  it('goes on although the blob store still names what it has emptied since', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { delayMs: 1 }, { checkpointBytes: 1 << 30 });
    const client = await openVolume(store);
    // Nodes go to segments that are newer than that of the log.
    const seeds = Array.from({ length: BLOCK_COUNT }, (_, lba) => (lba < 12 ? 1 : 0));
    for (let lba = 0; seeds[lba] === 1; lba++) {
      await client.write(lba * BLOCK_SIZE, blockOf(1));
      await store.checkpoint();
    }
    const stored = async () => (await Journal.read(blobs)).image.superblock?.generation;
    await expect.poll(stored, WAIT).toBe(store.generation);
    blobs.fail = () => 'before';
    // What it had not come to yet.
    store.segments.recycle = async () => false;
    await collect(store, { liveMax: 1 });
    const emptied = [...store.segments.table.values()].filter((one) => one.condemnedIn > 0);
    const newest = Math.max(...emptied.map(({ number }) => number));
    expect(newest).toBeGreaterThan(store.log.segment?.number as number);
    await abandon(store);
    blobs.fail = () => undefined;
    const again = await openRemote(files, blobs);
    expect(await readSeeds(again)).toEqual(seeds);
    await again.close();
  });
});

describe.each(MODES)(
  'a store that cannot be opened after it was claimed, %s',
  (_, knowsConditions) => {
    for (const [step, op, path, skipped] of [
      ['restored', 'allocate', '00000001.seg', 0],
      ['loaded', 'read', '.seg', 0],
      // Its two copies are written when it is restored, too.
      ['started', 'write', 'superblock', 2],
    ] as const) {
      it(`is left as it was when it cannot be ${step}`, async () => {
        const blobs = newBlobs(knowsConditions);
        const first = new SimFs();
        const store = await openRemote(first, blobs);
        await (await openVolume(store)).write(0, blockOf(2));
        await store.close();
        const second = new SimFs();
        let count = 0;
        second.fault = (name, at) =>
          name === op && at.includes(path) && count++ >= skipped ? 'EIO' : undefined;
        await expect(openRemote(second, blobs)).rejects.toThrow('EIO');
        second.fault = () => undefined;
        for (const files of [new SimFs(), second]) {
          const past = blobs.before(blobs.trace.length);
          const again = await openRemote(files, past);
          expect((await readSeeds(again))[0]).toBe(2);
          await again.close();
        }
        await (await openRemote(first, blobs)).close();
      });
    }

    it('is at work no more', async () => {
      const blobs = newBlobs(knowsConditions);
      const files = new SimFs();
      await (await openRemote(files, blobs)).close();
      // Removed once the first checkpoint is made, and being stored.
      await files.open('/store/segments/00000050.seg', true);
      let superblocks = 0;
      files.fault = (op, path) => {
        if (op === 'write' && path.includes('superblock')) superblocks++;
        return op === 'syncDirectory' && path.includes('segments') && superblocks > 0
          ? 'EIO'
          : undefined;
      };
      blobs.pause = () => delay(10);
      await expect(openRemote(files, blobs)).rejects.toThrow('EIO');
      const count = blobs.trace.length;
      await delay(100);
      expect(blobs.trace).toHaveLength(count);
      await (await openRemote(new SimFs(), blobs)).close();
    });

    it('stays with its last owner when an older copy of the directory is refused', async () => {
      const blobs = newBlobs(knowsConditions);
      const files = new SimFs();
      const store = await openRemote(files, blobs, { durability: 'remote' });
      const client = await openVolume(store);
      const copy = copyOf(files);
      await client.write(0, blockOf(1));
      await client.flush();
      await abandon(store);
      await expect(openRemote(copy, blobs)).rejects.toThrow('is out of date');
      const again = await openRemote(files, blobs);
      expect((await readSeeds(again))[0]).toBe(1);
      await again.close();
    });
  },
);
