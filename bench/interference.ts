/**
 * What clients of a content-addressed store notice of its background work: latencies with nothing
 * else going on, and during each kind of work, in turn. The work goes as fast as a server lets it.
 */
import { join } from 'node:path';
import {
  BACKGROUND_BYTES_PER_SECOND,
  type CasStore,
  openCasStore,
} from '../src/backends/cas/index.ts';
import { StoreActions } from '../src/stores/store-actions.ts';
import { ScratchDirectory } from './scratch.ts';
import { median } from './statistics.ts';
import {
  BLOCK,
  type LoadFigures,
  LoadRunner,
  type PairOptions,
  type StoreLoad,
} from './store-load.ts';

const VOLUME_BYTES = 2 ** 36;
/** Of the volume, what is filled and read. */
const FILLED_BYTES = 2 ** 30;
/** Overwritten at random before each pair: garbage for collections. */
const GARBAGE_BYTES = 128 << 20;

const WRITES: StoreLoad = {
  ...{ name: 'durable writes', op: 'write', access: 'rand', content: 'unique', durable: true },
  ...{ requestBytes: BLOCK, depth: 16, rangeBytes: FILLED_BYTES },
};
const LOADS: readonly StoreLoad[] = [WRITES, { ...WRITES, name: 'reads', op: 'read' }];

/** Background work; `run` is one turn of it, and is repeated. */
interface Work {
  readonly name: string;
  /** Where clients write meanwhile. Over all of a large volume, each write changes a node. */
  readonly rangeBytes: number;
  run(actions: StoreActions, store: CasStore, signal: AbortSignal): Promise<unknown>;
}

const onProgress = () => {};
const WORKS: readonly Work[] = [
  {
    name: 'checkpoint',
    rangeBytes: VOLUME_BYTES,
    run: (_, store, signal) => store.checkpoint(() => signal.aborted),
  },
  {
    name: 'scrub',
    rangeBytes: FILLED_BYTES,
    run: (actions, _, signal) => actions.run({ kind: 'scrub' }, { signal, onProgress }),
  },
  {
    name: 'collection',
    rangeBytes: FILLED_BYTES,
    run: (actions, _, signal) => actions.run({ kind: 'collect' }, { signal, onProgress }),
  },
];

export async function benchInterference(
  { disk, rounds, seconds, only }: PairOptions,
  signal: AbortSignal,
): Promise<void> {
  await using scratch = await ScratchDirectory.create(disk);
  using runner = new LoadRunner();
  const store = await openCasStore(join(scratch.path, 'store'));
  const actions = new StoreActions(store, { bytesPerSecondMax: BACKGROUND_BYTES_PER_SECOND });
  const device = runner.layersOver(await store.openVolume('disk', VOLUME_BYTES), true);
  await runner.fill(device, FILLED_BYTES);
  console.log(
    `${'4 KiB, depth 16'.padEnd(28)}   p50 us   during   p99 us   during   ratio  (pairs)`,
  );
  for (const each of LOADS) {
    for (const work of WORKS) {
      const name = `${each.name}, ${work.name}`;
      if (!name.includes(only)) continue;
      const { rangeBytes } = each.op === 'write' ? work : each;
      const load = { ...each, rangeBytes };
      const pairs: [LoadFigures, LoadFigures][] = [];
      for (let round = 0; round < rounds; round++) {
        signal.throwIfAborted();
        await runner.run(device, WRITES, Number.POSITIVE_INFINITY, GARBAGE_BYTES / BLOCK);
        pairs.push([
          await runner.run(device, load, seconds),
          await during(work, actions, store, () => runner.run(device, load, seconds)),
        ]);
      }
      print(name, pairs);
    }
  }
  await device.close();
  await store.close();
}

/** Measures while some work is done again and again. */
async function during(
  work: Work,
  actions: StoreActions,
  store: CasStore,
  measure: () => Promise<LoadFigures>,
): Promise<LoadFigures> {
  const enough = new AbortController();
  const working = (async () => {
    while (!enough.signal.aborted) await work.run(actions, store, enough.signal);
  })().catch((error: unknown) => {
    if (!enough.signal.aborted) throw error;
  });
  try {
    return await measure();
  } finally {
    enough.abort();
    await working;
  }
}

function print(name: string, pairs: readonly [LoadFigures, LoadFigures][]): void {
  const ratios = pairs.map(([calm, busy]) => busy.p99Us / calm.p99Us);
  const cell = (values: number[], width: number, digits = 0) =>
    median(values).toFixed(digits).padStart(width);
  const calm = pairs.map(([figures]) => figures);
  const busy = pairs.map(([, figures]) => figures);
  console.log(
    name.padEnd(28) +
      [calm, busy]
        .map((each) =>
          cell(
            each.map(({ p50Us }) => p50Us),
            9,
          ),
        )
        .join('') +
      [calm, busy]
        .map((each) =>
          cell(
            each.map(({ p99Us }) => p99Us),
            9,
          ),
        )
        .join('') +
      cell(ratios, 8, 2) +
      `  (${Math.min(...ratios).toFixed(2)}-${Math.max(...ratios).toFixed(2)})`,
  );
}
