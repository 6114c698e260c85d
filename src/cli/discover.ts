import type { Command } from 'commander';
import type { FoundTarget } from '../aoe/initiator/discover.ts';
import type { DiskIdentityReply } from '../aoe/initiator/identity.ts';
import { targetName } from '../config/config.ts';
import { SECTOR_SIZE } from '../core/block-device.ts';
import { formatMacAddress } from '../net/ethernet.ts';
import { listInterfaces } from './network-interfaces.ts';
import type { PrintOptions } from './print.ts';
import { formatRoundSize } from './round-size.ts';
import { formatTable } from './table.ts';

/** A found target, as `--json` prints it. */
interface Row {
  readonly address: string;
  readonly shelf: number;
  readonly slot: number;
  readonly interface: string;
  readonly mac: string;
  /** Null, as everything of the disk's, when it did not answer IDENTIFY. */
  readonly sizeBytes: number | null;
  readonly sectorsPerFrame: number;
  readonly bufferCount: number;
  readonly roundTripMs: number;
  readonly model: string | null;
  readonly serial: string | null;
  readonly configString: string;
}

const NOBODY = (names: readonly string[]) => `No target answered on ${names.join(', ')}.
    A target must be on the same Ethernet segment or VLAN; AoE crosses no router.
    IP addresses and firewalls play no part in it, and neither does the MTU.
    A target with a list of initiators is silent towards all others.
    A server hears its own machine on no interface but lo.`;

/** Lists the targets that answer on an interface. */
export function addDiscoverCommand(program: Command): void {
  program
    .command('discover')
    .description('list the targets that answer on an interface, or on all Ethernet interfaces')
    .argument('[interface]', 'network interface')
    .option('--json', 'print a JSON array')
    .action(discover);
}

/** @throws {StartupError} an interface cannot be used */
async function discover(name: string | undefined, options: PrintOptions): Promise<void> {
  const names = name === undefined ? listInterfaces() : [name];
  const rows = (await Promise.all(names.map(discoverOn))).flat();
  rows.sort((a, b) => a.shelf - b.shelf || a.slot - b.slot);
  if (options.json) console.log(JSON.stringify(rows, null, 2));
  else if (rows.length > 0) console.log(formatRows(rows));
  if (rows.length === 0) console.error(NOBODY(names));
  for (const warning of warnings(rows)) console.error(warning);
}

async function discoverOn(name: string): Promise<Row[]> {
  // Loaded on demand: the other commands work where the native addon does not.
  const { Initiator } = await import('../aoe/initiator/initiator.ts');
  const { discoverTargets } = await import('../aoe/initiator/discover.ts');
  const { RemoteTarget } = await import('../aoe/initiator/remote-target.ts');
  await using initiator = Initiator.open({ interface: name });
  const found = await discoverTargets(initiator);
  const identify = async (target: FoundTarget) => {
    const remote = new RemoteTarget(initiator, target.mac, target.address, { resends: 1 });
    const identity = await remote.identify().catch(() => undefined);
    return makeRow(name, target, identity);
  };
  return await Promise.all(found.map(identify));
}

function makeRow(name: string, found: FoundTarget, identity: DiskIdentityReply | undefined): Row {
  const shelf = found.address >>> 8;
  const slot = found.address & 0xff;
  return {
    address: targetName(shelf, slot),
    shelf,
    slot,
    interface: name,
    mac: formatMacAddress(found.mac),
    sizeBytes: identity === undefined ? null : identity.sizeSectors * SECTOR_SIZE,
    sectorsPerFrame: found.config.sectorCount,
    bufferCount: found.config.bufferCount,
    roundTripMs: Number(found.roundTripMs.toFixed(3)),
    model: identity?.model ?? null,
    serial: identity?.serial ?? null,
    configString: Buffer.from(found.config.configString).toString(),
  };
}

function formatRows(rows: readonly Row[]): string {
  return formatTable([
    [
      ...['TARGET', 'INTERFACE', 'SIZE', 'MAC', 'SECTORS', 'BUFFERS', 'ROUND TRIP'],
      ...['MODEL', 'SERIAL', 'CONFIG STRING'],
    ],
    ...rows.map((row) => [
      row.address,
      row.interface,
      row.sizeBytes === null ? 'unknown' : formatRoundSize(row.sizeBytes),
      row.mac,
      `${row.sectorsPerFrame}`,
      `${row.bufferCount}`,
      `${row.roundTripMs.toFixed(2)} ms`,
      row.model ?? 'unknown',
      row.serial ?? 'unknown',
      quote(row.configString),
    ]),
  ]);
}

/** Quotes what a target says, so that it cannot control the terminal. */
function quote(text: string): string {
  return JSON.stringify(text).replace(
    /\p{C}/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}

/**
 * Warns about addresses that answer from several MACs. Ports of one server are paths to one disk;
 * of two servers, an initiator makes one disk that is striped over both.
 */
function warnings(rows: readonly Row[]): string[] {
  const addresses = new Set(rows.map((row) => row.address));
  return [...addresses].flatMap((address) => {
    const answers = rows.filter((row) => row.address === address);
    const macs = new Set(answers.map((row) => row.mac));
    if (macs.size < 2) return [];
    const disks = new Set(answers.map((row) => `${row.serial} ${row.sizeBytes}`));
    const places = answers.map((row) => `${row.mac} on ${row.interface}`).join(', ');
    return disks.size > 1
      ? [
          `WARNING: different disks answer as ${address}: ${places}`,
          '    Initiators stripe over all of them and DESTROY DATA. Give each its own shelf and slot.',
        ]
      : [
          `WARNING: several MACs answer as ${address}: ${places}`,
          '    Initiators use all of them. Unless they are ports of one server, this DESTROYS DATA.',
        ];
  });
}
