import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  Ata,
  readLba28,
  readLba48,
  writeAtaResponse,
  writeLba,
} from '../../../src/aoe/codec/ata.ts';
import { FOREIGN_BYTE, placeFrame } from '../../support/frames.ts';

describe('ATA argument', () => {
  it('keeps 48-bit LBAs exactly, at any offset', () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 48 - 1 }), fc.nat({ max: 50 }), (lba, at) => {
        const view = placeFrame(new Uint8Array(Ata.headerSize), at);
        writeLba(view, at, lba);
        expect(readLba48(view, at)).toBe(lba);
      }),
    );
  });

  it('19. a 28-bit LBA leaves out the device register and what follows', () => {
    const view = placeFrame(new Uint8Array(Ata.headerSize), 0);
    writeLba(view, 0, 0xffff_e123_4567);
    expect(readLba28(view, 0)).toBe(0x0123_4567);
  });

  it('a response says status and error and nothing else', () => {
    const view = placeFrame(new Uint8Array(Ata.headerSize).fill(FOREIGN_BYTE), 7);
    writeAtaResponse(view, 7, 0x41, 0x04);
    const argument = new Uint8Array(view.buffer, view.byteOffset + 7 + Ata.aflags, 13);
    expect([...argument]).toEqual([0, 0x04, 0, 0x41, 0, 0, 0, 0, 0, 0, 0, 0, FOREIGN_BYTE]);
  });
});
