/**
 * DATA SET MANAGEMENT with the TRIM bit (ACS-3 §7.5): data is a list of 8-byte entries, an LBA
 * of 48 bits and a count of 16 bits, little-endian; an entry with count 0 is filler.
 *
 * The list is kept in the exchange's slot, and its entries are trimmed one after the other:
 * `nextStep` and `endStep` of the exchange are offsets in the list.
 */
import { BlockOp, type Completer, SECTOR_SIZE } from '../../core/block-device.ts';
import type { Exchange } from '../exchange.ts';

const ENTRY_BYTES = 8;

/**
 * Takes over the list that the exchange's write data holds; {@link nextTrim} then makes the
 * requests.
 *
 * @returns false when an entry reaches beyond `sizeSectors`: nothing may be trimmed then
 */
export function prepareTrim(exchange: Exchange, sizeSectors: number): boolean {
  exchange.stashData();
  exchange.endStep = exchange.length;
  for (let step = 0; step < exchange.endStep; step += ENTRY_BYTES) {
    const sectorCount = entrySectorCount(exchange, step);
    // The LBA of filler means nothing.
    if (sectorCount > 0 && entryLba(exchange, step) + sectorCount > sizeSectors) return false;
  }
  exchange.nextStep = skipFiller(exchange, 0);
  return true;
}

/** Turns the exchange into the request for the next entry. There must be one. */
export function nextTrim(exchange: Exchange, completer: Completer): void {
  const step = exchange.nextStep;
  const offset = entryLba(exchange, step) * SECTOR_SIZE;
  const length = entrySectorCount(exchange, step) * SECTOR_SIZE;
  exchange.prepare(BlockOp.trim, offset, length, completer);
  exchange.nextStep = skipFiller(exchange, step + ENTRY_BYTES);
}

function skipFiller(exchange: Exchange, step: number): number {
  let next = step;
  while (next < exchange.endStep && entrySectorCount(exchange, next) === 0) next += ENTRY_BYTES;
  return next;
}

function entryLba({ view, stashOffset }: Exchange, step: number): number {
  const at = stashOffset + step;
  return view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32;
}

function entrySectorCount({ view, stashOffset }: Exchange, step: number): number {
  return view.getUint16(stashOffset + step + 6, true);
}
