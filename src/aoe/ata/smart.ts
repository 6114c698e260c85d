/**
 * SMART (ACS-3 §7.48, attributes as in ATA/ATAPI-7): what a disk says about its own health.
 *
 * The attributes are few and true: how long the disk is served, and how many requests failed
 * because of its storage. A failed disk says that it is failing.
 */
import { SECTOR_SIZE } from '../../core/block-device.ts';
import { Ata, writeAtaResponse } from '../codec/ata.ts';
import type { Exchange } from '../exchange.ts';
import { respond, respondData } from './respond.ts';
import { AtaOutcome } from './status.ts';

const Feature = {
  readData: 0xd0,
  readThresholds: 0xd1,
  enable: 0xd8,
  disable: 0xd9,
  returnStatus: 0xda,
} as const;

/** LBA bytes 1 and 2 of a SMART command, and of the answer of a healthy disk. */
const SIGNATURE = 0xc24f;
/** LBA bytes 1 and 2 of the answer of a failing disk. */
const FAILING = 0x2cf4;

const PAGE_BYTES = 512;
const STRUCTURE_REVISION = 0x0010;
const ATTRIBUTE_OFFSET = 2;
const ATTRIBUTE_BYTES = 12;
const CHECKSUM_OFFSET = 511;

const Attribute = { powerOnHours: 9, reportedFailures: 187 } as const;
/** Flags of an attribute: failing it predicts failure; it is updated all the time. */
const PREFAIL_ONLINE = 0x0003;
const ONLINE = 0x0002;
const VALUE_BEST = 100;
const VALUE_WORST = 1;

/** What is known about a disk's health. */
export interface SmartHealth {
  readonly failed: boolean;
  /** Requests that failed because of the storage. */
  readonly failures: number;
  readonly servedMs: number;
}

/** The SMART commands of a disk. */
export class Smart {
  readonly #health: () => SmartHealth;
  #enabled = true;

  constructor(health: () => SmartHealth) {
    this.#health = health;
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  /** Executes the SMART command of the frame at `at`. */
  execute(exchange: Exchange, frame: DataView, at: number): void {
    const feature = frame.getUint8(at + Ata.errorFeature);
    const signature = frame.getUint16(at + Ata.lba + 1, true);
    const permitted = this.#enabled || feature === Feature.enable;
    if (signature !== SIGNATURE || !permitted) {
      respond(exchange, AtaOutcome.aborted);
      return;
    }
    switch (feature) {
      case Feature.readData:
        respondData(exchange, buildSmartData(this.#health()));
        break;
      case Feature.readThresholds:
        respondData(exchange, buildSmartThresholds());
        break;
      case Feature.enable:
      case Feature.disable:
        this.#enabled = feature === Feature.enable;
        respondEmpty(exchange, SIGNATURE);
        break;
      case Feature.returnStatus:
        respondEmpty(exchange, this.#health().failed ? FAILING : SIGNATURE);
        break;
      default:
        respond(exchange, AtaOutcome.aborted);
    }
  }
}

/** For commands without data: still a sector of zeroes follows, which aoeping insists on. */
function respondEmpty(exchange: Exchange, signature: number): void {
  const { view, frameOffset, stash, stashOffset } = exchange;
  stash.bytes.fill(0, stashOffset, stashOffset + SECTOR_SIZE);
  writeAtaResponse(view, frameOffset, AtaOutcome.success, 0);
  view.setUint16(frameOffset + Ata.lba + 1, signature, true);
  exchange.respond(Ata.headerSize + SECTOR_SIZE);
}

/** READ DATA: attribute values. */
export function buildSmartData(health: SmartHealth): Uint8Array {
  const hours = Math.floor(health.servedMs / 3_600_000);
  const value = health.failed ? VALUE_WORST : VALUE_BEST;
  return buildPage([
    { id: Attribute.powerOnHours, flags: ONLINE, value: VALUE_BEST, raw: hours },
    { id: Attribute.reportedFailures, flags: PREFAIL_ONLINE, value, raw: health.failures },
  ]);
}

/** READ THRESHOLDS: the value at or below which an attribute has failed. */
export function buildSmartThresholds(): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES);
  const view = new DataView(page.buffer);
  view.setUint16(0, STRUCTURE_REVISION, true);
  Object.values(Attribute).forEach((id, index) => {
    const at = ATTRIBUTE_OFFSET + index * ATTRIBUTE_BYTES;
    view.setUint8(at, id);
    view.setUint8(at + 1, id === Attribute.reportedFailures ? VALUE_WORST : 0);
  });
  return seal(page);
}

interface AttributeEntry {
  readonly id: number;
  readonly flags: number;
  /** The current one, and the worst so far. */
  readonly value: number;
  readonly raw: number;
}

function buildPage(attributes: readonly AttributeEntry[]): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES);
  const view = new DataView(page.buffer);
  view.setUint16(0, STRUCTURE_REVISION, true);
  attributes.forEach(({ id, flags, value, raw }, index) => {
    const at = ATTRIBUTE_OFFSET + index * ATTRIBUTE_BYTES;
    view.setUint8(at, id);
    view.setUint16(at + 1, flags, true);
    view.setUint8(at + 3, value);
    view.setUint8(at + 4, value);
    view.setUint32(at + 5, raw, true);
  });
  return seal(page);
}

/** Sets the checksum: all 512 bytes add up to zero modulo 256. */
function seal(page: Uint8Array): Uint8Array {
  const sum = page.reduce((total, byte) => total + byte, 0);
  page[CHECKSUM_OFFSET] = -sum & 0xff;
  return page;
}
