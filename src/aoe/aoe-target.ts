/**
 * A target: an ATA disk with an address, and the protocol state around it.
 *
 * Invariants:
 * - `#state` is what is durable. A command that changes it yields a next state, which takes its
 *   place when it has been saved; only then is the command answered.
 * - While a state is being saved, commands that change it are dropped: initiators resend them.
 * - Initiators' changes take effect in order of arrival. One that was overtaken is dropped: it may
 *   be the original of one that was resent by another way, and would undo what came after that.
 */
import type { Logger } from 'pino';
import { isOvertaken } from '../core/arrival.ts';
import { type BlockDevice, BlockOp } from '../core/block-device.ts';
import { Histogram } from '../core/histogram.ts';
import { ETHERNET_HEADER_BYTES, formatMacAddress } from '../net/ethernet.ts';
import { type AtaDisk, sectorsPerFrame } from './ata/ata-disk.ts';
import { ClientTable } from './client-table.ts';
import {
  ConfigCommand,
  type ConfigFields,
  executeConfig,
  writeConfigReply,
} from './codec/config-query.ts';
import { Aoe, AoeCommand, AoeError, addressOf, setAoeError } from './codec/header.ts';
import { executeMacMask } from './codec/mac-mask.ts';
import { executeReserve, isReservedAgainst } from './codec/reserve-release.ts';
import type { Exchange, ExchangeOwner } from './exchange.ts';
import type { SavedTarget } from './state-store.ts';
import type { ControlFrame, ControlResponse, ListChange, TargetState } from './target-state.ts';

const FIRMWARE_VERSION = 1;
/** A frame's data area in whole pages suits initiators: their blocks are not torn. */
const ALIGNED_SECTOR_COUNTS = [16, 8];

export interface AoeTargetOptions {
  readonly name: string;
  readonly shelf: number;
  readonly slot: number;
  readonly device: BlockDevice;
  readonly disk: AtaDisk;
  readonly state: TargetState;
  /** Initiators that are answered; empty for any. */
  readonly allow: ReadonlySet<number>;
  readonly bufferCount: number;
  /** Most sectors in one frame to announce; undefined to choose from the MTU. */
  readonly maxSectors: number | undefined;
  /** Changes that arrived earlier are dropped; microseconds since the epoch. */
  readonly sinceUs: number;
  /** Makes a state durable. */
  save(next: TargetState & Pick<SavedTarget, 'sizeBytes'>): Promise<void>;
  /** Tells all initiators that the target has changed. */
  announce(target: AoeTarget): void;
  readonly log: Logger;
}

export class AoeTarget implements ExchangeOwner {
  readonly name: string;
  readonly shelf: number;
  readonly slot: number;
  /** shelf * 256 + slot */
  readonly address: number;
  readonly device: BlockDevice;
  readonly disk: AtaDisk;
  /** Exchanges that are not answered yet. */
  inFlight = 0;
  /** When the last request arrived that reached the device; microseconds since the epoch. */
  lastAccessUs = 0;
  readonly latencies: readonly Histogram[] = Object.values(BlockOp).map(() => new Histogram());
  readonly clients = new ClientTable();
  /** Has work been gathered for it in the present batch? */
  touched = false;
  /** ATA commands refused because another initiator holds the reservation. */
  reservationConflicts = 0;
  readonly #options: AoeTargetOptions;
  #state: TargetState;
  /** The size that is saved with it: the largest that initiators have seen, or will at once. */
  #savedBytes: number;
  /** When the newest change arrived that was not dropped. */
  #lastChangeUs: number;
  #saving = 0;
  #lastSave: Promise<void> = Promise.resolve();

  constructor(options: AoeTargetOptions) {
    this.name = options.name;
    this.shelf = options.shelf;
    this.slot = options.slot;
    this.address = addressOf(options);
    this.device = options.device;
    this.disk = options.disk;
    this.#options = options;
    this.#state = options.state;
    this.#savedBytes = options.device.sizeBytes;
    this.#lastChangeUs = options.sinceUs;
  }

  get state(): TargetState {
    return this.#state;
  }

  /** Is the initiator at `source` answered at all? */
  admits(source: number): boolean {
    const { allow } = this.#options;
    const { maskList } = this.#state;
    return (
      (allow.size === 0 || allow.has(source)) &&
      (maskList.length === 0 || maskList.includes(source))
    );
  }

