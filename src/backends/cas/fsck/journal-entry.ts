/** Takes entries of a journal apart, trusting nothing. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { RECORD_ALIGNMENT, SEGMENT_BYTES_MAX } from '../format.ts';

const VERSION = 1;

const count = z.number().int().min(0);
const place = count.max(SEGMENT_BYTES_MAX).multipleOf(RECORD_ALIGNMENT);
const headBytes = count.max(SEGMENT_BYTES_MAX);
const part = z.union([
  z.tuple([place, place, count, headBytes]),
  z.tuple([place, place, count, headBytes, z.string().regex(/^[0-9a-f]+$/)]),
]);

const entrySchema = z
  .object({
    number: count.min(1),
    base: count.min(1),
    epoch: count,
    owner: z.object({ id: z.string(), host: z.string() }),
    after: z.string().optional(),
    abandoned: z.array(z.string()).optional(),
    closed: z.boolean(),
    superblock: z
      .object({
        store: z.string().regex(/^[0-9a-f]{32}$/),
        generation: count,
        epoch: count,
        segment: count,
        offset: count.max(SEGMENT_BYTES_MAX),
        length: count.max(SEGMENT_BYTES_MAX),
      })
      .nullable(),
    segments: z.array(z.object({ number: count.min(1), parts: z.array(part) })),
    removed: z.array(count),
  })
  .refine(({ base, number }) => base <= number, { error: 'its base comes after it' })
  .refine(({ segments }) => segments.every(({ parts }) => areSeamless(parts)), {
    error: 'its parts of a segment do not follow each other',
  });

export type JournalEntry = z.infer<typeof entrySchema>;
export type ReadPart = z.infer<typeof part>;

/** @returns what is wrong */
export function parseEntry(bytes: Uint8Array, number: number): JournalEntry | string {
  let json: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    if (!isAsHashed(text)) return 'is not what its hash is of';
    json = JSON.parse(text);
  } catch (error) {
    return `is no JSON: ${(error as Error).message}`;
  }
  const version = z.object({ version: z.unknown() }).safeParse(json).data?.version;
  if (version !== VERSION) return `has version ${version}`;
  const { data, error } = entrySchema.safeParse(json);
  if (data === undefined) return `does not make sense: ${z.prettifyError(error)}`;
  return data.number === number ? data : `says that its number is ${data.number}`;
}

/** The hash is of everything before it. An entry of an earlier server has none. */
function isAsHashed(text: string): boolean {
  const at = text.lastIndexOf(',"sha256":');
  if (at === -1) return true;
  const hash = createHash('sha256').update(text.slice(0, at)).digest('hex');
  return text.slice(at) === `,"sha256":"${hash}"}`;
}

function areSeamless(parts: readonly z.infer<typeof part>[]): boolean {
  return parts.every(([from, to], index) => from === (parts[index - 1]?.[1] ?? 0) && from < to);
}
