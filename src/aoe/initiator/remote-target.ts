/** A target as an initiator sees it: its commands as functions that return promises. */
import assert from 'node:assert';
import { SECTOR_SIZE } from '../../core/block-device.ts';
import type { MacAddress } from '../../net/ethernet.ts';
import { AtaCommand, AtaFlag } from '../codec/ata.ts';
import { ConfigCommand, type ConfigReply } from '../codec/config-query.ts';
import { type DirectiveFields, MacMaskCommand, type MacMaskReply } from '../codec/mac-mask.ts';
import { ReserveCommand } from '../codec/reserve-release.ts';
import { type DiskIdentityReply, decodeIdentity, IDENTIFY_BYTES } from './identity.ts';
import type { ExchangeOptions, Initiator } from './initiator.ts';
import {
  type AtaRequest,
  encodeAta,
  encodeConfig,
  encodeMacMask,
  encodeReserve,
  type Frame,
  type Route,
} from './request.ts';
import {
  type AoeResponse,
  assertAccepted,
  decodeAtaData,
  decodeConfig,
  decodeMacMask,
  decodeReserveList,
} from './response.ts';

/**
 * One target at one MAC address.
 *
 * All functions throw {@link NoResponseError} when nothing comes back, {@link RefusedError} when
 * the error flag is set, {@link MalformedResponseError} for a response cut short. ATA commands
 * throw {@link AtaCommandError} when the disk fails them.
 */
export class RemoteTarget {
  readonly mac: MacAddress;
  /** shelf * 256 + slot */
  readonly address: number;
  readonly #initiator: Initiator;
  readonly #options: ExchangeOptions;

  constructor(
    initiator: Initiator,
    mac: MacAddress,
    address: number,
    options: ExchangeOptions = {},
  ) {
    this.#initiator = initiator;
    this.mac = mac;
    this.address = address;
    this.#options = options;
  }

  /** Executes any ATA command; the response is returned as it is, failed or not. */
  ata(request: AtaRequest): Promise<AoeResponse> {
    return this.#request((route) => encodeAta(route, request));
  }

  async identify(): Promise<DiskIdentityReply> {
    const response = await this.ata({ command: AtaCommand.identifyDevice, sectorCount: 1 });
    return decodeIdentity(decodeAtaData(response, IDENTIFY_BYTES));
  }

  /** Reads at most as many sectors as one frame holds. */
  async read(lba: number, sectorCount: number): Promise<Uint8Array<ArrayBuffer>> {
    const command = AtaCommand.readSectorsExt;
    const response = await this.ata({ command, aflags: AtaFlag.extended, lba, sectorCount });
    return decodeAtaData(response, sectorCount * SECTOR_SIZE);
  }

  /** Writes whole sectors, at most as many as one frame holds. */
  async write(lba: number, data: Uint8Array): Promise<void> {
    assert(data.length % SECTOR_SIZE === 0, 'only whole sectors are written');
    const response = await this.ata({
      command: AtaCommand.writeSectorsExt,
      aflags: AtaFlag.extended | AtaFlag.write,
      lba,
      sectorCount: data.length / SECTOR_SIZE,
      data,
    });
    decodeAtaData(response, 0);
  }

  async flush(): Promise<void> {
    const command = AtaCommand.flushCacheExt;
    decodeAtaData(await this.ata({ command, aflags: AtaFlag.extended }), 0);
  }

  readConfig(): Promise<ConfigReply> {
    return this.#config(ConfigCommand.read);
  }

  /** Sets the config string of a target that has none; one that has another refuses. */
  setConfig(configString: Uint8Array): Promise<ConfigReply> {
    return this.#config(ConfigCommand.set, configString);
  }

  forceSetConfig(configString: Uint8Array): Promise<ConfigReply> {
    return this.#config(ConfigCommand.forceSet, configString);
  }

  async readMaskList(): Promise<MacMaskReply> {
    return decodeMacMask(await this.#request((route) => encodeMacMask(route, MacMaskCommand.read)));
  }

  async editMaskList(directives: readonly DirectiveFields[]): Promise<MacMaskReply> {
    return decodeMacMask(
      await this.#request((route) => encodeMacMask(route, MacMaskCommand.edit, directives)),
    );
  }

  readReserveList(): Promise<readonly MacAddress[]> {
    return this.#reserve(ReserveCommand.read);
  }

  /** Reserves the target for `macs`; an empty list releases it. */
  reserve(macs: readonly MacAddress[]): Promise<readonly MacAddress[]> {
    return this.#reserve(ReserveCommand.set, macs);
  }

  forceReserve(macs: readonly MacAddress[]): Promise<readonly MacAddress[]> {
    return this.#reserve(ReserveCommand.forceSet, macs);
  }

  async #config(command: number, configString?: Uint8Array): Promise<ConfigReply> {
    return decodeConfig(await this.#request((route) => encodeConfig(route, command, configString)));
  }

  async #reserve(command: number, macs?: readonly MacAddress[]): Promise<readonly MacAddress[]> {
    return decodeReserveList(await this.#request((route) => encodeReserve(route, command, macs)));
  }

  async #request(encode: (route: Route) => Frame): Promise<AoeResponse> {
    const frame = encode(this.#initiator.route(this.mac, this.address));
    const response = await this.#initiator.exchange(frame, this.#options);
    assertAccepted(response);
    return response;
  }
}
