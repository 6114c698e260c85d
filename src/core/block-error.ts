/**
 * The one error vocabulary between storage and frontends. On the data path an error is a small
 * number in a request ({@link BlockStatus}); off it, a {@link BlockError} carries the same code.
 * Each frontend translates it by one exhaustive switch (ATA status, NBD errno, SCSI sense).
 */
export const BlockStatus = {
  ok: 0,
  /** Reaches beyond the end of the device. */
  outOfRange: 1,
  /** A write or trim to a read-only device. */
  readOnly: 2,
  /** The medium failed. */
  ioError: 3,
  /** No room left below: nothing of this request was made durable. */
  noSpace: 4,
  /** The device is in the failed state: an earlier sync failed, so nothing more is promised. */
  failed: 5,
  /** The device cannot do this operation. */
  unsupported: 6,
  /** A write that was overtaken by a newer one; it was not executed and must not be answered. */
  stale: 7,
} as const;
export type BlockStatus = (typeof BlockStatus)[keyof typeof BlockStatus];

export type BlockErrorCode = Exclude<keyof typeof BlockStatus, 'ok'>;

const CODES = Object.keys(BlockStatus) as (keyof typeof BlockStatus)[];

/** An operating error of a block device: the storage's fault, never the caller's. */
export class BlockError extends Error {
  readonly code: BlockErrorCode;

  constructor(code: BlockErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BlockError';
    this.code = code;
  }
}

/** The name of a status: `ok` or a {@link BlockErrorCode}. */
export function blockStatusName(status: BlockStatus): keyof typeof BlockStatus {
  return CODES[status] as keyof typeof BlockStatus;
}
