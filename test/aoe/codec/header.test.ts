import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  Aoe,
  AoeError,
  addressMatches,
  aoeAddress,
  aoeErrorOf,
  isWildcard,
  readMac,
  setAoeError,
  writeMac,
  writeRequestHeader,
  writeResponseHeader,
  writeUnsolicitedHeader,
} from '../../../src/aoe/codec/header.ts';
import { placeFrame, readFrame } from '../../support/frames.ts';
import { TARGET } from './control.ts';

const anyMac = fc.nat({ max: 0xffff_ffff_ffff });
const anyFields = fc.record({
  destination: anyMac,
  source: anyMac,
  address: fc.nat({ max: 0xff_ffff }),
  command: fc.nat({ max: 255 }),
  tag: fc.nat({ max: 0xffff_ffff }),
});

function headerAt(view: DataView, at: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, Aoe.headerSize);
}

describe('AoE header', () => {
  it('reads MAC addresses exactly, at any offset', () => {
    fc.assert(
      fc.property(anyMac, fc.nat({ max: 50 }), (mac, at) => {
        const view = placeFrame(new Uint8Array(6), at);
        writeMac(view, at, mac);
        expect(readMac(view, at)).toBe(mac);
      }),
    );
  });

  it('a request reads as it was written', () => {
    fc.assert(
      fc.property(anyFields, fc.nat({ max: 50 }), (fields, at) => {
        const view = placeFrame(new Uint8Array(Aoe.headerSize).fill(0xee), at);
        writeRequestHeader(view, at, fields);
        expect(readMac(view, at + Aoe.destination)).toBe(fields.destination);
        expect(readMac(view, at + Aoe.source)).toBe(fields.source);
        expect(aoeAddress(view, at)).toBe(fields.address);
        expect(view.getUint8(at + Aoe.command)).toBe(fields.command);
        expect(view.getUint32(at + Aoe.tag)).toBe(fields.tag);
        expect(view.getUint8(at + Aoe.versionFlags)).toBe(0x10);
      }),
    );
  });

  it('a response goes back to its sender with the tag and the real address: the golden frame', () => {
    const request = placeFrame(readFrame('config-read-request'), 11);
    const response = placeFrame(new Uint8Array(Aoe.headerSize).fill(0xee), 3);
    writeResponseHeader(response, 3, request, 11, TARGET, 1 << 8);
    expect(headerAt(response, 3)).toEqual(
      readFrame('config-read-response').subarray(0, Aoe.headerSize),
    );
  });

  it('5. flags, error and reserved bits of a request do not come back', () => {
    const frame = readFrame('config-read-request');
    frame.set([0x17, 0x07], Aoe.versionFlags);
    const response = new DataView(new ArrayBuffer(Aoe.headerSize));
    writeResponseHeader(response, 0, placeFrame(frame, 0), 0, TARGET, 1 << 8);
    expect(response.getUint16(Aoe.versionFlags)).toBe(0x1800);
  });

  it('11. a response has the tag of its request, bit for bit', () => {
    fc.assert(
      fc.property(anyFields, (fields) => {
        const request = new DataView(new ArrayBuffer(Aoe.headerSize));
        const response = new DataView(new ArrayBuffer(Aoe.headerSize));
        writeRequestHeader(request, 0, fields);
        writeResponseHeader(response, 0, request, 0, TARGET, 1 << 8);
        expect(response.getUint32(Aoe.tag)).toBe(fields.tag);
        expect(readMac(response, Aoe.destination)).toBe(fields.source);
        expect(response.getUint8(Aoe.command)).toBe(fields.command);
      }),
    );
  });

  it('tells an error only when the flag is set', () => {
    const view = placeFrame(readFrame('config-read-response'), 0);
    expect(aoeErrorOf(view, 0)).toBe(0);
    setAoeError(view, 0, AoeError.targetReserved);
    expect(aoeErrorOf(view, 0)).toBe(AoeError.targetReserved);
    expect(view.getUint8(Aoe.versionFlags)).toBe(0x1c);
  });

  it('an announcement is a response that has no error', () => {
    const view = placeFrame(new Uint8Array(Aoe.headerSize).fill(0xee), 0);
    const fields = { destination: 1, source: 2, address: 3, command: 1, tag: 0 };
    writeUnsolicitedHeader(view, 0, fields);
    expect(view.getUint16(Aoe.versionFlags)).toBe(0x1800);
    expect(view.getUint32(Aoe.tag)).toBe(0);
  });

  it.each([
    [0x0001_00, true],
    [0xffff_ff, true],
    [0xffff_00, true],
    [0x0001_ff, true],
    [0x0002_00, false],
    [0x0001_01, false],
    [0xffff_01, false],
    [0x0002_ff, false],
  ])('address %i names shelf 1, slot 0: %s', (address, matches) => {
    expect(addressMatches(address, 1, 0)).toBe(matches);
  });

  it.each([
    [0xffff_ff, true],
    [0xffff_00, true],
    [0x0001_ff, true],
    [0x0001_00, false],
    [0x0fff_fe, false],
  ])('address %i is a wildcard: %s', (address, expected) => {
    expect(isWildcard(address)).toBe(expected);
  });
});
