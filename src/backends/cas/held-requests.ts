/**
 * The writes and trims of a device that found no room or no memory.
 *
 * Invariants:
 * - A request is held with its data stashed, and tried again from its start: doing a part of it
 *   twice changes nothing.
 * - They are taken in the order in which they came, and none that came later before them.
 * - As long as something that is queued is not logged they wait: it may take less than reserved. When
 *   there is no room then, those are refused that have waited for long, or all if none can be made.
 */
import { BlockOp, type BlockRequest } from '../../core/block-device.ts';
import { BlockStatus } from '../../core/block-error.ts';
import { ROOM_WAIT_MS_MAX } from './patience.ts';
import type { Spares } from './spares.ts';
import type { Writer } from './writer.ts';

export interface HeldRequestsParts {
  readonly writer: Writer;
  readonly spares: Spares;
  /** Called when there is no room for a write. @returns whether there is some now */
  makeRoom(): Promise<boolean>;
  /** Takes a write or trim. @returns false when there is no room now */
  take(request: BlockRequest): boolean;
}

interface HeldRequest {
  readonly request: BlockRequest;
  /** Since when, by the clock of `performance`. */
  readonly sinceMs: number;
}

export class HeldRequests {
  readonly #parts: HeldRequestsParts;
  readonly #held: HeldRequest[] = [];
  #isMakingRoom = false;

  constructor(parts: HeldRequestsParts) {
    this.#parts = parts;
  }

  get isEmpty(): boolean {
    return this.#held.length === 0;
  }

  hold(request: BlockRequest): void {
    if (request.op === BlockOp.write) request.stashData();
    if (this.#held.push({ request, sinceMs: performance.now() }) === 1) this.#waitForRoom();
  }

  readonly #retry = (): void => {
    const { writer, take } = this.#parts;
    for (let [first] = this.#held; first !== undefined; [first] = this.#held) {
      const { request } = first;
      if (!writer.failed && !take(request)) {
        this.#waitForRoom();
        return;
      }
      this.#held.shift();
      if (writer.failed) request.complete(BlockStatus.failed);
    }
    queueMicrotask(this.#kickWriter);
  };

  readonly #kickWriter = (): void => this.#parts.writer.kick();

  #waitForRoom(): void {
    const { writer } = this.#parts;
    if (!this.#isMakingRoom && !writer.hasRoom) void this.#makeRoom();
    writer.whenRoom(this.#retry);
    queueMicrotask(this.#kickWriter);
  }

  async #makeRoom(): Promise<void> {
    const { spares, writer, makeRoom } = this.#parts;
    this.#isMakingRoom = true;
    await spares.replenish(writer.room.promisedSpares + 1);
    const isLogged = writer.room.reservedBytes === 0;
    if (!writer.hasRoom && isLogged) {
      const lateCount = this.#lateCount();
      if (lateCount > 0) this.#refuse(lateCount);
      // Others may have taken what there was: as long as more can be made, it is.
      else if (!(await makeRoom()) && !writer.hasRoom && spares.isShort)
        this.#refuse(this.#held.length);
    }
    this.#isMakingRoom = false;
    // What is still to be logged may turn out to take less than reserved: the writer will tell.
    if (isLogged || writer.hasRoom) this.#retry();
  }

  /** How many have waited long enough; they are the first. */
  #lateCount(): number {
    const untilMs = performance.now() - ROOM_WAIT_MS_MAX;
    const index = this.#held.findIndex(({ sinceMs }) => sinceMs >= untilMs);
    return index === -1 ? this.#held.length : index;
  }

  #refuse(count: number): void {
    for (const { request } of this.#held.splice(0, count)) request.complete(BlockStatus.noSpace);
  }
}
