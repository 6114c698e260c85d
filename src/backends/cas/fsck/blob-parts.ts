/** The parts of segments that are in a blob store, and bytes of them. */
import { BlobMissingError, type BlobStore, BlobUnreachableError } from '../blob-store.ts';
import type { SegmentSource } from './store-directory.ts';

/** What an examination needs of a blob store: nothing that changes it. */
export type ReadableBlobs = Pick<BlobStore, 'getRange' | 'list'>;

/** A stretch of a segment that is a blob, and the heads of its records behind it. */
export interface BlobPart {
  readonly name: string;
  readonly segment: number;
  readonly from: number;
  readonly to: number;
  readonly headBytes: number;
}

export function sizeOf({ from, to, headBytes }: BlobPart): number {
  return to - from + headBytes;
}

/**
 * @returns undefined when it is missing
 * @throws {BlobUnreachableError}
 */
export async function fetchBlob(
  blobs: ReadableBlobs,
  name: string,
  length: number,
  offset = 0,
): Promise<Buffer | undefined> {
  try {
    const bytes = await blobs.getRange(name, offset, length);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  } catch (error) {
    if (error instanceof BlobMissingError) return undefined;
    throw new BlobUnreachableError(name, error as Error);
  }
}

export class BlobSegments implements SegmentSource {
  readonly parts: readonly BlobPart[];
  readonly #blobs: ReadableBlobs;
  readonly #bySegment = new Map<number, BlobPart[]>();

  constructor(blobs: ReadableBlobs, parts: readonly BlobPart[]) {
    this.parts = parts;
    this.#blobs = blobs;
    for (const part of parts) {
      const known = this.#bySegment.get(part.segment);
      if (known === undefined) this.#bySegment.set(part.segment, [part]);
      else known.push(part);
    }
  }

  get totalBytes(): number {
    return this.parts.reduce((sum, part) => sum + sizeOf(part), 0);
  }

  /** Up to which byte a segment is there. */
  endOf(segment: number): number {
    return Math.max(0, ...(this.#bySegment.get(segment) ?? []).map(({ to }) => to));
  }

  /** A whole part, and one byte more if there is one. @returns undefined when it is missing */
  fetch(part: BlobPart): Promise<Buffer | undefined> {
    return fetchBlob(this.#blobs, part.name, sizeOf(part) + 1);
  }

  /** Of records and frames: they are in one part each. */
  async readSegment(number: number, position: number, length: number): Promise<Buffer> {
    const isIn = ({ from, to }: BlobPart) => from <= position && position + length <= to;
    const part = this.#bySegment.get(number)?.find(isIn);
    const bytes = part && (await fetchBlob(this.#blobs, part.name, length, position - part.from));
    return bytes ?? Buffer.alloc(0);
  }
}
