/** What a request can come to, other than success. All of it happens on a healthy program. */
import { Ata } from '../codec/ata.ts';
import { AoeError, aoeErrorOf } from '../codec/header.ts';
import type { AoeResponse } from './response.ts';

/** No response came, for all resends: the target is gone, or it keeps silent on purpose. */
export class NoResponseError extends Error {
  readonly code = 'AOE_NO_RESPONSE';

  constructor(sendCount: number, durationMs: number) {
    super(`no response to ${sendCount} sends in ${Math.round(durationMs)} ms`);
    this.name = 'NoResponseError';
  }
}

/** The target refused a request: the response has the error flag set (AoEr11 §2.4). */
export class RefusedError extends Error {
  readonly code = 'AOE_REFUSED';
  readonly aoeError: number;
  readonly response: AoeResponse;

  constructor(response: AoeResponse) {
    const aoeError = aoeErrorOf(response.view, 0);
    const name = Object.entries(AoeError).find(([, value]) => value === aoeError)?.[0];
    super(`the target refused the request: AoE error ${aoeError} (${name ?? 'unknown'})`);
    this.name = 'RefusedError';
    this.aoeError = aoeError;
    this.response = response;
  }
}

/** The disk failed an ATA command: the status register says so. */
export class AtaCommandError extends Error {
  readonly code = 'AOE_ATA_COMMAND';
  readonly status: number;
  readonly ataError: number;

  constructor(response: AoeResponse) {
    const status = response.view.getUint8(Ata.commandStatus);
    const ataError = response.view.getUint8(Ata.errorFeature);
    super(`the ATA command failed: status ${hex(status)}, error ${hex(ataError)}`);
    this.name = 'AtaCommandError';
    this.status = status;
    this.ataError = ataError;
  }
}

/** A response is shorter than what it says, or than what was asked for. */
export class MalformedResponseError extends Error {
  readonly code = 'AOE_MALFORMED_RESPONSE';

  constructor(problem: string) {
    super(`malformed response: ${problem}`);
    this.name = 'MalformedResponseError';
  }
}

function hex(byte: number): string {
  return `0x${byte.toString(16).padStart(2, '0')}`;
}
