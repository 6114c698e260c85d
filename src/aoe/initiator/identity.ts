/** IDENTIFY DEVICE data (ACS-3 §7.12.7) as an initiator reads it. */

export const IDENTIFY_BYTES = 512;

/** Word numbers, in the standard's order. */
const Word = {
  serial: 10,
  firmware: 23,
  model: 27,
  sectors28: 60,
  supported2: 83,
  enabled: 85,
  sectors48: 100,
  dataSetManagement: 169,
} as const;

const WRITE_CACHE = 1 << 5;
const LBA48 = 1 << 10;
const TRIM = 1 << 0;

export interface DiskIdentityReply {
  readonly sizeSectors: number;
  /** Text of printable ASCII; anything else in it reads as `?`. */
  readonly serial: string;
  readonly firmware: string;
  readonly model: string;
  readonly lba48: boolean;
  readonly writeCacheEnabled: boolean;
  readonly trim: boolean;
}

/** @param data of IDENTIFY DEVICE, {@link IDENTIFY_BYTES} long */
export function decodeIdentity(data: Uint8Array): DiskIdentityReply {
  const view = new DataView(data.buffer, data.byteOffset, IDENTIFY_BYTES);
  const word = (index: number) => view.getUint16(index * 2, true);
  const lba48 = (word(Word.supported2) & LBA48) !== 0;
  return {
    sizeSectors: lba48
      ? Number(view.getBigUint64(Word.sectors48 * 2, true))
      : view.getUint32(Word.sectors28 * 2, true),
    serial: readText(data, Word.serial, 20),
    firmware: readText(data, Word.firmware, 8),
    model: readText(data, Word.model, 40),
    lba48,
    writeCacheEnabled: (word(Word.enabled) & WRITE_CACHE) !== 0,
    trim: (word(Word.dataSetManagement) & TRIM) !== 0,
  };
}

/** ATA strings: ASCII, padded with spaces, the two characters of each word swapped. */
function readText(data: Uint8Array, word: number, length: number): string {
  const codes = Array.from({ length }, (_, index) => data[word * 2 + (index ^ 1)] as number);
  return String.fromCharCode(...codes)
    .replace(/\0+$/, '')
    .replace(/[^ -~]/g, '?')
    .trim();
}
