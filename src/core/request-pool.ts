/**
 * The requests of one thread, made once. A pool bounds what can be in flight and with it all
 * memory of the data path: when it is empty, a frame is dropped and its initiator resends.
 */

/** Something with a fixed place in its pool. */
export interface Pooled {
  readonly index: number;
}

export class RequestPool<Request extends Pooled> {
  readonly #free: Request[] = [];
  readonly capacity: number;

  /** @param make makes the request with the given index; called `capacity` times, here */
  constructor(capacity: number, make: (index: number, pool: RequestPool<Request>) => Request) {
    this.capacity = capacity;
    for (let index = capacity - 1; index >= 0; index--) this.#free.push(make(index, this));
  }

  get freeCount(): number {
    return this.#free.length;
  }

  get inFlight(): number {
    return this.capacity - this.#free.length;
  }

  /** Takes a request out; it belongs to the caller until {@link give}. */
  take(): Request | undefined {
    return this.#free.pop();
  }

  give(request: Request): void {
    this.#free.push(request);
  }
}

/**
 * Where data lies in its slot, in bytes: at a whole sector, so that direct I/O works, but not at
 * a page. The kernel copies what is sent to near the start of a page, with or without the headers, and
 * `rep movsb` is ten times slower on AMD's processors when the target is a few bytes behind the
 * source, counted within a page: data that began a page here would put it there.
 */
const DATA_OFFSET = 512;

/**
 * Where the data of request `index` starts in a slab of request slots. A frame's headers stand
 * before it; `slotBytes` is the room for both, and a multiple of the page size.
 */
export function slotOffset(index: number, slotBytes: number): number {
  return (index + 1) * slotBytes + DATA_OFFSET;
}

/** The size of a slab with `count` slots, in bytes. */
export function slabBytes(count: number, slotBytes: number): number {
  return (count + 1) * slotBytes;
}
