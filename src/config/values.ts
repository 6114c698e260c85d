/**
 * The kinds of values a configuration holds, and what is said about each key.
 *
 * A key says once in words what may be written there ({@link About.form}); error messages and the
 * reference are both made from these words.
 */
import { z } from 'zod';
import { isUnicastMac, parseMacAddress } from '../net/ethernet.ts';
import { parseListenAddress } from '../net/listen-address.ts';
import { formatSize, parseSize } from './size.ts';

/** What the reference and the error messages say about a key. */
export interface About {
  /** Continues "must be ...". */
  readonly form: string;
  /** A value as TOML text. */
  readonly example: string;
  /** Sentences for the reference. */
  readonly description: string;
  /** What happens without the key, where that is not a constant of the schema. */
  readonly unset?: string;
}

/** The texts of one key, where the kind of value does not settle them. */
type Texts = Omit<About, 'form'>;

export const ABOUT = z.registry<About>();

/** Attaches texts to a schema. They are lost when zod copies it, so this comes last. */
export function about<T extends z.ZodType>(schema: T, texts: About): T {
  ABOUT.add(schema, texts);
  return schema;
}

export function integer(min: number, max: number, texts: Texts) {
  const form = `a whole number from ${min} to ${max}`;
  // Not z.int(): its refusal keeps the rules of the table around it from running.
  const schema = z.number().refine((value) => {
    return Number.isSafeInteger(value) && value >= min && value <= max;
  });
  return about(schema, { form, ...texts });
}

export function boolean(texts: Omit<Texts, 'example'>) {
  return about(z.boolean(), { form: 'true or false', example: 'true', ...texts });
}

export function oneOf<const T extends readonly [string, ...string[]]>(values: T, texts: Texts) {
  const quoted = values.map((value) => `"${value}"`);
  const form = quoted.length === 1 ? `${quoted[0]}` : `one of ${quoted.join(', ')}`;
  return about(z.enum(values), { form, ...texts });
}

/** Text of at most `sizeBytesMax` bytes in UTF-8. */
export function text(sizeBytesMax: number, texts: Texts) {
  return about(
    z.string().refine((value) => Buffer.byteLength(value) <= sizeBytesMax),
    { form: `text of at most ${sizeBytesMax} bytes in UTF-8`, ...texts },
  );
}

export function path(texts: Texts) {
  return about(z.string().regex(/^[^\0]+$/), { form: 'a path', ...texts });
}

/** A size or position that is a multiple of `unitBytes`; parsed to bytes. */
export function size(unitBytes: number, minBytes: number, texts: Texts) {
  const schema = z.union([z.number(), z.string()]).transform((input, context) => {
    const sizeBytes = parseSize(input);
    if (sizeBytes !== undefined && sizeBytes >= minBytes && sizeBytes % unitBytes === 0) {
      return sizeBytes;
    }
    context.addIssue('not a size');
    return z.NEVER;
  });
  const form =
    `a multiple of ${unitBytes} bytes${describeLeast(unitBytes, minBytes)}, as a number or as text ` +
    'with K, M, G, T or KiB, MiB, GiB, TiB (powers of 1024)';
  return about(schema, { form, ...texts });
}

function describeLeast(unitBytes: number, minBytes: number): string {
  if (minBytes === 0) return '';
  return minBytes === unitBytes ? ' above 0' : `, at least ${formatSize(minBytes)}`;
}

/** The kernel's room for an interface name and the zero after it, in bytes. */
const IFNAMSIZ = 16;

/** The name of a network interface, as the kernel accepts it. */
export function interfaceName(texts: Omit<Texts, 'example'>) {
  const schema = z.string().refine((name) => {
    const isShort = Buffer.byteLength(name) < IFNAMSIZ;
    return isShort && /^[^\s/:]+$/.test(name) && name !== '.' && name !== '..';
  });
  return about(schema, { form: 'the name of a network interface', example: '"eth0"', ...texts });
}

/** Where to listen. @param host what may stand before the port, for people */
export function listenAddress(host: string, texts: Texts) {
  const schema = z.string().refine((address) => parseListenAddress(address) !== undefined);
  const form = `${host} and a port, or the path of a unix socket, with a slash in it`;
  return about(schema, { form, ...texts });
}

/** A list of MAC addresses; parsed to numbers. */
export function macAddresses(texts: Omit<Texts, 'form' | 'example'>) {
  const mac = z.string().transform((input, context) => {
    const parsed = parseMacAddress(input);
    if (parsed !== undefined && isUnicastMac(parsed)) return parsed;
    context.addIssue('not a MAC address');
    return z.NEVER;
  });
  const element = about(mac, {
    form: 'the MAC address of one station',
    example: '"02:00:00:00:00:0a"',
    description: 'Six octets in hexadecimal, separated by colons or dashes.',
  });
  return about(z.array(element), {
    form: 'a list of MAC addresses',
    example: '["02:00:00:00:00:0a"]',
    ...texts,
  });
}

/** Tells what is wrong with one key of a table. */
export type Report = (key: string, message: string, remedy: string) => void;

/**
 * A table without unknown keys. `rule` compares keys with each other; it runs even when some of
 * them are wrong, so that everything is reported at once: it may see values of any type.
 */
export function table<Shape extends z.core.$ZodLooseShape>(
  shape: Shape,
  description: string,
  rule?: (keys: z.infer<z.ZodObject<Shape, z.core.$strict>>, report: Report) => void,
) {
  const schema = z.strictObject(shape).superRefine(
    (keys, context) => {
      rule?.(keys, (key, message, remedy) => {
        context.addIssue({ code: 'custom', path: [key], message, params: { remedy } });
      });
    },
    { when: ({ value }) => isTable(value) },
  );
  return about(schema, { form: 'a table', example: '', description });
}

function isTable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
