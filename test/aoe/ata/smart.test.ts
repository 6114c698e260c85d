import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  buildSmartData,
  buildSmartThresholds,
  type SmartHealth,
} from '../../../src/aoe/ata/smart.ts';

const HEALTHY: SmartHealth = { failed: false, failures: 0, servedMs: 0 };
const HOUR_MS = 3_600_000;

interface Attribute {
  readonly id: number;
  readonly flags: number;
  readonly value: number;
  readonly worst: number;
  readonly raw: number;
}

function attributesOf(page: Uint8Array): Attribute[] {
  const view = new DataView(page.buffer);
  const attributes: Attribute[] = [];
  for (let at = 2; view.getUint8(at) !== 0; at += 12) {
    attributes.push({
      id: view.getUint8(at),
      flags: view.getUint16(at + 1, true),
      value: view.getUint8(at + 3),
      worst: view.getUint8(at + 4),
      raw: view.getUint32(at + 5, true) + view.getUint16(at + 9, true) * 2 ** 32,
    });
  }
  return attributes;
}

function thresholdsOf(page: Uint8Array): Map<number, number> {
  const thresholds = new Map<number, number>();
  for (let at = 2; page[at] !== 0; at += 12) {
    thresholds.set(page[at] as number, page[at + 1] as number);
  }
  return thresholds;
}

const sumOf = (page: Uint8Array) => page.reduce((sum, byte) => sum + byte, 0) % 256;

describe('SMART data', () => {
  it('is a page of revision 16 with a valid checksum, whatever the health', () => {
    fc.assert(
      fc.property(
        fc.record({
          failed: fc.boolean(),
          failures: fc.nat(),
          servedMs: fc.nat({ max: 2 ** 50 }),
        }),
        (health) => {
          const page = buildSmartData(health);
          expect(page.length).toBe(512);
          expect([page[0], page[1]]).toEqual([16, 0]);
          expect(sumOf(page)).toBe(0);
        },
      ),
    );
  });

  it('tells whole hours since the disk is served', () => {
    const hours = (servedMs: number) =>
      attributesOf(buildSmartData({ ...HEALTHY, servedMs })).find(({ id }) => id === 9)?.raw;
    expect(hours(HOUR_MS - 1)).toBe(0);
    expect(hours(HOUR_MS)).toBe(1);
    expect(hours(70_000 * HOUR_MS)).toBe(70_000);
  });

  it('counts failures of the storage without calling the disk bad', () => {
    const attributes = attributesOf(buildSmartData({ ...HEALTHY, failures: 3 }));
    expect(attributes).toEqual([
      { id: 9, flags: 0x0002, value: 100, worst: 100, raw: 0 },
      { id: 187, flags: 0x0003, value: 100, worst: 100, raw: 3 },
    ]);
  });

  it('promises no self-tests, logs or background collection', () => {
    const page = buildSmartData({ failed: true, failures: 9, servedMs: HOUR_MS });
    expect(page.subarray(2 + 2 * 12, 511)).toEqual(new Uint8Array(511 - 26));
  });
});

describe('SMART thresholds', () => {
  const page = buildSmartThresholds();
  const thresholds = thresholdsOf(page);

  it('are a page of revision 16 with a valid checksum', () => {
    expect(page.length).toBe(512);
    expect([page[0], page[1]]).toEqual([16, 0]);
    expect(sumOf(page)).toBe(0);
  });

  it('cover every attribute, in the same order', () => {
    expect([...thresholds.keys()]).toEqual(
      attributesOf(buildSmartData(HEALTHY)).map(({ id }) => id),
    );
  });

  it('are passed by a healthy disk and not by a failed one', () => {
    const failing = (health: SmartHealth) =>
      attributesOf(buildSmartData(health))
        .filter(({ id, value }) => value <= (thresholds.get(id) as number))
        .map(({ id }) => id);
    expect(failing(HEALTHY)).toEqual([]);
    expect(failing({ ...HEALTHY, failed: true })).toEqual([187]);
  });
});
