/**
 * What goes from and to a content-addressed store as a stream, whether this process has opened it
 * or a running server has.
 */
import type { HashSet, Received, Transfer } from '../backends/cas/index.ts';

/** What the receiver has already. */
export interface SendRequest {
  /** The snapshot whose changes are sent; everything is without it. */
  readonly from?: string | undefined;
  readonly held?: HashSet | undefined;
}

export interface StoreStreams {
  /**
   * Yields the stream of a snapshot. It stays readable until the end.
   *
   * @throws {StartupError} before anything is yielded: it cannot be sent
   * @throws when it breaks off, or is cancelled
   */
  send(name: string, request: SendRequest, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** Tells what the store has. @returns the list, for `held` of a sender */
  hashes(signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | Iterable<Uint8Array>>;
  /**
   * Makes a snapshot of a stream; nothing stays when it fails.
   *
   * @throws {StartupError} it does not fit the store; @throws {TransferError} it is cut off or damaged
   * @throws when it is cancelled
   */
  receive(name: string, transfer: Transfer, signal: AbortSignal): Promise<Received>;
}
