/**
 * What the server tells about itself: plain data, the same in every thread, as JSON on the control
 * socket and in the program's output. The schemas are the types, and the description that the
 * control socket gives of them. Counters count from the start of the server, and those of a target
 * from when it was opened last.
 */
import { z } from 'zod';
import { storeStatusSchema } from './stores/contract.ts';

const count = (description: string) => z.number().nonnegative().describe(description);

const distributionSchema = z
  .strictObject({
    count: count('How many there are.'),
    sum: count('All of them together.'),
    p50: count('Half of them are at most this, which is up to an eighth too high.'),
    p99: count('99 of 100 are at most this.'),
    p999: count('999 of 1000 are at most this.'),
    counts: z
      .array(z.number())
      .describe('Element i: how many are below 2^i and not below 2^(i-1).'),
  })
  .describe('How values are distributed.');

const macsSchema = z.array(z.string());

const clientSchema = z
  .strictObject({
    mac: z.string(),
    lastSeen: z.iso.datetime(),
    requests: count('Requests that were taken up; counts anew when it was forgotten meanwhile.'),
  })
  .describe('An initiator.');

export const targetStatusSchema = z
  .strictObject({
    name: z.string().describe('e<shelf>.<slot>'),
    shelf: z.number(),
    slot: z.number(),
    sizeBytes: z.number(),
    backend: z.string().describe('The kind of storage: file, device, memory, cas.'),
    readOnly: z.boolean().describe('By configuration.'),
    writeCache: z.boolean().describe('Are writes acknowledged before they are durable?'),
    failed: z
      .boolean()
      .describe(
        'A flush failed: no write succeeds until it is opened anew, by readd or a restart.',
      ),
    drained: z.boolean().describe('Is it kept silent, with all its writes durable?'),
    inFlight: count('Requests that are not answered yet.'),
    lastAccess: z.iso
      .datetime()
      .nullable()
      .describe('When an initiator last read, wrote, flushed or trimmed.'),
    configString: z.string().describe('What is not UTF-8 is shown as U+FFFD.'),
    allow: macsSchema.describe('Who is answered, by configuration of the target; empty for all.'),
    maskList: macsSchema.describe('Who is answered, by MAC mask list; empty for all.'),
    reserveList: macsSchema.describe('Who holds the reservation; empty for nobody.'),
    reservationConflicts: count('Commands refused because another holds the reservation.'),
    counters: z
      .strictObject({
        reads: z.number(),
        writes: z.number(),
        flushes: z.number(),
        trims: z.number(),
        readBytes: z.number(),
        writtenBytes: z.number(),
        failures: count('Requests that failed because of the storage.'),
        stale: count('Writes overtaken by a resend of theirs, or by newer ones; not executed.'),
      })
      .describe('Requests to the storage that succeeded, and the others.'),
    latencyUs: z
      .strictObject({
        read: distributionSchema,
        write: distributionSchema,
        flush: distributionSchema,
        trim: distributionSchema,
      })
      .describe('Microseconds from the arrival of a request until its response was sent.'),
    groups: distributionSchema.describe('Writes and flushes that one flush answered.'),
    clients: z
      .array(clientSchema)
      .describe('Initiators answered lately, 128 at most; the last seen is the first.'),
  })
  .describe('A target.');

const linkStatusSchema = z
  .strictObject({
    interface: z.string(),
    mac: z.string().nullable().describe('Null, as the rest, when it cannot be used now.'),
    mtu: z.number().nullable().describe('Bytes.'),
    counters: z
      .strictObject({
        received: z.number(),
        dropped: count('Frames that found no room in the receive ring.'),
        truncated: count('Frames longer than the MTU.'),
        sent: z.number(),
        unsent: count('Frames given up: the interface was down, or the frame too long for it.'),
      })
      .nullable()
      .describe('Anew after each change of the interface.'),
  })
  .describe('An interface that is served, or would be if it were up.');

const framesSchema = z
  .strictObject({
    requests: count('Taken up, whatever became of them.'),
    malformed: count('Too short for AoE, or for an ATA command.'),
    badSource: count('From an address that no single station has, or from ourselves.'),
    notOurs: count('For an address that is not served here.'),
    denied: count('From an initiator that is not allowed, or not on the MAC mask list.'),
    tooOld: count(
      'Waited so long that the initiator has resent them, or older than the clock can tell.',
    ),
    overload: count('Dropped because too many requests were in flight.'),
  })
  .describe('Frames: requests, and the others by why they were dropped.');

/** The status of one data path. */
const partStatusSchema = z.strictObject({
  inFlight: count('Requests that are not answered yet.'),
  inFlightMax: count('The most requests that can be in flight.'),
  frames: framesSchema,
  links: z.array(linkStatusSchema),
  targets: z.array(targetStatusSchema),
});

/** The status of the whole server: its data paths together. */
export const serverStatusSchema = partStatusSchema
  .extend({
    version: z.string(),
    configPath: z.string().describe('The configuration file, absolute.'),
    pid: z.number(),
    startedAt: z.iso.datetime(),
    workers: count('Threads that serve.'),
    logLevel: z.string(),
    stores: z.array(storeStatusSchema),
  })
  .describe('A running server.');

/** What a reload has done. */
export const reloadedSchema = z
  .strictObject({
    added: z.array(z.string()),
    changed: z.array(z.string()),
    removed: z.array(z.string()),
  })
  .describe('Names of targets.');

/** Who was announced, and where. */
export const announcedSchema = z.strictObject({
  targets: z.array(z.string()),
  interfaces: z.array(z.string()),
});

export type Announced = z.infer<typeof announcedSchema>;
export type Reloaded = z.infer<typeof reloadedSchema>;
export type TargetStatus = z.infer<typeof targetStatusSchema>;
export type LinkStatus = z.infer<typeof linkStatusSchema>;
export type PartStatus = z.infer<typeof partStatusSchema>;
export type ServerStatus = z.infer<typeof serverStatusSchema>;

/** Puts the status of data paths together that serve different targets on the same interfaces. */
export function mergeStatus(parts: readonly PartStatus[]): PartStatus {
  const [first, ...others] = parts;
  if (first === undefined) throw new Error('there is no data path');
  const { targets, ...merged } = others.reduce(mergeTwo, first);
  return { ...merged, targets: targets.toSorted((x, y) => x.shelf - y.shelf || x.slot - y.slot) };
}

function mergeTwo(a: PartStatus, b: PartStatus): PartStatus {
  return {
    inFlight: a.inFlight + b.inFlight,
    inFlightMax: a.inFlightMax + b.inFlightMax,
    frames: addCounters(a.frames, b.frames),
    links: a.links.map((link, index) => mergeLinks(link, b.links[index] as LinkStatus)),
    targets: [...a.targets, ...b.targets],
  };
}

/** A link counts as open when it is open in every thread: the targets of others are not reached. */
function mergeLinks(a: LinkStatus, b: LinkStatus): LinkStatus {
  if (a.counters === null) return a;
  if (b.counters === null) return b;
  return { ...a, counters: addCounters(a.counters, b.counters) };
}

function addCounters<T extends { readonly [K in keyof T]: number }>(a: T, b: T): T {
  const names = Object.keys(a) as (keyof T)[];
  return Object.fromEntries(names.map((name) => [name, a[name] + b[name]])) as T;
}
