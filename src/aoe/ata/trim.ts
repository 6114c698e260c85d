/**
 * DATA SET MANAGEMENT with the TRIM bit (ACS-3 §7.5): data is a list of 8-byte entries, an LBA
 * of 48 bits and a count of 16 bits, little-endian; an entry with count 0 is filler.
 *
 * The list is kept in the exchange's slot, and its entries are trimmed one after the other, as
 * parts of one request: `nextStep` and `endStep` of the exchange are offsets in the list.
 */
import { BlockOp, type Completer, SECTOR_SIZE } from '../../core/block-device.ts';
import type { Exchange } from '../exchange.ts';

/** What came of a list of ranges. */
export const TrimList = { ready: 0, empty: 1, outOfRange: 2 } as const;
export type TrimList = (typeof TrimList)[keyof typeof TrimList];

const ENTRY_BYTES = 8;

/**
 * Turns the exchange into the request that trims the list of `listBytes` at `listAt` in the receive
 * ring: the range from the lowest to the highest sector of its entries, in parts.
 *
 * @returns outOfRange when an entry reaches beyond `sizeSectors`, and nothing may be trimmed;
 * empty when there is nothing to trim. The exchange is no request then.
 */
export function prepareTrim(
  exchange: Exchange,
  listAt: number,
  listBytes: number,
  sizeSectors: number,
  completer: Completer,
): TrimList {
  const { link, stash, stashOffset } = exchange;
  link.ring.bytes.copy(stash.bytes, stashOffset, listAt, listAt + listBytes);
  exchange.nextStep = 0;
  exchange.endStep = listBytes;
  let [firstLba, endLba] = [sizeSectors, 0];
  for (let step = 0; step < exchange.endStep; step += ENTRY_BYTES) {
    const sectorCount = entrySectorCount(exchange, step);
    // The LBA of filler means nothing.
    if (sectorCount === 0) continue;
    const lba = entryLba(exchange, step);
    if (lba + sectorCount > sizeSectors) return TrimList.outOfRange;
    firstLba = Math.min(firstLba, lba);
    endLba = Math.max(endLba, lba + sectorCount);
  }
  if (endLba === 0) return TrimList.empty;
  const length = (endLba - firstLba) * SECTOR_SIZE;
  exchange.prepare(BlockOp.trim, firstLba * SECTOR_SIZE, length, completer);
  exchange.divide(nextEntry);
  return TrimList.ready;
}

function nextEntry(exchange: Exchange): boolean {
  let step = exchange.nextStep;
  while (step < exchange.endStep && entrySectorCount(exchange, step) === 0) step += ENTRY_BYTES;
  if (step === exchange.endStep) return false;
  exchange.offset = entryLba(exchange, step) * SECTOR_SIZE;
  exchange.length = entrySectorCount(exchange, step) * SECTOR_SIZE;
  exchange.nextStep = step + ENTRY_BYTES;
  return true;
}

function entryLba({ view, stashOffset }: Exchange, step: number): number {
  const at = stashOffset + step;
  return view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32;
}

function entrySectorCount({ view, stashOffset }: Exchange, step: number): number {
  return view.getUint16(stashOffset + step + 6, true);
}
