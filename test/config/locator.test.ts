import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createLocator } from '../../src/config/locator.ts';
import type { KeyPath } from '../../src/config/scanner.ts';

const DOCUMENT = `# [server] in a comment
top = 1
[server]
interface = "eth0"        # slot = 1
allow = [
  "[target]",             # 6
  "size = 1",
]
text = """
[[target]]
path = 1
"""
'quo.ted' = '''
x = 1
''' 
"esc\\u0061ped" = { inline = 1 }
dotted.key = 2

[[target]]
slot = 0
  [target.file]
  path = "\\"a = #"
[[target]]
[target.cas.blob_store]
type = "file"
[[target.cas.list]]
[[target.cas.list]]
x = 1
`;

describe('createLocator', () => {
  it.each<[KeyPath, number]>([
    [['top'], 2],
    [['server'], 3],
    [['server', 'interface'], 4],
    [['server', 'allow'], 5],
    [['server', 'text'], 9],
    [['server', 'quo.ted'], 13],
    [['server', 'escaped'], 16],
    [['server', 'dotted'], 17],
    [['server', 'dotted', 'key'], 17],
    [['target', 0], 19],
    [['target', 0, 'slot'], 20],
    [['target', 0, 'file', 'path'], 22],
    [['target', 1], 23],
    [['target', 1, 'cas'], 24],
    [['target', 1, 'cas', 'blob_store', 'type'], 25],
    [['target', 1, 'cas', 'list', 1, 'x'], 28],
  ])('finds %j on line %d', (path, line) => {
    expect(createLocator(DOCUMENT)(path)).toBe(line);
  });

  it.each<[string, KeyPath, number]>([
    ['the key around an inline table', ['server', 'escaped', 'inline'], 16],
    ['the key of an array', ['server', 'allow', 1], 5],
    ['the table around a missing key', ['target', 1, 'shelf'], 23],
    ['the first element of an array of tables', ['target'], 19],
    ['the first line for a missing table', ['absent', 'key'], 1],
    ['the first line for the root', [], 1],
  ])('falls back to %s', (_, path, line) => {
    expect(createLocator(DOCUMENT)(path)).toBe(line);
  });

  it('is not led astray by strings, arrays, comments and blank lines', () => {
    const noise = fc.constantFrom(
      [''],
      ['# key = 1'],
      ['n0 = """', 'key = 1', '[t]', '\\"""" # """'],
      ["n1 = '''", 'key = 1', "\\'''"],
      ['n2 = [', '  [ "]", 1 ], # ]', '  { key = "}" }', ']'],
      ['n3 = "\\"" # "'],
      ["n4 = '\\'"],
    );
    fc.assert(
      fc.property(fc.array(noise), fc.array(noise), (before, after) => {
        const lines = [...before.flat(), '[table]', ...after.flat(), 'key = 1'];
        const locate = createLocator(lines.join('\r\n'));
        expect(locate(['table'])).toBe(before.flat().length + 1);
        expect(locate(['table', 'key'])).toBe(lines.length);
      }),
    );
  });

  it('takes any text, and answers with one of its lines', () => {
    const piece = fc.constantFrom('[', ']', '{', '}', '"""', "'''", '"', '\\', '=', '.', '\n', 'a');
    const garbage = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(piece).map((parts) => parts.join('')),
    );
    const path = fc.array(fc.oneof(fc.constant('a'), fc.string(), fc.nat(3)));
    fc.assert(
      fc.property(garbage, path, (text, keys) => {
        const line = createLocator(text)(keys);
        expect(line).toBeGreaterThanOrEqual(1);
        expect(line).toBeLessThanOrEqual(text.split('\n').length);
      }),
    );
  });
});
