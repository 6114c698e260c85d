/**
 * Every key of a configuration file: its type, bounds, default and description.
 *
 * The schema is the only source: the checks, the error messages and the reference are made from
 * it. It knows one file's text and nothing else; what depends on the machine or on other targets
 * is in `rules.ts`, and `config.ts` gives the result its final shape.
 */

import { z } from 'zod';
import { Limits } from '../core/limits.ts';
import { isLocal, parseListenAddress } from '../net/listen-address.ts';
import { cas, device, file, memory } from './backend-schema.ts';
import {
  about,
  boolean,
  integer,
  interfaceName,
  listenAddress,
  macAddresses,
  oneOf,
  path,
  table,
  text,
} from './values.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const;
export const BACKEND_TYPES = ['file', 'device', 'memory', 'cas'] as const;

/** The protocol's limit for a config string (AoEr11 §3.2), in bytes. */
const CONFIG_STRING_SIZE_MAX = 1024;

/** More than a target takes up would be dropped. */
const BUFFER_COUNT_MAX = Limits.requestsPerTarget;

const server = table(
  {
    interface: interfaceName({
      description:
        'The network interface to serve on. Of a bond or bridge name the bond or bridge itself: its ' +
        'parts receive no requests.',
      unset: 'see interfaces',
    }).optional(),
    interfaces: about(
      z
        .array(interfaceName({ description: 'The name of one interface.' }))
        .refine((names) => names.length > 0 && new Set(names).size === names.length),
      {
        form: 'a list of different network interfaces',
        example: '["eth0", "eth1"]',
        description:
          'Several interfaces instead of one. Every target is served on each of them, and ' +
          'initiators that reach more than one use them side by side.',
        unset: 'see interface',
      },
    ).optional(),
    log_level: oneOf(LOG_LEVELS, {
      example: '"debug"',
      description:
        'The least severe kind of message that is logged, to standard error: lines to read on a ' +
        'terminal, and JSON, one object a line, anywhere else.',
    }).default('info'),
    state_dir: path({
      example: '"/var/lib/aoe-server"',
      description:
        'The directory that keeps config strings, MAC mask lists and reserve lists over a ' +
        'restart. A relative path is relative to this file.',
      unset: '$STATE_DIRECTORY, which systemd sets, or else /var/lib/aoe-server',
    }).optional(),
    control: path({
      example: '"/run/aoe-server/control.sock"',
      description:
        'The control socket, which status and the other commands for a running server use. A ' +
        'relative path is relative to this file.',
      unset: 'control.sock in state_dir',
    }).optional(),
    metrics: listenAddress('a loopback address', {
      example: '"127.0.0.1:9465"',
      description:
        'Where Prometheus finds /metrics, besides the control socket, which always has them. A ' +
        'relative path is relative to this file.',
      unset: 'on the control socket only',
    }).optional(),
    dashboard: listenAddress('an IP address', {
      example: '"127.0.0.1:8088"',
      description:
        'Where browsers find a page that shows the server. Changes there need the token that the ' +
        'first start writes to dashboard-token in state_dir. At an address that other machines can ' +
        'reach, looking needs it, too. A relative path is relative to this file.',
      unset: 'no such page',
    }).optional(),
    buffer_count: integer(2, BUFFER_COUNT_MAX, {
      example: '64',
      description:
        'How many requests an initiator may have in flight to one target. Linux uses at most ' +
        '64 unless its module parameter aoe_maxout is raised.',
    }).default(64),
    max_sectors: integer(1, 255, {
      example: '16',
      description:
        'The most sectors in one frame. Frames never exceed the MTU, whatever is written here.',
      unset: 'chosen from the MTU',
    }).optional(),
    allow: macAddresses({
      description:
        'The initiators that are answered; an empty list means all. This guards against ' +
        'mistakes, not against attackers: addresses are easily forged.',
    }).default([]),
    spin_us: integer(0, 1000, {
      example: '50',
      description:
        'How long to look for the next frame before going to sleep, in microseconds, while ' +
        'traffic is dense. Shortens answers at the price of processor time; 0 turns it off.',
    }).default(50),
    user: text(32, {
      example: '"aoe-server"',
      description:
        'The user to become once everything is open, keeping nothing but the right to open raw ' +
        'sockets. state_dir is given to it; stores must belong to it. Needs root at the start.',
      unset: 'the user that started the server',
    }).optional(),
    workers: integer(1, 64, {
      example: '4',
      description:
        'How many threads serve. Targets are divided among them by shelf plus slot: ascending ' +
        'shelves, or slots, are spread evenly. More threads than busy targets make nothing faster. ' +
        'With content-addressed stores there can be only one.',
    }).default(1),
  },
  'What applies to all targets.',
  (keys, report) => {
    if (keys.interface === undefined && keys.interfaces === undefined) {
      const remedy = 'Write interface = "eth0", or interfaces = ["eth0", "eth1"] for several.';
      report('interface', 'is missing', remedy);
    }
    if (keys.interface !== undefined && keys.interfaces !== undefined) {
      report('interfaces', 'is given besides interface', 'Keep one of the two.');
    }
    const { metrics } = keys;
    const address = typeof metrics === 'string' ? parseListenAddress(metrics) : undefined;
    if (address !== undefined && !isLocal(address)) {
      const remedy =
        'Write metrics = "127.0.0.1:9465", and let a proxy with authentication, or a tunnel, ' +
        'reach it from elsewhere.';
      report('metrics', 'could be reached from other machines', remedy);
    }
  },
);

