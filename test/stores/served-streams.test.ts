import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../src/backends/cas/format.ts';
import { shareCasStore } from '../../src/backends/cas/index.ts';
import { ServedStreams } from '../../src/stores/served-streams.ts';
import { SimFs } from '../backends/cas/sim-fs.ts';
import { blocksOf, clientOf, TINY } from '../backends/cas/tiny-store.ts';

const BLOCKS = 50;

let streams: ServedStreams;
let release: () => Promise<void>;
const { signal } = new AbortController();

beforeEach(async () => {
  const shared = await shareCasStore('/served', { ...TINY, files: new SimFs() });
  ({ release } = shared);
  const device = await shared.store.openVolume('disk', BLOCKS * BLOCK_SIZE);
  await clientOf(device).write(0, blocksOf(2, BLOCKS, 2));
  await device.close();
  streams = new ServedStreams({ path: '/served', log: pino({ enabled: false }) });
});
afterEach(() => release());

it('receives a snapshot of one name once at a time, and again when that has failed', async () => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of streams.send('disk', {}, signal)) chunks.push(chunk);
  let cutOff = () => {};
  const isCutOff = new Promise<void>((resolve) => {
    cutOff = resolve;
  });
  async function* broken() {
    yield chunks[0] as Uint8Array;
    await isCutOff;
    throw new Error('the connection is gone');
  }
  async function* whole() {
    yield* chunks;
  }
  const failing = expect(streams.receive('monday', broken(), signal)).rejects.toThrow('gone');
  await turn();
  await expect(streams.receive('monday', whole(), signal)).rejects.toThrow(
    'monday is being received already',
  );
  cutOff();
  await failing;
  const sizeBytes = BLOCKS * BLOCK_SIZE;
  expect(await streams.receive('monday', whole(), signal)).toMatchObject({
    ...{ volume: 'disk', changedBytes: sizeBytes },
  });
});

it('breaks streams off at a stop, and waits until they have let go of the store', async () => {
  const stream = streams.send('disk', {}, signal);
  await stream.next();
  let isClosed = false;
  const closing = streams.close().then(() => {
    isClosed = true;
  });
  await turn();
  expect(isClosed).toBe(false);
  const rest = async () => {
    for await (const _ of stream);
  };
  await expect(rest()).rejects.toThrow('the server is stopping');
  await closing;
});