  isReservedAgainst(source: number): boolean {
    return isReservedAgainst(this.#state, source);
  }

  /** Answers an ATA command of an initiator without the reservation. */
  refuseReserved(exchange: Exchange): void {
    this.reservationConflicts++;
    setAoeError(exchange.view, exchange.frameOffset, AoeError.targetReserved);
    exchange.respond(Aoe.headerSize);
  }

  /**
   * Executes the config, MAC mask or reserve command in the frame at `at`.
   *
   * @param exchange carries the response; its common header is written
   * @param size of the whole frame, in bytes
   */
  control(exchange: Exchange, at: number, size: number): void {
    const { link, view, frameOffset } = exchange;
    const responseSizeMax = frameSizeMax(exchange);
    exchange.clearArgument(responseSizeMax);
    const response = this.#execute(exchange, {
      request: link.ringView,
      requestAt: at,
      requestSize: size,
      response: view,
      responseAt: frameOffset,
      responseSizeMax,
    });
    if (response === undefined) exchange.drop();
    else if (response.next === undefined) respond(exchange, response);
    else this.#change(exchange, response, response.next);
  }

  /** Writes and sends a config response that nobody asked for. */
  describe(exchange: Exchange): void {
    const size = writeConfigReply(
      exchange.view,
      exchange.frameOffset,
      ConfigCommand.read,
      this.#configFields(exchange),
      this.#state.configString,
      frameSizeMax(exchange),
    );
    exchange.respond(size);
  }

  /**
   * The device has grown to a size that is durable: it is remembered, and initiators are told. The
   * device may have grown further meanwhile.
   */
  async grown(sizeBytes: number): Promise<void> {
    try {
      await this.#save(() => this.#state, sizeBytes);
    } catch (error) {
      this.#options.log.error(error, 'the new size cannot be saved and is not used');
      throw error;
    }
    this.#options.log.info({ sizeBytes }, 'the target has grown');
    this.#options.announce(this);
  }

  /** Makes state and size durable: the one with which it was opened, or has grown since. */
  remember(): Promise<void> {
    return this.#save(() => this.#state);
  }

  /**
   * Replaces lists as the operator says, whoever holds the target.
   *
   * @returns when it is durable
   */
  async setLists(lists: ListChange): Promise<void> {
    this.#lastChangeUs = Date.now() * 1000;
    await this.#save(() => ({ ...this.#state, ...lists }));
    const changed = Object.entries(lists).map(([name, macs]) => [name, macs.map(formatMacAddress)]);
    this.#options.log.info(Object.fromEntries(changed), 'the operator has set lists');
  }

  /** Releases the storage, once the last state is saved. No exchange may be in flight. */
  async close(): Promise<void> {
    await this.#lastSave;
    await this.device.close();
  }

  #execute(exchange: Exchange, frame: ControlFrame): ControlResponse | undefined {
    switch (frame.request.getUint8(frame.requestAt + Aoe.command)) {
      case AoeCommand.config:
        return executeConfig(this.#state, this.#configFields(exchange), frame);
      case AoeCommand.macMask:
        return executeMacMask(this.#state, frame);
      default:
        return executeReserve(this.#state, frame);
    }
  }

  #change(exchange: Exchange, response: ControlResponse, next: TargetState): void {
    if (this.#saving > 0 || isOvertaken(exchange.arrivalUs, this.#lastChangeUs)) {
      exchange.drop();
      return;
    }
    this.#lastChangeUs = exchange.arrivalUs;
    this.#save(() => next).then(
      () => respond(exchange, response),
      (error: Error) => {
        this.#options.log.error(error, 'a change could not be saved and is refused');
        respond(exchange, { size: Aoe.headerSize, error: AoeError.deviceUnavailable });
      },
    );
  }

  /** Saves one state after the other; `choose` sees what the saves before it left. */
  #save(choose: () => TargetState, newBytes?: number): Promise<void> {
    const saved = this.#lastSave.then(async () => {
      const next = choose();
      const sizeBytes = newBytes ?? this.#savedBytes;
      await this.#options.save({ ...next, sizeBytes });
      this.#state = next;
      this.#savedBytes = sizeBytes;
    });
    this.#saving++;
    this.#lastSave = saved
      .catch(() => {})
      .then(() => {
        this.#saving--;
      });
    return saved;
  }

  #configFields({ link }: Exchange): ConfigFields {
    const fitting = Math.min(255, sectorsPerFrame(link.mtu));
    const aligned = ALIGNED_SECTOR_COUNTS.find((count) => count <= fitting) ?? fitting;
    return {
      bufferCount: this.#options.bufferCount,
      firmwareVersion: FIRMWARE_VERSION,
      sectorCount: Math.min(fitting, this.#options.maxSectors ?? aligned),
    };
  }
}

/** The largest frame that its link can carry, in bytes. */
function frameSizeMax({ link }: Exchange): number {
  return ETHERNET_HEADER_BYTES + link.mtu;
}

function respond(exchange: Exchange, { size, error }: ControlResponse): void {
  if (error !== undefined) setAoeError(exchange.view, exchange.frameOffset, error);
  exchange.respond(size);
}