export const targetSchema = table(
  {
    shelf: integer(0, 65534, {
      example: '1',
      description:
        'The first half of the address: initiators see shelf 1, slot 0 as e1.0. Linux ' +
        'initiators refuse shelf 4095.',
    }),
    slot: integer(0, 254, {
      example: '0',
      description:
        'The second half of the address. Different slots let a Linux initiator use several ' +
        'processors. One with static device numbers (aoe_dyndevs=0) refuses 16 and above.',
    }),
    backend: oneOf(BACKEND_TYPES, {
      example: '"file"',
      description: 'The kind of storage; its keys are in the table of the same name.',
    }),
    config_string: text(CONFIG_STRING_SIZE_MAX, {
      example: '"aoe-disk-1"',
      description:
        'The config string, until an initiator sets another one, which is kept in state_dir and ' +
        'wins over this.',
    }).default(''),
    read_only: boolean({ description: 'Refuse to write.' }).default(false),
    write_cache: boolean({
      description:
        'Acknowledge writes before they are on stable storage. Faster, but a power cut loses ' +
        'acknowledged writes: Linux initiators send no flush, not even for fsync().',
    }).default(false),
    allow: macAddresses({
      description:
        'The initiators, of those that the server allows, that this target answers; an empty ' +
        'list means all.',
    }).default([]),
    file: file.optional(),
    device: device.optional(),
    memory: memory.optional(),
    cas: cas.optional(),
  },
  'One disk. Repeat the table for each.',
  (keys, report) => {
    const { backend } = keys;
    if (!BACKEND_TYPES.includes(backend)) return;
    for (const type of BACKEND_TYPES) {
      if (type === backend && keys[type] === undefined) {
        report(type, 'is missing', `Add a table [target.${type}] to this target.`);
      }
      if (type !== backend && keys[type] !== undefined) {
        const remedy = `Remove this table, or write backend = "${type}".`;
        report(type, `is not used, because backend = "${backend}"`, remedy);
      }
    }
  },
);

/** The whole file. Sizes come out as bytes and MAC addresses as numbers; keys keep their names. */
export const configSchema = table(
  {
    server,
    target: about(
      // Not min(1): zod applies it to a single [target] table that has a key `length`, too.
      z.array(targetSchema).refine(({ length }) => length > 0 && length <= Limits.targetCount),
      {
        form: `one to ${Limits.targetCount} tables, each headed [[target]]`,
        example: '[[target]]',
        description: 'The disks that are served.',
      },
    ),
  },
  'The configuration of aoe-server.',
);

/** A file's content after the schema's checks. */
export type ConfigDocument = z.infer<typeof configSchema>;
/** One [[target]] after the same checks. */
export type TargetTable = z.infer<typeof targetSchema>;
export type LogLevel = ConfigDocument['server']['log_level'];
