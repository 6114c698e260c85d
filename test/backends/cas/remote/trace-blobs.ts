/**
 * Blobs in memory that keep a trace of what was changed, so that a test can go back to any moment,
 * and that fail as a network does: before something was done, or after.
 */
import {
  BlobConditionError,
  BlobExistsError,
  type BlobInfo,
  BlobMissingError,
  type BlobStore,
} from '../../../../src/backends/cas/blob-store.ts';

type Operation =
  | { readonly op: 'put'; readonly name: string; readonly bytes: Uint8Array }
  | { readonly op: 'delete'; readonly name: string };

export type Failure = 'before' | 'after' | undefined;

export class TraceBlobs implements BlobStore {
  readonly trace: Operation[] = [];
  readonly blobs = new Map<string, Uint8Array>();
  /** false: a service that replaces what is there. */
  isExclusive = true;
  /** false: a service that says that it cannot refuse to replace what is there. */
  knowsConditions = true;
  /** Called after each change with their number so far. */
  onChange: (count: number) => void = () => {};
  /** What a change waits for. */
  pause: () => Promise<void> = async () => {};
  /** Names of the blobs that were read, each as often as it was. */
  readonly reads: string[] = [];
  /** What a read waits for; it fails when this does. */
  beforeRead: () => Promise<void> = async () => {};
  /** Decides on each change whether it fails. */
  fail: (operation: Operation) => Failure = () => undefined;

  /** The blobs as they were after the first `count` changes. */
  before(count: number): TraceBlobs {
    const past = new TraceBlobs();
    past.knowsConditions = this.knowsConditions;
    for (const operation of this.trace.slice(0, count)) past.#carryOut(operation);
    return past;
  }

  /** A copy of a request arrives, late; its answer is nobody's, and the trace does not have it. */
  repeat(request: Operation | undefined): void {
    if (request === undefined) return;
    const isRefused = this.knowsConditions && this.isExclusive && this.blobs.has(request.name);
    if (request.op === 'delete' || !isRefused) this.#carryOut(request);
  }

  async put(name: string, bytes: Uint8Array, isUnique = false): Promise<void> {
    await this.pause();
    if (!this.knowsConditions && !isUnique) throw new BlobConditionError(name);
    this.#change({ op: 'put', name, bytes: bytes.slice() });
  }

  async delete(name: string): Promise<void> {
    await this.pause();
    this.#change({ op: 'delete', name });
  }

  async getRange(name: string, offset: number, length: number): Promise<Uint8Array> {
    this.reads.push(name);
    await this.beforeRead();
    const bytes = this.blobs.get(name);
    if (bytes === undefined) throw new BlobMissingError(name);
    return bytes.slice(offset, offset + length);
  }

  async *list(prefix: string): AsyncIterable<BlobInfo> {
    for (const name of [...this.blobs.keys()].sort()) {
      const bytes = this.blobs.get(name);
      if (name.startsWith(prefix) && bytes) yield { name, sizeBytes: bytes.length };
    }
  }

  #change(operation: Operation): void {
    const failure = this.fail(operation);
    if (failure === 'before') throw new Error('the connection was refused');
    if (operation.op === 'put' && this.isExclusive && this.blobs.has(operation.name)) {
      throw new BlobExistsError(operation.name);
    }
    this.trace.push(operation);
    this.#carryOut(operation);
    this.onChange(this.trace.length);
    if (failure === 'after') throw new Error('the connection was reset');
  }

  #carryOut(operation: Operation): void {
    if (operation.op === 'put') this.blobs.set(operation.name, operation.bytes);
    else this.blobs.delete(operation.name);
  }
}
