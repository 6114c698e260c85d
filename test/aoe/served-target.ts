import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { expect } from 'vitest';
import { AoeServer } from '../../src/aoe/aoe-server.ts';
import { AoeTarget } from '../../src/aoe/aoe-target.ts';
import { AtaDisk } from '../../src/aoe/ata/ata-disk.ts';
import { Exchange } from '../../src/aoe/exchange.ts';
import { StateStore } from '../../src/aoe/state-store.ts';
import { TargetTable } from '../../src/aoe/target-table.ts';
import { FileIo } from '../../src/backends/file-io.ts';
import { openMemoryDevice } from '../../src/backends/memory.ts';
import { Limits } from '../../src/core/limits.ts';
import { RequestPool, slabBytes } from '../../src/core/request-pool.ts';
import { native } from '../../src/native.ts';
import { EMPTY_STATE, TARGET } from './codec/control.ts';
import { TestLink } from './test-link.ts';

const DISK_BYTES = 1 << 20;
const EXCHANGE_COUNT = 8;

/** A server of one target e1.0 on a {@link TestLink}, with its state in a directory. */
export class ServedTarget {
  static readonly targetName = 'e1.0';
  readonly target: AoeTarget;
  readonly #io = new FileIo(EXCHANGE_COUNT);
  readonly #pool: RequestPool<Exchange>;
  readonly #link: TestLink;
  readonly #store: StateStore;
  readonly #served: Promise<void>;

  static async start(directory: string): Promise<ServedTarget> {
    const store = await StateStore.open(directory, native.lockFile);
    const saved = await store.load(ServedTarget.targetName);
    const { configString = EMPTY_STATE.configString, maskList, reserveList } = saved ?? EMPTY_STATE;
    return new ServedTarget(store, { configString, maskList, reserveList });
  }

  private constructor(store: StateStore, state: typeof EMPTY_STATE) {
    this.#store = store;
    const buffer = native.allocateSlab(slabBytes(EXCHANGE_COUNT, Limits.requestSlotBytes));
    const slab = this.#io.registerMemory(buffer);
    const view = new DataView(buffer);
    this.#pool = new RequestPool(
      EXCHANGE_COUNT,
      (index, pool) => new Exchange(index, slab, view, pool),
    );
    this.#link = new TestLink(TARGET, this.#io.registerMemory(native.allocateSlab(65_536)), slab);
    const device = openMemoryDevice(this.#io, DISK_BYTES, false);
    const disk = new AtaDisk({
      device,
      identity: { serial: 'S', firmware: 'F', model: 'M' },
      writeCache: { supported: false, enabled: false },
      sinceUs: 0,
      health: () => ({ failed: false, failures: 0, servedMs: 0 }),
      onGrown: async () => {},
    });
    this.target = new AoeTarget({
      name: ServedTarget.targetName,
      shelf: 1,
      slot: 0,
      device,
      disk,
      state,
      allow: new Set(),
      bufferCount: 16,
      maxSectors: undefined,
      sinceUs: 0,
      save: (saved) => store.save(ServedTarget.targetName, saved),
      announce: () => {},
      log: pino({ level: 'silent' }),
    });
    const targets = new TargetTable();
    targets.add(this.target);
    const server = new AoeServer({ targets, pool: this.#pool, allow: new Set() });
    this.#served = server.serve(this.#link);
    this.#link.sent.length = 0;
  }

  /** The response to `frame`; undefined for silence. */
  async ask(frame: Uint8Array): Promise<DataView<ArrayBuffer> | undefined> {
    this.#link.deliver(frame);
    do await turn();
    while (this.#pool.inFlight > 0);
    const response = this.#link.sent.pop();
    expect(this.#link.sent).toEqual([]);
    return response && new DataView(Uint8Array.from(response).buffer);
  }

  /** Delivers `frame` without waiting for the outcome. */
  async deliver(frame: Uint8Array): Promise<void> {
    this.#link.deliver(frame);
    await Promise.resolve();
  }

  takeSent(): Uint8Array[] {
    return this.#link.sent.splice(0);
  }

  get inFlight(): number {
    return this.#pool.inFlight;
  }

  async stop(): Promise<void> {
    this.#link.close();
    await this.#served;
    this.#io.close();
    await this.target.close();
    await this.#store.close();
  }
}
