/**
 * Tells a torn tail from a log that was cut: records say how far the log had been durable when they
 * were written, and those that stand behind its end may tell of more than is there.
 */
import { isLogType, RECORD_ALIGNMENT, type RecordHeader, readRecordHeader } from './format.ts';
import { isAt, type RecordParts, readRecord, unlessUnreadable } from './records.ts';
import type { Segment, Segments } from './segments.ts';

/** Read at once. */
const SCAN_BYTES = 1 << 20;

interface ScanParts extends RecordParts {
  readonly segments: Segments;
}

/**
 * Looks behind the end of a log for proof that there had been more.
 *
 * @param segment in which the log ends, at byte `end`; undefined when there is none
 * @param sequence of the first record that is missing
 * @param epoch what went on with the log has no lower one
 * @param candidates segments of the log, later than where its replay began
 * @returns what proves it, for people
 */
export async function findLoss(
  parts: ScanParts,
  segment: Segment | undefined,
  end: number,
  sequence: number,
  epoch: number,
  candidates: readonly Segment[],
): Promise<string | undefined> {
  const unread = candidates.filter((candidate) => candidate.usedBytes === 0);
  const places = unread.map((candidate) => ({ candidate, from: 0 }));
  if (segment !== undefined) places.push({ candidate: segment, from: end });
  const chunk = new Uint8Array(Math.min(SCAN_BYTES, parts.segments.segmentBytes));
  for (const { candidate, from } of places) {
    for await (const header of headersIn(parts, candidate, from, chunk)) {
      if (!isLogType(header.type) || header.epoch < epoch) continue;
      if (header.durableSequence <= sequence) continue;
      return (
        `record ${sequence} of the log is damaged (segment ${segment?.number ?? 0}, byte ${end}): ` +
        `record ${header.sequence} shows that it had been durable`
      );
    }
  }
  return undefined;
}

/**
 * Every whole record header in a segment from `start` on, wherever it stands; `chunk` at a time. Pages
 * that cannot be read have none.
 */
async function* headersIn(
  parts: ScanParts,
  segment: Segment,
  start: number,
  chunk: Uint8Array,
): AsyncGenerator<RecordHeader> {
  for (let offset = start; offset < parts.segments.segmentBytes; offset += chunk.length) {
    const length = await readPages(segment, chunk, offset);
    for (let at = 0; at + RECORD_ALIGNMENT <= length; at += RECORD_ALIGNMENT) {
      const header = readRecordHeader(chunk.subarray(at, at + RECORD_ALIGNMENT), parts.store);
      if (header === undefined || !isAt(header, segment, offset + at)) continue;
      const found = await readRecord(parts, segment, offset + at).catch(unlessUnreadable);
      if (found !== undefined) yield found.header;
    }
  }
}

/** Reads a part of a segment; pages that cannot be read are zeroes. @returns its length */
async function readPages({ file }: Segment, bytes: Uint8Array, position: number): Promise<number> {
  const length = await file.read(bytes, position).catch(unlessUnreadable);
  if (length !== undefined) return length;
  bytes.fill(0);
  for (let at = 0; at < bytes.length; at += RECORD_ALIGNMENT) {
    const page = bytes.subarray(at, at + RECORD_ALIGNMENT);
    await file.read(page, position + at).catch(unlessUnreadable);
  }
  return bytes.length;
}
