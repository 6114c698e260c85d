/**
 * IDENTIFY DEVICE data (ACS-3 §7.12.7): 256 little-endian words that describe a disk.
 *
 * Words that promise DMA, SATA or larger sectors stay zero: 9front believes them where Linux
 * does not, and an AoE target has none of them. So does the rotation rate: nobody here knows what
 * an image lies on.
 */

const WORD_COUNT = 256;
const LBA28_SECTORS_MAX = 0x0fff_ffff;
const CHS_HEADS = 16;
const CHS_SECTORS = 63;
const CHS_CYLINDERS_MAX = 16_383;
const SIGNATURE = 0xa5;

/** Word numbers, in the standard's order. */
const Word = {
  general: 0,
  cylinders: 1,
  heads: 3,
  sectorsPerTrack: 6,
  serial: 10,
  firmware: 23,
  model: 27,
  multiple: 47,
  capabilities: 49,
  capabilities2: 50,
  validity: 53,
  sectors28: 60,
  additional: 69,
  majorVersion: 80,
  supported: 82,
  supported2: 83,
  supported3: 84,
  enabled: 85,
  enabled2: 86,
  enabled3: 87,
  reset: 93,
  sectors48: 100,
  trimBlocksMax: 105,
  dataSetManagement: 169,
  integrity: 255,
} as const;

const bit = (number: number): number => 1 << number;

/** Bit 14 set and 15 clear say that a word of this kind holds information. */
const VALID = bit(14);
const FIXED_DISK = bit(6);
const MULTIPLE_UNSUPPORTED = 0x8000;
const CAPABLE_OF_LBA = bit(9);
const ATA_4_TO_7 = 0x00f0;
const HARDWARE_RESET = 0x400b;
/** Words 64 to 70 hold information. */
const WORDS_64_TO_70 = bit(1);
const SMART = bit(0);
const POWER_MANAGEMENT = bit(3);
const WRITE_CACHE = bit(5);
const LBA48 = bit(10);
const FLUSH_CACHE = bit(12);
const FLUSH_CACHE_EXT = bit(13);
const TRIM = bit(0);
const TRIM_READS_ZEROES = bit(5);
const TRIM_READS_SAME = bit(14);

export interface IdentifyFields {
  readonly serial: string;
  readonly firmware: string;
  readonly model: string;
  readonly sizeSectors: number;
  readonly trim: boolean;
  readonly trimZeroes: boolean;
  /** May a volatile write cache be switched on? */
  readonly writeCacheSupported: boolean;
  readonly writeCacheEnabled: boolean;
  readonly smartEnabled: boolean;
}

/** Most 512-byte blocks of ranges that one TRIM may carry: what fits in a small frame. */
const TRIM_BLOCKS_MAX = 1;

/** Builds the 512 bytes, with a valid integrity word. */
export function buildIdentifyData(fields: IdentifyFields): Uint8Array {
  const data = new Uint8Array(WORD_COUNT * 2);
  const view = new DataView(data.buffer);
  const set = (word: number, value: number) => view.setUint16(word * 2, value, true);
  describeGeometry(set, fields.sizeSectors);
  writeText(data, Word.serial, 20, fields.serial);
  writeText(data, Word.firmware, 8, fields.firmware);
  writeText(data, Word.model, 40, fields.model);
  describeFeatures(set, fields);
  view.setUint32(Word.sectors28 * 2, Math.min(fields.sizeSectors, LBA28_SECTORS_MAX), true);
  view.setBigUint64(Word.sectors48 * 2, BigInt(fields.sizeSectors), true);
  set(Word.integrity, SIGNATURE | (checksum(data) << 8));
  return data;
}

type SetWord = (word: number, value: number) => void;

/** Cylinders, heads and sectors, for readers that know no other geometry. */
function describeGeometry(set: SetWord, sizeSectors: number): void {
  const cylinders = Math.floor(sizeSectors / (CHS_HEADS * CHS_SECTORS));
  set(Word.cylinders, Math.min(cylinders, CHS_CYLINDERS_MAX));
  set(Word.heads, CHS_HEADS);
  set(Word.sectorsPerTrack, CHS_SECTORS);
}

function describeFeatures(set: SetWord, fields: IdentifyFields): void {
  const cacheSupported = fields.writeCacheSupported ? WRITE_CACHE : 0;
  const cacheEnabled = fields.writeCacheEnabled ? WRITE_CACHE : 0;
  const commands = LBA48 | FLUSH_CACHE | FLUSH_CACHE_EXT;
  set(Word.general, FIXED_DISK);
  set(Word.multiple, MULTIPLE_UNSUPPORTED);
  set(Word.capabilities, CAPABLE_OF_LBA);
  set(Word.capabilities2, VALID);
  set(Word.majorVersion, ATA_4_TO_7);
  set(Word.supported, SMART | POWER_MANAGEMENT | cacheSupported);
  set(Word.supported2, VALID | commands);
  set(Word.supported3, VALID);
  set(Word.enabled, (fields.smartEnabled ? SMART : 0) | POWER_MANAGEMENT | cacheEnabled);
  set(Word.enabled2, commands);
  set(Word.enabled3, VALID);
  set(Word.reset, HARDWARE_RESET);
  if (!fields.trim) return;
  set(Word.dataSetManagement, TRIM);
  set(Word.trimBlocksMax, TRIM_BLOCKS_MAX);
  if (!fields.trimZeroes) return;
  set(Word.validity, WORDS_64_TO_70);
  set(Word.additional, TRIM_READS_SAME | TRIM_READS_ZEROES);
}

/** ATA strings: ASCII, padded with spaces, the two characters of each word swapped. */
function writeText(data: Uint8Array, word: number, length: number, text: string): void {
  const padded = text.slice(0, length).padEnd(length, ' ');
  for (let index = 0; index < length; index++) {
    const code = padded.charCodeAt(index);
    data[word * 2 + (index ^ 1)] = code >= 0x20 && code < 0x7f ? code : 0x3f;
  }
}

/** The byte that makes all 512 of them, with the signature, add up to zero modulo 256. */
function checksum(data: Uint8Array): number {
  const sum = data.reduce((total, byte) => total + byte, SIGNATURE);
  return -sum & 0xff;
}
