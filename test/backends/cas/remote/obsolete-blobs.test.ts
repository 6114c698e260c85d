import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { partName } from '../../../../src/backends/cas/remote/blob-names.ts';
import { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import { SimFs } from '../sim-fs.ts';
import { abandon, blockOf } from '../tiny-store.ts';
import { openRemote, openVolume, WAIT } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

describe.each([
  ['with conditions', true],
  ['without conditions', false],
])('parts that nothing names any more, %s', (_, knowsConditions) => {
  function newBlobs(): TraceBlobs {
    const blobs = new TraceBlobs();
    blobs.knowsConditions = knowsConditions;
    return blobs;
  }

  /** Names of parts, and those of them that the journal names. */
  async function namesOf(blobs: TraceBlobs) {
    const there = [...blobs.blobs.keys()].filter((name) => name.startsWith('segment-'));
    const { segments } = (await Journal.read(blobs)).image;
    const named = [...segments].flatMap(([number, parts]) =>
      parts.map((part) => partName(number, part)),
    );
    return { there: there.sort(), named: named.sort() };
  }

  async function expectTidy(blobs: TraceBlobs): Promise<void> {
    await expect
      .poll(async () => {
        const { there, named } = await namesOf(blobs);
        return there.filter((name) => !named.includes(name));
      }, WAIT)
      .toEqual([]);
  }

  it('are removed later when that fails, and nobody waits for it', async () => {
    const blobs = newBlobs();
    const troubles: string[] = [];
    const onTrouble = ({ message }: Error) => troubles.push(message);
    const remote = { durability: 'remote', onTrouble } as const;
    const files = new SimFs();
    const store = await openRemote(files, blobs, remote);
    const client = await openVolume(store);
    blobs.fail = ({ op }) => (op === 'delete' ? 'before' : undefined);
    for (let step = 1; step <= 5; step++) {
      await client.write(0, blockOf(step));
      await client.flush();
    }
    const { there, named } = await namesOf(blobs);
    expect(there.length).toBeGreaterThan(named.length);
    expect(troubles).toEqual(['obsolete blobs cannot be removed: the connection was refused']);
    blobs.fail = () => undefined;
    for (let step = 6; step <= 8; step++) {
      await client.write(0, blockOf(step));
      await client.flush();
      await expectTidy(blobs);
    }
    const removed = blobs.trace.flatMap(({ op, name }) => (op === 'delete' ? [name] : []));
    expect(removed).toEqual([...new Set(removed)]);
    await abandon(store);
  });

  it('are removed when no entry ever named them', async () => {
    const blobs = newBlobs();
    const store = await openRemote(new SimFs(), blobs, { durability: 'remote' });
    const client = await openVolume(store);
    // The round fails after all of its attempts, and the next one has more to store.
    blobs.fail = ({ name }) => (name.startsWith('journal-') ? 'before' : undefined);
    await client.write(0, blockOf(2));
    const flushes = [client.flush()];
    await client.write(BLOCK_SIZE, blockOf(4));
    flushes.push(client.flush());
    await expect.poll(() => store.replica?.state.unreachable, WAIT).toBeDefined();
    blobs.fail = () => undefined;
    await Promise.all(flushes);
    await expectTidy(blobs);
    await abandon(store);
  });

  // With conditions that is left to the sweep after the next start.
  it.skipIf(knowsConditions)('are removed when the answer to storing them was lost', async () => {
    const blobs = newBlobs();
    const store = await openRemote(new SimFs(), blobs, { durability: 'remote' });
    const client = await openVolume(store);
    let losses = 2;
    blobs.fail = ({ op, name }) =>
      op === 'put' && name.startsWith('segment-') && losses-- > 0 ? 'after' : undefined;
    await client.write(0, blockOf(2));
    await client.flush();
    expect(losses).toBeLessThanOrEqual(0);
    await expectTidy(blobs);
    await abandon(store);
  });

  it('do not keep a store from being opened when they cannot be removed', async () => {
    const blobs = newBlobs();
    const files = new SimFs();
    await (await openRemote(files, blobs)).close();
    await blobs.put('segment-00000001-00000001-00000000-00000064', Uint8Array.of(1), true);
    blobs.fail = ({ op }) => (op === 'delete' ? 'before' : undefined);
    await (await openRemote(files, blobs)).close();
    blobs.fail = () => undefined;
    await (await openRemote(files, blobs)).close();
    await expectTidy(blobs);
  });

  it('are not those of a server that has taken over', async () => {
    const blobs = newBlobs();
    const later = 'segment-00000001-00000002-00000000-00000064';
    await blobs.put(later, Uint8Array.of(1), true);
    await (await openRemote(new SimFs(), blobs)).close();
    expect([...blobs.blobs.keys()]).toContain(later);
  });
});
