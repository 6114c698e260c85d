import type { AoeError } from './codec/header.ts';

/** What a target remembers for its initiators. Values are never changed, only replaced. */
export interface TargetState {
  /** At most {@link CONFIG_STRING_BYTES_MAX} bytes. */
  readonly configString: Uint8Array;
  /** Initiators that are answered; empty for any (AoEr11 §3.3). */
  readonly maskList: readonly number[];
  /** Initiators that hold the reservation; empty for none (AoEr11 §3.4). */
  readonly reserveList: readonly number[];
}

/** Lists that take the place of a target's own; at most {@link LIST_LENGTH_MAX} entries each. */
export type ListChange = Partial<Pick<TargetState, 'maskList' | 'reserveList'>>;

export const CONFIG_STRING_BYTES_MAX = 1024;

/** Entries of a mask or reserve list: both counts are one byte on the wire. */
export const LIST_LENGTH_MAX = 255;

/**
 * What became of a control command: `undefined` for silence, otherwise a response of `size` bytes
 * before padding, with an AoE error or not, and the state that must be durable before it leaves.
 */
export interface ControlResponse {
  readonly size: number;
  readonly error?: AoeError;
  readonly next?: TargetState;
}

/**
 * A frame with a control command in it, and where the response is built: its header is written,
 * the bytes after it, up to `responseSizeMax`, are zero.
 */
export interface ControlFrame {
  readonly request: DataView;
  readonly requestAt: number;
  /** Size of the request's frame, with padding, in bytes. */
  readonly requestSize: number;
  readonly response: DataView;
  readonly responseAt: number;
  /** Largest response, in bytes; room for more than any command's fixed part. */
  readonly responseSizeMax: number;
}
