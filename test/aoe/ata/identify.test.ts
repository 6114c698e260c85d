import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildIdentifyData, type IdentifyFields } from '../../../src/aoe/ata/identify.ts';

const PLAIN: IdentifyFields = {
  serial: 'SN1',
  firmware: '0.1.0',
  model: 'aoe-server e1.0',
  sizeSectors: 2_097_152,
  trim: false,
  trimZeroes: false,
  writeCacheSupported: false,
  writeCacheEnabled: false,
  smartEnabled: true,
};

function wordsOf(fields: Partial<IdentifyFields>): number[] {
  const data = buildIdentifyData({ ...PLAIN, ...fields });
  expect(data.length).toBe(512);
  const view = new DataView(data.buffer);
  return Array.from({ length: 256 }, (_, word) => view.getUint16(word * 2, true));
}

function textOf(words: number[], first: number, last: number): string {
  return words
    .slice(first, last + 1)
    .map((word) => String.fromCharCode(word >> 8, word & 0xff))
    .join('');
}

function sizeOf(words: number[]): number {
  return words.slice(100, 104).reduce((sum, word, index) => sum + word * 2 ** (16 * index), 0);
}

describe('IDENTIFY DEVICE data', () => {
  it('describes a plain disk in the words that initiators read, and in no others', () => {
    const described = wordsOf({}).flatMap((word, number) => {
      const isText = (number >= 10 && number <= 19) || (number >= 23 && number <= 46);
      return isText || number === 255 || word === 0 ? [] : [[number, word]];
    });
    expect(described).toEqual([
      [0, 0x0040],
      [1, 2080],
      [3, 16],
      [6, 63],
      [47, 0x8000],
      [49, 0x0200],
      [50, 0x4000],
      [61, 0x0020],
      [80, 0x00f0],
      [82, 0x0009],
      [83, 0x7400],
      [84, 0x4000],
      [85, 0x0009],
      [86, 0x3400],
      [87, 0x4000],
      [93, 0x400b],
      [101, 0x0020],
    ]);
  });

  it('carries serial, firmware and model with their bytes swapped, padded with spaces', () => {
    const words = wordsOf({});
    expect(words[10]).toBe(0x534e);
    expect(textOf(words, 10, 19)).toBe('SN1'.padEnd(20));
    expect(textOf(words, 23, 26)).toBe('0.1.0'.padEnd(8));
    expect(textOf(words, 27, 46)).toBe('aoe-server e1.0'.padEnd(40));
  });

  it('cuts long texts and replaces what is not printable ASCII', () => {
    const words = wordsOf({ serial: 'x'.repeat(21), firmware: 'a\u00e9\n~\x7f', model: '' });
    expect(textOf(words, 10, 19)).toBe('x'.repeat(20));
    expect(textOf(words, 20, 22)).toBe('\0'.repeat(6));
    expect(textOf(words, 23, 26)).toBe('a??~?   ');
    expect(textOf(words, 27, 46)).toBe(' '.repeat(40));
  });

  it.each([0, 1, 1008, 0x0fff_ffff, 0x1000_0000, 0x1_0000_0001, 2 ** 43])(
    'tells %i sectors in all its sizes',
    (sizeSectors) => {
      const words = wordsOf({ sizeSectors });
      expect(sizeOf(words)).toBe(sizeSectors);
      const sectors28 = (words[60] as number) + (words[61] as number) * 0x1_0000;
      expect(sectors28).toBe(Math.min(sizeSectors, 0x0fff_ffff));
      expect(words[1]).toBe(Math.min(Math.floor(sizeSectors / 1008), 16_383));
    },
  );

  it('offers a write cache only where there is one, and says whether it is on', () => {
    const cacheBit = (fields: Partial<IdentifyFields>) => {
      const words = wordsOf(fields);
      return [82, 85].map((word) => ((words[word] as number) >> 5) & 1);
    };
    expect(cacheBit({})).toEqual([0, 0]);
    expect(cacheBit({ writeCacheSupported: true })).toEqual([1, 0]);
    expect(cacheBit({ writeCacheSupported: true, writeCacheEnabled: true })).toEqual([1, 1]);
  });

  it('says whether SMART is on', () => {
    const words = wordsOf({ smartEnabled: false });
    expect([words[82], words[85]]).toEqual([0x0009, 0x0008]);
  });

  it('offers TRIM, and promises zeroes only where they are certain', () => {
    const trimWords = (fields: Partial<IdentifyFields>) => {
      const words = wordsOf(fields);
      return [53, 69, 105, 169].map((word) => words[word]);
    };
    expect(trimWords({ trim: true })).toEqual([0, 0, 1, 1]);
    expect(trimWords({ trim: true, trimZeroes: true })).toEqual([0x0002, 0x4020, 1, 1]);
    expect(trimWords({ trimZeroes: true })).toEqual([0, 0, 0, 0]);
  });

  it('has a valid integrity word, whatever it describes', () => {
    fc.assert(
      fc.property(
        fc.record({
          serial: fc.string(),
          firmware: fc.string(),
          model: fc.string(),
          sizeSectors: fc.nat({ max: 2 ** 44 }),
          trim: fc.boolean(),
          trimZeroes: fc.boolean(),
          writeCacheSupported: fc.boolean(),
          writeCacheEnabled: fc.boolean(),
          smartEnabled: fc.boolean(),
        }),
        (fields) => {
          const data = buildIdentifyData(fields);
          expect(data[510]).toBe(0xa5);
          expect(data.reduce((sum, byte) => sum + byte, 0) % 256).toBe(0);
        },
      ),
    );
  });
});
