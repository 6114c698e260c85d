/**
 * The initiators that a target has answered lately.
 *
 * Invariants: memory is fixed, whatever addresses frames come from. An address has its place in
 * one row of the table, chosen by its low bits; a newcomer to a full row takes the place of the
 * one that was silent longest. Noting a request costs at most the search of one row, and
 * allocates nothing.
 */
const ROW_BITS = 4;
const ROW_LENGTH = 8;
const PLACE_COUNT = ROW_LENGTH << ROW_BITS;
/** 2^32 / golden ratio: spreads addresses that count up over the rows. */
const HASH_FACTOR = 0x9e3779b1;

export interface Client {
  readonly mac: number;
  /** Microseconds since the epoch. */
  readonly lastSeenUs: number;
  /** Requests that were taken up since it has its place. */
  readonly requests: number;
}

export class ClientTable {
  /** By place; a place without requests is free. */
  readonly #macs = new Float64Array(PLACE_COUNT);
  readonly #lastSeenUs = new Float64Array(PLACE_COUNT);
  readonly #requests = new Float64Array(PLACE_COUNT);

  /** Counts a request of the initiator at `mac`. */
  note(mac: number, arrivalUs: number): void {
    const first = (Math.imul(mac | 0, HASH_FACTOR) >>> (32 - ROW_BITS)) * ROW_LENGTH;
    let place = first;
    let oldest = first;
    const end = first + ROW_LENGTH;
    while (place < end && (this.#macs[place] !== mac || this.#requests[place] === 0)) {
      if ((this.#lastSeenUs[place] as number) < (this.#lastSeenUs[oldest] as number)) {
        oldest = place;
      }
      place++;
    }
    if (place === end) {
      place = oldest;
      this.#macs[place] = mac;
      this.#requests[place] = 0;
    }
    this.#requests[place] = (this.#requests[place] as number) + 1;
    this.#lastSeenUs[place] = arrivalUs;
  }

  /** Those last seen first. */
  list(): Client[] {
    const clients: Client[] = [];
    this.#requests.forEach((requests, place) => {
      const mac = this.#macs[place] as number;
      const lastSeenUs = this.#lastSeenUs[place] as number;
      if (requests > 0) clients.push({ mac, lastSeenUs, requests });
    });
    return clients.sort((a, b) => b.lastSeenUs - a.lastSeenUs);
  }
}
