/**
 * A region of memory that requests move data to and from: a receive ring, a slab of request
 * slots, or a plain buffer.
 */
export interface Memory {
  readonly bytes: Buffer;
  /** The region's number in the native I/O ring, where it is registered once. */
  readonly region: number;
}
