import { parse } from 'smol-toml';
import { expect, it } from 'vitest';
import { resizeKeys } from '../../src/cli/target-keys.ts';
import { setKeys } from '../../src/config/edit.ts';
import { valueAt } from '../../src/config/explain.ts';
import { parseConfig } from '../../src/config/load.ts';
import { SERVER } from '../config/samples.ts';

const MIB = 1 << 20;
const STORE = 'blob_store = { type = "file", path = "/srv/blobs" }';

function read(text: string) {
  const [target] = parseConfig(text, '/etc/aoe.toml', {}).targets;
  if (target === undefined) throw new Error('there is no target');
  return target;
}

it.each([
  ['an image', 'file = { path = "/srv/a.img", size = "1M" }', { sizeBytes: 3 * MIB }],
  [
    'the end of an image',
    'file = { path = "/srv/a.img", size = "2M", offset = "1M" }',
    { sizeBytes: 4 * MIB, offsetBytes: MIB },
  ],
  [
    'a part of an image that has room for it',
    'file = { path = "/srv/a.img", size = "9M", offset = "1M", length = "1M" }',
    { sizeBytes: 9 * MIB, lengthBytes: 3 * MIB },
  ],
  [
    'a part of an image that has not',
    'file = { path = "/srv/a.img", size = "2M", offset = "1M", length = "1M" }',
    { sizeBytes: 4 * MIB, lengthBytes: 3 * MIB },
  ],
  ['a disk in memory', 'memory = { size = "1M" }', { sizeBytes: 3 * MIB }],
  ['a volume', `cas = { size = "1M", ${STORE} }`, { sizeBytes: 3 * MIB }],
  ['a volume of so many blocks', `cas = { total_sectors = 256, ${STORE} }`, { sizeBytes: 3 * MIB }],
])('gives %s another size', (_, table, expected) => {
  const backend = table.slice(0, table.indexOf(' '));
  const target = `[[target]]\nshelf = 1\nslot = 0\nbackend = "${backend}"\n${table}\n`;
  const text = SERVER + target;
  const keys = resizeKeys(read(text), valueAt(parse(text), ['target', 0]) as object, 3 * MIB);
  const resized = read(setKeys(text, 0, keys)).backend;
  expect(resized).toEqual({ ...read(text).backend, ...expected });
});
