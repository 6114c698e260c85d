/**
 * The argument of AoE command 0, issue ATA command (AoEr11 §3.1), read and written in place.
 *
 *     24       25            26       27             28 .. 33          34 .. 35   36
 *     | aflags | err/feature | sector | cmd/status   | lba0 .. lba5 LE | reserved | data
 *              |             | count  |
 *
 * Offsets count from the destination MAC. In a request byte 25 is the feature and byte 27 the
 * command; in a response they are the error and the status.
 */
export const Ata = {
  aflags: 24,
  errorFeature: 25,
  sectorCount: 26,
  commandStatus: 27,
  lba: 28,
  /** Header and argument together: where data starts. */
  headerSize: 36,
} as const;

/** Bits of aflags. E: the command is a 48-bit one. W: data goes to the target. */
export const AtaFlag = { write: 0x01, extended: 0x40 } as const;

export const AtaCommand = {
  dataSetManagement: 0x06,
  readSectors: 0x20,
  readSectorsExt: 0x24,
  writeSectors: 0x30,
  writeSectorsExt: 0x34,
  readVerify: 0x40,
  readVerifyExt: 0x42,
  smart: 0xb0,
  standbyImmediate: 0xe0,
  idleImmediate: 0xe1,
  standby: 0xe2,
  idle: 0xe3,
  checkPowerMode: 0xe5,
  sleep: 0xe6,
  flushCache: 0xe7,
  flushCacheExt: 0xea,
  identifyDevice: 0xec,
  setFeatures: 0xef,
} as const;

/** Does the frame of `size` bytes at `at` carry IDENTIFY DEVICE, which harms nobody? */
export function isIdentify(frame: DataView, at: number, size: number): boolean {
  return (
    size >= Ata.headerSize && frame.getUint8(at + Ata.commandStatus) === AtaCommand.identifyDevice
  );
}

const LBA28_MASK = 0x0fff_ffff;

/** The 48-bit LBA, exact: it is below 2^53. */
export function readLba48(frame: DataView, at: number): number {
  return frame.getUint32(at + Ata.lba, true) + frame.getUint16(at + Ata.lba + 4, true) * 2 ** 32;
}

/** The 28-bit LBA; the high nibble of lba3 is the device/head register and is masked off. */
export function readLba28(frame: DataView, at: number): number {
  return frame.getUint32(at + Ata.lba, true) & LBA28_MASK;
}

export function writeLba(frame: DataView, at: number, lba: number): void {
  frame.setUint32(at + Ata.lba, lba, true);
  frame.setUint16(at + Ata.lba + 4, lba / 2 ** 32, true);
}

/**
 * Writes the argument of a response: status and error as given, every other byte zero, which
 * also tells an initiator that no sector is left to transfer.
 */
export function writeAtaResponse(
  response: DataView,
  at: number,
  status: number,
  error: number,
): void {
  response.setUint32(at + Ata.aflags, (error << 16) | status);
  response.setUint32(at + Ata.lba, 0);
  response.setUint32(at + Ata.lba + 4, 0);
}
