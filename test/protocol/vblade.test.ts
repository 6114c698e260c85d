import { readdirSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readFrame } from '../support/frames.ts';
import { NetworkNamespace } from '../support/netns.ts';
import { describeWith, disposeAll, TempDirectory } from '../support/tools.ts';
import { FrameClient } from './frame-client.ts';
import { differingFields } from './reply-fields.ts';
import { MIB, memoryTarget, Served, TOOLS } from './served.ts';
import { DIFFERENCES, type Difference, UNSTABLE } from './vblade-differences.ts';

const FRAMES = join(import.meta.dirname, '../frames/differential');
const TARGET = { shelf: 1, slot: 0 };
const SAVE_MS_MAX = 10_000;
/** A reply that must not come would have come by then. */
const SILENCE_MS = 300;

/** vblade, with a disk like that of our target, on a link of its own. */
class Vblade implements AsyncDisposable {
  readonly client: FrameClient;
  readonly #directory: TempDirectory;
  readonly #network: NetworkNamespace;

  private constructor(directory: TempDirectory, network: NetworkNamespace, client: FrameClient) {
    this.#directory = directory;
    this.#network = network;
    this.client = client;
  }

  static async start(): Promise<Vblade> {
    const directory = await TempDirectory.create();
    const image = directory.join('disk.img');
    await writeFile(image, '');
    await truncate(image, 8 * MIB);
    const network = await NetworkNamespace.create();
    const link = { namespace: network, interfaceName: 'aoe0', fence: TARGET };
    const client = await FrameClient.connect(link);
    const address = [`${TARGET.shelf}`, `${TARGET.slot}`];
    network.spawn('vblade', ['-b', '64', ...address, 'aoe0', image], { stdio: 'ignore' });
    await client.settle();
    return new Vblade(directory, network, client);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await disposeAll(this.client, this.#network, this.#directory);
  }
}

describeWith([...TOOLS, 'vblade'], 'compared with vblade', () => {
  let vblade: Vblade;
  let served: Served;
  const names = readdirSync(FRAMES).sort();

  beforeAll(async () => {
    vblade = await Vblade.start();
    served = await Served.start([memoryTarget(TARGET.shelf, TARGET.slot)]);
  });
  afterAll(() => disposeAll(served, vblade));

  /** Our replies; a change of the target's state takes the time to make it durable. */
  async function askUs(request: Buffer, wantedCount: number, waitMsMax: number): Promise<Buffer[]> {
    const replies = await served.client.exchange(request);
    for (let waitedMs = 0; replies.length < wantedCount && waitedMs < waitMsMax; waitedMs += 10) {
      await sleep(10);
      replies.push(...(await served.client.receive(0)));
    }
    // The fence is a target of its own here, and answers wildcards, too.
    return replies.filter((reply) => reply.readUIntBE(16, 3) === (TARGET.shelf << 8) + TARGET.slot);
  }

  // One test after the other: each leaves the state in which the next one finds the targets.
  it.each(names)('%s is answered alike, but for what is listed', async (file) => {
    const name = nameOf(file);
    const request = Buffer.from(readFrame(`differential/${file.replace('.hex', '')}`));
    const theirs = await vblade.client.exchange(request);
    const isSilent = listed(DIFFERENCES, name).includes('silence');
    const ours = await askUs(request, theirs.length, isSilent ? SILENCE_MS : SAVE_MS_MAX);
    expect(ours.length).toBeLessThanOrEqual(1);
    const found = differingFields(request, theirs[0], ours[0]);
    expect(found.filter((field) => !listed(UNSTABLE, name).includes(field)).sort()).toEqual(
      listed(DIFFERENCES, name).sort(),
    );
  });

  it('lists differences of frames that there are, once', () => {
    const known = names.map((file) => nameOf(file));
    const entries = [...DIFFERENCES, ...UNSTABLE].flatMap(({ field, frames }) =>
      frames.map((frame) => `${frame}: ${field}`),
    );
    expect(entries.filter((entry) => !known.includes(entry.replace(/:.*/, '')))).toEqual([]);
    expect(new Set(entries).size).toBe(entries.length);
  });
});

/** The fields in which a reply to this frame differs, by the table. */
function listed(table: readonly Difference[], name: string): string[] {
  return table.filter(({ frames }) => frames.includes(name)).map(({ field }) => field);
}

/** `07-other-slot.hex` is called `other-slot`; the numbers make the order. */
function nameOf(file: string): string {
  return file.replace(/^\d+-|\.hex$/g, '');
}
