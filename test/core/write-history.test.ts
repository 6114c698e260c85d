import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isOvertaken } from '../../src/core/arrival.ts';
import { SECTOR_SIZE } from '../../src/core/block-device.ts';
import { WriteHistory } from '../../src/core/write-history.ts';

const NOW_US = 1_800_000_000_000_000;
/** So far apart are sectors that share a place. */
const PLACE_SECTORS = 1 << 15;
/** So many writes are known exactly. */
const KNOWN_COUNT = 1024;

describe('WriteHistory', () => {
  function admit(history: WriteHistory, sector: number, arrivalUs: number, count = 1): boolean {
    return history.admit(sector * SECTOR_SIZE, count * SECTOR_SIZE, arrivalUs);
  }

  it('lets late writes of sectors through that share a place with newer ones', () => {
    const history = new WriteHistory(0);
    expect(admit(history, 0, NOW_US, 16)).toBe(true);
    expect(admit(history, PLACE_SECTORS, NOW_US - 100, 16)).toBe(true);
    expect(admit(history, 5 * PLACE_SECTORS + 8, NOW_US - 200, 16)).toBe(true);
    // The newest of the place still counts.
    expect(admit(history, 15, NOW_US - 50)).toBe(false);
    expect(admit(history, PLACE_SECTORS, NOW_US - 150)).toBe(false);
  });

  it('tells apart what two interfaces bring at once, of random places', () => {
    const history = new WriteHistory(0);
    const batch = 500;
    let sector = 0;
    for (let round = 0; round < 20; round++) {
      for (let link = 0; link < 2; link++) {
        for (let index = 0; index < batch; index++) {
          sector = (sector + 16 * 104_729) % 2 ** 31;
          const arrivalUs = NOW_US + (round * batch + index) * 4 + link;
          expect(admit(history, sector, arrivalUs, 16)).toBe(true);
        }
      }
    }
  });

  it('lets nothing through that may be overtaken by what it knows no more', () => {
    const history = new WriteHistory(0);
    admit(history, 0, NOW_US);
    for (let index = 1; index <= KNOWN_COUNT; index++) admit(history, index, NOW_US + index);
    expect(admit(history, 0, NOW_US - 1)).toBe(false);
    expect(admit(history, PLACE_SECTORS, NOW_US - 1)).toBe(false);
    expect(admit(history, PLACE_SECTORS, NOW_US)).toBe(true);
  });

  it('remembers the newest of what it knows no more, in whatever order that came', () => {
    const history = new WriteHistory(0);
    admit(history, 0, NOW_US);
    for (let index = 1; index <= KNOWN_COUNT + 1; index++) admit(history, index, NOW_US - 50);
    expect(admit(history, 0, NOW_US - 10)).toBe(false);
  });

  it('begins anew when the clock was set back', () => {
    const history = new WriteHistory(0);
    const hourUs = 3_600_000_000;
    for (let index = 0; index < 2 * KNOWN_COUNT; index++) admit(history, index, NOW_US + hourUs);
    for (let index = 0; index < 2 * KNOWN_COUNT; index++) {
      expect(admit(history, index, NOW_US + index)).toBe(true);
    }
    expect(admit(history, 2 * KNOWN_COUNT - 1, NOW_US)).toBe(false);
    expect(admit(history, PLACE_SECTORS + 2 * KNOWN_COUNT - 1, NOW_US + 1500)).toBe(true);
  });

  it('never lets an overtaken write through, and refuses others only for lack of memory', () => {
    const write = fc.record({
      place: fc.nat(40),
      turn: fc.nat(3),
      count: fc.integer({ min: 1, max: 24 }),
      lateUs: fc.oneof({ weight: 3, arbitrary: fc.nat(30) }, fc.nat(4000)),
    });
    const history = fc.array(write, { minLength: 1, maxLength: 1500, size: 'max' });
    fc.assert(fc.property(history, checkHistory), { numRuns: 50 });
  });

  function checkHistory(writes: { place: number; turn: number; count: number; lateUs: number }[]) {
    const history = new WriteHistory(0);
    const admitted: { start: number; end: number; arrivalUs: number }[] = [];
    writes.forEach(({ place, turn, count, lateUs }, index) => {
      const start = place + turn * PLACE_SECTORS;
      const end = start + count;
      const arrivalUs = NOW_US + index - lateUs;
      const newer = admitted.map((earlier) => isOvertaken(arrivalUs, earlier.arrivalUs));
      const isOld = admitted.some(
        (earlier, at) => newer[at] && earlier.start < end && start < earlier.end,
      );
      const isForgotten = newer.slice(0, -KNOWN_COUNT).includes(true);
      const goesThrough = admit(history, start, arrivalUs, count);
      if (isOld) expect(goesThrough).toBe(false);
      else if (!isForgotten) expect(goesThrough).toBe(true);
      if (goesThrough) admitted.push({ start, end, arrivalUs });
    });
  }
});
