/** The one response that ends an ATA command, in the exchange's slot. */
import { Ata, writeAtaResponse } from '../codec/ata.ts';
import type { Exchange } from '../exchange.ts';
import { AtaOutcome } from './status.ts';

/** Ends a command with `outcome`: the exchange's data follows success, and nothing else. */
export function respond(exchange: Exchange, outcome: AtaOutcome): void {
  const dataBytes = outcome === AtaOutcome.success ? exchange.responseDataBytes : 0;
  writeAtaResponse(exchange.view, exchange.frameOffset, outcome & 0xff, outcome >> 8);
  exchange.respond(Ata.headerSize + dataBytes);
}

/** Ends a command with success and `data`. */
export function respondData(exchange: Exchange, data: Uint8Array): void {
  exchange.stash.bytes.set(data, exchange.stashOffset);
  exchange.responseDataBytes = data.length;
  respond(exchange, AtaOutcome.success);
}
