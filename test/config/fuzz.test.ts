import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { stringify } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problem.ts';
import { CONFIG_KEYS } from '../../src/config/reference.ts';

const EXAMPLE = readFileSync(new URL('../../config.example.toml', import.meta.url), 'utf8');

/** Either a configuration, or an error whose every problem is placed and explained. */
function expectConfigOrError(text: string): void {
  try {
    expect(parseConfig(text, '/etc/aoe.toml', {}).targets.length).toBeGreaterThan(0);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(error.problems.length).toBeGreaterThan(0);
    for (const { line, message, remedy } of error.problems) {
      expect(line).toBeGreaterThanOrEqual(1);
      expect(line).toBeLessThanOrEqual(text.split('\n').length);
      expect(message).not.toMatch(/undefined|\[object/);
      expect(remedy).toMatch(/\w/);
      expect(remedy).not.toMatch(/undefined|\[object/);
    }
  }
}

/** Values that are right for some key, and any others. */
const scalar = fc.oneof(
  fc.constantFrom('file', 'device', 'memory', 'cas', 'eth0', '1GiB', '02:00:00:00:00:01', '/a', ''),
  fc.constantFrom(0, 1, 16, 512, 4096, 65535, 0.5, -1),
  fc.boolean(),
  fc.date({ noInvalidDate: true, min: new Date('0001-01-01'), max: new Date('9999-12-31') }),
  fc.string(),
);
const names = [...new Set([...CONFIG_KEYS.values()].map(({ name }) => name).filter(Boolean))];
const key = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom(...names) },
  { weight: 1, arbitrary: fc.string() },
);
const { table } = fc.letrec<{ table: Record<string, unknown>; value: unknown }>((tie) => ({
  table: fc.dictionary(key, tie('value'), { maxKeys: 6 }),
  value: fc.oneof(
    { depthSize: 'small' },
    scalar,
    fc.array(scalar, { maxLength: 3 }),
    tie('table'),
    fc.array(tie('table') as fc.Arbitrary<unknown>, { maxLength: 3 }),
  ),
}));

describe('any text', () => {
  it('is a configuration or a ConfigError', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 200 }), expectConfigOrError));
  });

  it('is a configuration or a ConfigError when it is put together at random', () => {
    const target = fc.oneof(table, fc.array(table, { minLength: 1, maxLength: 3 }));
    fc.assert(
      fc.property(table, fc.oneof(table, scalar), target, (root, server, targets) => {
        expectConfigOrError(stringify({ ...root, server, target: targets }));
      }),
      { numRuns: 500 },
    );
  });

  it('is a configuration or a ConfigError when the example is damaged', () => {
    const place = fc.nat(EXAMPLE.length);
    const splice = fc.constantFrom('', '\n', '"', '[', ']', '=', '9', '#', '\0', '"""', '\\');
    fc.assert(
      fc.property(place, fc.nat(40), splice, (start, length, insertion) => {
        const damaged = EXAMPLE.slice(0, start) + insertion + EXAMPLE.slice(start + length);
        expectConfigOrError(damaged);
      }),
      { numRuns: 300 },
    );
  });
});
