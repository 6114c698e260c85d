/**
 * An ATA disk over a block device: executes the ATA commands that arrive in AoE frames.
 *
 * Each command ends in exactly one response, or in none for a request that must be resent.
 * Commands that are unknown, or whose registers contradict each other, are aborted; a request is
 * never executed in part.
 */
import { isOvertaken } from '../../core/arrival.ts';
import { type BlockDevice, BlockOp, type Completer, SECTOR_SIZE } from '../../core/block-device.ts';
import { BlockStatus } from '../../core/block-error.ts';
import { Ata, AtaCommand, AtaFlag, readLba28, readLba48, writeAtaResponse } from '../codec/ata.ts';
import type { Exchange } from '../exchange.ts';
import { buildIdentifyData, type IdentifyFields } from './identify.ts';
import { respond, respondData } from './respond.ts';
import { Smart, type SmartHealth } from './smart.ts';
import { AtaOutcome, ataOutcomeOf } from './status.ts';
import { prepareTrim, TrimList } from './trim.ts';

/** The volatile write cache of the device below, as ATA sees it. */
export interface WriteCache {
  /** Did the operator allow it? */
  readonly supported: boolean;
  enabled: boolean;
}

export interface DiskIdentity {
  readonly serial: string;
  readonly firmware: string;
  readonly model: string;
}

/** READ VERIFY reads this much at a time: it fits in a slot. */
const VERIFY_STEP_BYTES = 8192;
const POWER_MODE_ACTIVE = 0xff;
const FEATURE_WRITE_CACHE_ON = 0x02;
const FEATURE_WRITE_CACHE_OFF = 0x82;
const FEATURE_TRIM = 0x01;

/** Most sectors whose data fits in one frame of a link. */
export function sectorsPerFrame(mtu: number): number {
  return Math.floor((mtu - Ata.headerSize) / SECTOR_SIZE);
}

export interface AtaDiskOptions {
  readonly device: BlockDevice;
  readonly identity: DiskIdentity;
  readonly writeCache: WriteCache;
  /** Switches of it that arrived earlier are dropped; microseconds since the epoch. */
  readonly sinceUs: number;
  health(): SmartHealth;
  /** Remembers the size to which the device has grown, as IDENTIFY found; rejects if it cannot. */
  onGrown(sizeBytes: number): Promise<void>;
}

export class AtaDisk implements Completer {
  readonly #device: BlockDevice;
  readonly #options: AtaDiskOptions;
  readonly #writeCache: WriteCache;
  readonly #smart: Smart;
  /** The size that initiators are told. */
  #knownBytes: number;
  /** When the newest switch of the write cache arrived that was not dropped. */
  #lastSwitchUs: number;

  constructor(options: AtaDiskOptions) {
    this.#device = options.device;
    this.#writeCache = options.writeCache;
    this.#options = options;
    this.#smart = new Smart(() => options.health());
    this.#knownBytes = options.device.sizeBytes;
    this.#lastSwitchUs = options.sinceUs;
  }

  /**
   * Executes the ATA command in the frame at `ring[at]`.
   *
   * @param exchange carries the response; its header up to the ATA argument is written
   * @param size of the whole frame, in bytes, at least {@link Ata.headerSize}
   */
  execute(exchange: Exchange, at: number, size: number): void {
    const frame = exchange.link.ringView;
    const opcode = frame.getUint8(at + Ata.commandStatus);
    exchange.opcode = opcode;
    exchange.responseDataBytes = 0;
    switch (opcode) {
      case AtaCommand.readSectorsExt:
        this.#read(exchange, frame, at, readLba48(frame, at));
        break;
      case AtaCommand.writeSectorsExt:
        this.#write(exchange, frame, at, size, readLba48(frame, at));
        break;
      case AtaCommand.readSectors:
        this.#read(exchange, frame, at, readLba28(frame, at));
        break;
      case AtaCommand.writeSectors:
        this.#write(exchange, frame, at, size, readLba28(frame, at));
        break;
      case AtaCommand.readVerifyExt:
        this.#verify(exchange, frame, at, readLba48(frame, at));
        break;
      case AtaCommand.readVerify:
        this.#verify(exchange, frame, at, readLba28(frame, at));
        break;
      default:
        this.#executeRare(exchange, frame, at, size);
    }
  }

  /** Takes a block request back and answers. */
  completed(exchange: Exchange): void {
    const { status } = exchange;
    if (status === BlockStatus.stale) {
      exchange.drop();
      return;
    }
    respond(exchange, ataOutcomeOf(status, exchange.op));
  }

