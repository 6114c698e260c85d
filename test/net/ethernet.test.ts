import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BROADCAST_MAC,
  formatMacAddress,
  isUnicastMac,
  parseMacAddress,
} from '../../src/net/ethernet.ts';

describe('parseMacAddress', () => {
  it('puts the first octet at the top of the number', () => {
    expect(parseMacAddress('01:02:03:04:05:06')).toBe(0x0102_0304_0506);
  });

  it('reads upper case and dashes', () => {
    expect(parseMacAddress('02-00-5E-00-00-FF')).toBe(0x0200_5e00_00ff);
  });

  it.each([
    '',
    '02:00:00:00:00',
    '02:00:00:00:00:00:00',
    '02:00:00:00:00:0',
    '02:00:00-00:00:00',
    '020000000000',
    '0g:00:00:00:00:00',
    ' 02:00:00:00:00:00',
    '02:00:00:00:00:00\n',
  ])('refuses %j', (text) => {
    expect(parseMacAddress(text)).toBeUndefined();
  });
});

describe('formatMacAddress', () => {
  it('writes lower case with leading zeroes', () => {
    expect(formatMacAddress(0xabcd)).toBe('00:00:00:00:ab:cd');
  });

  it('is undone by parsing, for every address', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: BROADCAST_MAC }), (mac) => {
        expect(parseMacAddress(formatMacAddress(mac))).toBe(mac);
      }),
    );
  });
});

describe('isUnicastMac', () => {
  it.each([
    ['02:00:00:00:00:01', true],
    ['fe:ff:ff:ff:ff:ff', true],
    ['00:00:00:00:00:01', true],
    ['00:00:00:00:00:00', false],
    ['01:00:5e:00:00:01', false],
    ['ff:ff:ff:ff:ff:ff', false],
  ])('says of %s: %s', (text, expected) => {
    expect(isUnicastMac(parseMacAddress(text) as number)).toBe(expected);
  });
});
