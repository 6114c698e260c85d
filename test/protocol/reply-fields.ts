import { padded } from './frames.ts';

/** Field name and size in bytes; what follows the last one is the rest. */
type Layout = readonly (readonly [name: string, size: number])[];
export type Fields = Readonly<Record<string, string>>;

const HEADER: Layout = [
  ['destination', 6],
  ['source', 6],
  ['EtherType', 2],
  ['version and flags', 1],
  ['error', 1],
  ['shelf', 2],
  ['slot', 1],
  ['command', 1],
  ['tag', 4],
];

const ARGUMENTS: Readonly<Record<number, Layout>> = {
  0: [
    ['aflags', 1],
    ['ATA error', 1],
    ['sector count', 1],
    ['status', 1],
    ['LBA', 6],
    ['reserved', 2],
  ],
  1: [
    ['buffer count', 2],
    ['firmware version', 2],
    ['sectors per frame', 1],
    ['ccmd', 1],
    ['string length', 2],
  ],
  2: [
    ['reserved', 1],
    ['mcmd', 1],
    ['mask error', 1],
    ['directive count', 1],
  ],
  3: [
    ['rcmd', 1],
    ['address count', 1],
  ],
};

/** IDENTIFY data: its texts, and each other word. */
const IDENTITY: Layout = [
  ...words(0, 9),
  ['serial number', 20],
  ...words(20, 22),
  ['firmware revision', 8],
  ['model number', 40],
  ...words(47, 255),
];
const IDENTIFY_REPLY_BYTES = 548;

/** A reply by field, as hexadecimal text. A short one is taken as if it were padded. */
function fieldsOf(reply: Buffer, isIdentity: boolean): Fields {
  const argument = ARGUMENTS[reply.readUInt8(19)] ?? [];
  const layout = [...HEADER, ...argument, ...(isIdentity ? IDENTITY : [])];
  const text = padded(reply).toString('hex');
  const fields: Record<string, string> = { size: `${reply.length}` };
  let at = 0;
  for (const [name, size] of layout) {
    fields[name] = text.slice(at, at + 2 * size);
    at += 2 * size;
  }
  fields['rest'] = text.slice(at);
  return fields;
}

/** The names of the fields in which two replies differ; silence is a difference of its own. */
export function differingFields(
  request: Buffer,
  a: Buffer | undefined,
  b: Buffer | undefined,
): string[] {
  if (a === undefined || b === undefined) return a === b ? [] : ['silence'];
  const isIdentify = request.readUInt8(19) === 0 && request[27] === 0xec;
  const isIdentity = isIdentify && [a, b].every(({ length }) => length === IDENTIFY_REPLY_BYTES);
  const [fieldsA, fieldsB] = [fieldsOf(a, isIdentity), fieldsOf(b, isIdentity)];
  const names = new Set([...Object.keys(fieldsA), ...Object.keys(fieldsB)]);
  return [...names].filter((name) => fieldsA[name] !== fieldsB[name]);
}

function words(first: number, last: number): Layout {
  return Array.from({ length: last - first + 1 }, (_, index) => [`word ${first + index}`, 2]);
}
