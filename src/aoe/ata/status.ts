/** ATA status and error registers (ACS-3 §6), and what each storage error becomes in them. */
import { BlockOp } from '../../core/block-device.ts';
import { BlockStatus } from '../../core/block-error.ts';

const AtaStatus = { error: 0x01, deviceFault: 0x20, ready: 0x40 } as const;
const AtaError = { abort: 0x04, idNotFound: 0x10, uncorrectable: 0x40 } as const;

/** A whole outcome: status in the low byte, error in the next. */
export type AtaOutcome = number;

const outcome = (status: number, error: number): AtaOutcome => (error << 8) | status;

export const AtaOutcome = {
  success: outcome(AtaStatus.ready, 0),
  aborted: outcome(AtaStatus.ready | AtaStatus.error, AtaError.abort),
  outOfRange: outcome(AtaStatus.ready | AtaStatus.error, AtaError.idNotFound),
  unreadable: outcome(AtaStatus.ready | AtaStatus.error, AtaError.uncorrectable),
  deviceFault: outcome(AtaStatus.ready | AtaStatus.deviceFault | AtaStatus.error, AtaError.abort),
} as const;

/**
 * Translates the status of a completed block request. Every storage failure becomes an ATA
 * error: Linux ignores AoE errors and resends for three minutes.
 */
export function ataOutcomeOf(status: BlockStatus, op: BlockOp): AtaOutcome {
  switch (status) {
    case BlockStatus.ok:
      return AtaOutcome.success;
    case BlockStatus.outOfRange:
      return AtaOutcome.outOfRange;
    case BlockStatus.readOnly:
    case BlockStatus.unsupported:
      return AtaOutcome.aborted;
    case BlockStatus.ioError:
      return op === BlockOp.read ? AtaOutcome.unreadable : AtaOutcome.deviceFault;
    case BlockStatus.noSpace:
    case BlockStatus.failed:
      return AtaOutcome.deviceFault;
    case BlockStatus.stale:
      throw new Error('a request that must not be answered was');
  }
}
