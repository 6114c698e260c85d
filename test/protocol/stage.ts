import pino from 'pino';
import { AoeServer } from '../../src/aoe/aoe-server.ts';
import { AoeTarget, type AoeTargetOptions } from '../../src/aoe/aoe-target.ts';
import { AtaDisk, type AtaDiskOptions, type WriteCache } from '../../src/aoe/ata/ata-disk.ts';
import { Exchange } from '../../src/aoe/exchange.ts';
import type { SavedTarget } from '../../src/aoe/state-store.ts';
import { TargetTable } from '../../src/aoe/target-table.ts';
import { FileIo } from '../../src/backends/file-io.ts';
import { openMemoryDevice } from '../../src/backends/memory.ts';
import type { BlockDevice } from '../../src/core/block-device.ts';
import { CheckedDevice } from '../../src/core/checked-device.ts';
import { CommittedDevice } from '../../src/core/committed-device.ts';
import { CountedDevice } from '../../src/core/counted-device.ts';
import { DeviceClient } from '../../src/core/device-client.ts';
import { Limits } from '../../src/core/limits.ts';
import { OrderedDevice } from '../../src/core/ordered-device.ts';
import { RequestPool, slabBytes } from '../../src/core/request-pool.ts';
import { FakeLink } from '../support/fake-link.ts';

export const EXCHANGE_COUNT = 32;
export const TARGET_MAC_NUMBER = 0x0200_0000_0002;
const FLUSH_INDEX = EXCHANGE_COUNT;
const CLIENT_INDEX = FLUSH_INDEX + 8;
const CLIENT_SLOT_BYTES = 65_536;

export interface StageTarget {
  readonly shelf: number;
  readonly slot: number;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly configString: string;
}

/** What is on stage for one target: the target, and a way to its storage past all layers. */
export interface StagedTarget extends StageTarget {
  readonly target: AoeTarget;
  readonly storage: DeviceClient;
}

export interface StageOptions {
  readonly loopback?: boolean;
  /** Initiators that are answered; all when absent. */
  readonly allow?: ReadonlySet<number>;
  /** Of all targets; none when absent. */
  readonly writeCache?: WriteCache;
  /** Most sectors in one frame; chosen from the MTU when absent. */
  readonly maxSectors?: number;
  /** When the targets began, in microseconds since the epoch; always when absent. */
  readonly sinceUs?: number;
  /** Takes the place of the state directory. */
  save?(saved: SavedTarget): Promise<void>;
  /** Puts a device of the test's over the memory of a target. */
  cover?(raw: BlockDevice): BlockDevice;
}

/** A server in this process: everything but the network and the disk of the state is real. */
export class Stage {
  readonly link: FakeLink;
  readonly slab: Buffer;
  readonly targets: readonly StagedTarget[];
  readonly server: AoeServer;
  readonly #pool: RequestPool<Exchange>;
  readonly #io = new FileIo(CLIENT_INDEX + 8);
  readonly #served: Promise<void>;

  constructor(targets: readonly StageTarget[], mtu: number, options: StageOptions = {}) {
    const slab = new ArrayBuffer(slabBytes(EXCHANGE_COUNT, Limits.requestSlotBytes));
    const memory = this.#io.registerMemory(slab);
    const view = new DataView(slab);
    this.slab = Buffer.from(slab);
    this.#pool = new RequestPool(
      EXCHANGE_COUNT,
      (index, pool) => new Exchange(index, memory, view, pool),
    );
    const clientMemory = this.#io.registerMemory(new ArrayBuffer(CLIENT_SLOT_BYTES));
    const table = new TargetTable();
    this.targets = targets.map((each, index) => {
      const raw = openMemoryDevice(this.#io, each.sizeBytes, each.readOnly);
      const covered = options.cover?.(raw) ?? raw;
      const { writeCache = { supported: false, enabled: false }, sinceUs = 0 } = options;
      const { maxSectors } = options;
      const target = makeTarget(each, covered, FLUSH_INDEX + index, {
        writeCache,
        sinceUs,
        maxSectors,
        save: options.save ?? (async () => {}),
        announce: (changed) => this.server.announce(changed),
      });
      table.add(target);
      const storage = new DeviceClient(raw, clientMemory, CLIENT_SLOT_BYTES, CLIENT_INDEX);
      return { ...each, target, storage };
    });
    const { allow = new Set(), loopback = false } = options;
    this.server = new AoeServer({ targets: table, pool: this.#pool, allow });
    this.link = new FakeLink({
      mac: TARGET_MAC_NUMBER,
      mtu,
      loopback,
      slab,
      registerMemory: (ring) => this.#io.registerMemory(ring),
    });
    this.#served = this.server.serve(this.link);
  }

  /** Delivers a batch and waits until every request in it was answered or dropped. */
  async deliver(frames: readonly Uint8Array[], arrivalUs: number): Promise<Buffer[]> {
    this.link.sent.length = 0;
    await Promise.race([this.link.deliver(frames, arrivalUs), this.#served]);
    while (this.#pool.inFlight > 0) await new Promise((resolve) => setImmediate(resolve));
    return this.link.sent.splice(0);
  }

  async close(): Promise<void> {
    this.link.close();
    await this.#served;
    this.#io.close();
    for (const { target } of this.targets) await target.close();
  }
}

type TargetFields = Pick<AoeTargetOptions, 'save' | 'announce' | 'sinceUs' | 'maxSectors'> &
  Pick<AtaDiskOptions, 'writeCache'>;

function makeTarget(
  options: StageTarget,
  raw: BlockDevice,
  flushIndex: number,
  { writeCache, ...more }: TargetFields,
): AoeTarget {
  const committed = new CommittedDevice(raw, false, flushIndex, () => {});
  const ordered = new OrderedDevice(committed);
  const device = new CountedDevice(new CheckedDevice(ordered));
  const target: AoeTarget = new AoeTarget({
    name: `e${options.shelf}.${options.slot}`,
    shelf: options.shelf,
    slot: options.slot,
    device,
    disk: new AtaDisk({
      device,
      identity: { serial: 'SERIAL', firmware: '1', model: 'stage' },
      writeCache,
      sinceUs: more.sinceUs,
      health: () => ({ failed: false, failures: 0, servedMs: 0 }),
      onGrown: (sizeBytes) => target.grown(sizeBytes),
    }),
    state: {
      configString: new TextEncoder().encode(options.configString),
      maskList: [],
      reserveList: [],
    },
    allow: new Set(),
    bufferCount: 16,
    ...more,
    log: pino({ level: 'silent' }),
  });
  return target;
}

/** Reads a whole disk, past all layers. */
export async function readDisk({ storage, sizeBytes }: StagedTarget): Promise<Buffer> {
  return storage.read(0, sizeBytes);
}
