/** How long a content-addressed store takes to open when all of its log has to be replayed. */
import { join } from 'node:path';
import { openCasStore } from '../src/backends/cas/index.ts';
import { ScratchDirectory } from './scratch.ts';
import { BLOCK, LoadRunner, type StoreLoad } from './store-load.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const NEVER = {
  ...{ checkpointBytes: Number.MAX_SAFE_INTEGER, checkpointNodes: Number.MAX_SAFE_INTEGER },
  checkpointMs: 0,
};

interface Log {
  readonly name: string;
  readonly load: StoreLoad;
  readonly bytes: number;
}

const common = { op: 'write', content: 'unique', access: 'rand', rangeBytes: 4 * GIB } as const;
const LOGS: readonly Log[] = [
  {
    name: 'records of 256 blocks',
    load: { ...common, name: 'large', requestBytes: 64 << 10, depth: 64, durable: false },
    bytes: GIB,
  },
  {
    name: 'records of one block',
    load: { ...common, name: 'little', requestBytes: BLOCK, depth: 1, durable: true },
    bytes: 256 * MIB,
  },
];

export async function benchRecovery(
  { disk }: { readonly disk: string },
  signal: AbortSignal,
): Promise<void> {
  using runner = new LoadRunner();
  console.log('log                        MiB  records  seconds  seconds for a GiB');
  for (const { name, load, bytes } of LOGS) {
    signal.throwIfAborted();
    await using scratch = await ScratchDirectory.create(disk);
    const path = join(scratch.path, 'store');
    const store = await openCasStore(path, NEVER);
    const device = runner.layersOver(await store.openVolume('disk', load.rangeBytes), load.durable);
    await runner.run(device, load, Number.POSITIVE_INFINITY, bytes / load.requestBytes);
    await runner.flush(device);
    const { logBytes } = store.stats();
    const recordCount = store.log.sequence;
    // As a crash leaves it: nothing is written out.
    await store.closeFiles();

    const startMs = performance.now();
    const again = await openCasStore(path, NEVER);
    const seconds = (performance.now() - startMs) / 1000;
    await again.close();
    const perGib = (seconds * GIB) / logBytes;
    console.log(
      name.padEnd(24) +
        (logBytes / MIB).toFixed().padStart(6) +
        `${recordCount}`.padStart(9) +
        seconds.toFixed(2).padStart(9) +
        perGib.toFixed(2).padStart(19),
    );
  }
}