  #read(exchange: Exchange, frame: DataView, at: number, lba: number): void {
    const sectorCount = frame.getUint8(at + Ata.sectorCount);
    const writes = (frame.getUint8(at + Ata.aflags) & AtaFlag.write) !== 0;
    if (writes || sectorCount === 0 || sectorCount > sectorsPerFrame(exchange.link.mtu)) {
      respond(exchange, AtaOutcome.aborted);
      return;
    }
    const length = sectorCount * SECTOR_SIZE;
    exchange.responseDataBytes = length;
    exchange.prepare(BlockOp.read, lba * SECTOR_SIZE, length, this);
    this.#device.submit(exchange);
  }

  #write(exchange: Exchange, frame: DataView, at: number, size: number, lba: number): void {
    const sectorCount = frame.getUint8(at + Ata.sectorCount);
    const writes = (frame.getUint8(at + Ata.aflags) & AtaFlag.write) !== 0;
    if (!writes || sectorCount === 0) {
      respond(exchange, AtaOutcome.aborted);
      return;
    }
    const length = sectorCount * SECTOR_SIZE;
    if (Ata.headerSize + length > size) {
      // Cut short on the way: a resend may be whole.
      exchange.drop();
      return;
    }
    exchange.prepareWrite(lba * SECTOR_SIZE, length, at + Ata.headerSize, this);
    this.#device.submit(exchange);
  }

  /** READ VERIFY reads like READ, slot by slot, and throws the data away. */
  #verify(exchange: Exchange, frame: DataView, at: number, lba: number): void {
    const sectorCount = frame.getUint8(at + Ata.sectorCount);
    if (sectorCount === 0) {
      respond(exchange, AtaOutcome.aborted);
      return;
    }
    const length = sectorCount * SECTOR_SIZE;
    exchange.prepare(BlockOp.read, lba * SECTOR_SIZE, length, this);
    exchange.nextStep = exchange.offset;
    exchange.endStep = exchange.offset + length;
    exchange.divide(nextVerified);
    this.#device.submit(exchange);
  }

  #executeRare(exchange: Exchange, frame: DataView, at: number, size: number): void {
    switch (exchange.opcode) {
      case AtaCommand.identifyDevice:
        this.#identify(exchange);
        break;
      case AtaCommand.flushCache:
      case AtaCommand.flushCacheExt:
      case AtaCommand.standbyImmediate:
      case AtaCommand.standby:
      case AtaCommand.sleep:
        // A disk that is told to rest writes back what it holds first. It has no other rest.
        this.#flush(exchange);
        break;
      case AtaCommand.idleImmediate:
      case AtaCommand.idle:
        respond(exchange, AtaOutcome.success);
        break;
      case AtaCommand.checkPowerMode:
        this.#checkPowerMode(exchange);
        break;
      case AtaCommand.setFeatures:
        this.#setFeatures(exchange, frame.getUint8(at + Ata.errorFeature));
        break;
      case AtaCommand.smart:
        this.#smart.execute(exchange, frame, at);
        break;
      case AtaCommand.dataSetManagement:
        this.#trim(exchange, frame, at, size);
        break;
      default:
        respond(exchange, AtaOutcome.aborted);
    }
  }

  /** Initiators learn of a new size once it will be remembered: a disk never shrinks again. */
  #identify(exchange: Exchange): void {
    this.#device.refresh();
    if (this.#device.sizeBytes === this.#knownBytes) {
      this.#describe(exchange);
      return;
    }
    const sizeBytes = this.#device.sizeBytes;
    this.#options.onGrown(sizeBytes).then(
      () => {
        this.#knownBytes = sizeBytes;
        this.#describe(exchange);
      },
      () => this.#describe(exchange),
    );
  }

  #describe(exchange: Exchange): void {
    const { capabilities } = this.#device;
    const fields: IdentifyFields = {
      ...this.#options.identity,
      sizeSectors: this.#knownBytes / SECTOR_SIZE,
      trim: capabilities.trim,
      trimZeroes: capabilities.trimZeroes,
      writeCacheSupported: this.#writeCache.supported,
      writeCacheEnabled: this.#writeCache.enabled,
      smartEnabled: this.#smart.enabled,
    };
    respondData(exchange, buildIdentifyData(fields));
  }

  #flush(exchange: Exchange): void {
    exchange.prepare(BlockOp.flush, 0, 0, this);
    this.#device.submit(exchange);
  }

  #checkPowerMode(exchange: Exchange): void {
    writeAtaResponse(exchange.view, exchange.frameOffset, AtaOutcome.success, 0);
    exchange.view.setUint8(exchange.frameOffset + Ata.sectorCount, POWER_MODE_ACTIVE);
    exchange.respond(Ata.headerSize);
  }

  #setFeatures(exchange: Exchange, feature: number): void {
    const on = feature === FEATURE_WRITE_CACHE_ON;
    if (on ? !this.#writeCache.supported : feature !== FEATURE_WRITE_CACHE_OFF) {
      respond(exchange, AtaOutcome.aborted);
      return;
    }
    if (isOvertaken(exchange.arrivalUs, this.#lastSwitchUs)) {
      // Who has switched it off since counts on that.
      exchange.drop();
      return;
    }
    this.#lastSwitchUs = exchange.arrivalUs;
    this.#writeCache.enabled = on;
    if (on) respond(exchange, AtaOutcome.success);
    else this.#flush(exchange);
  }

  #trim(exchange: Exchange, frame: DataView, at: number, size: number): void {
    const sectorCount = frame.getUint8(at + Ata.sectorCount);
    const writes = (frame.getUint8(at + Ata.aflags) & AtaFlag.write) !== 0;
    const trims = frame.getUint8(at + Ata.errorFeature) === FEATURE_TRIM;
    const length = sectorCount * SECTOR_SIZE;
    if (!writes || !trims || sectorCount === 0 || !this.#device.capabilities.trim) {
      respond(exchange, AtaOutcome.aborted);
      return;
    }
    if (Ata.headerSize + length > size) {
      exchange.drop();
      return;
    }
    const sizeSectors = this.#device.sizeBytes / SECTOR_SIZE;
    switch (prepareTrim(exchange, at + Ata.headerSize, length, sizeSectors, this)) {
      case TrimList.outOfRange:
        respond(exchange, AtaOutcome.outOfRange);
        break;
      case TrimList.empty:
        respond(exchange, AtaOutcome.success);
        break;
      case TrimList.ready:
        this.#device.submit(exchange);
        break;
    }
  }
}

function nextVerified(exchange: Exchange): boolean {
  if (exchange.nextStep === exchange.endStep) return false;
  exchange.offset = exchange.nextStep;
  exchange.length = Math.min(exchange.endStep - exchange.nextStep, VERIFY_STEP_BYTES);
  exchange.nextStep += exchange.length;
  return true;
}
