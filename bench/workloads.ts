/** What is measured: a table of groups, each a list of products of axes. */

export interface Workload {
  group: string;
  mode: 'read' | 'write' | 'mixed' | 'verify';
  access: 'rand' | 'seq';
  /** Of what is written; all but duplicates have not been written before. */
  content: 'unique' | 'duplicate' | 'compressible';
  /** Sectors of 512 bytes in a request. */
  sectors: number;
  /** Requests in flight from each initiator to each target. */
  depth: number;
  /** Bytes. */
  mtu: number;
  targets: number;
  initiators: number;
  storage: 'tmpfs' | 'disk';
  /** Durable: a write is acknowledged when it is on stable storage. */
  writes: 'cached' | 'durable';
  /** Around the page cache. */
  direct: boolean;
  /** With an empty page cache. */
  cold: boolean;
}

type Axes = { readonly [K in Exclude<keyof Workload, 'group'>]?: readonly Workload[K][] };

const DEFAULTS: Omit<Workload, 'group'> = {
  mode: 'read',
  access: 'rand',
  content: 'unique',
  sectors: 8,
  depth: 64,
  mtu: 9000,
  targets: 1,
  initiators: 1,
  storage: 'tmpfs',
  writes: 'cached',
  direct: false,
  cold: false,
};

const CONTENTS = ['unique', 'duplicate', 'compressible'] as const;
const DEPTHS = [1, 16, 64] as const;

const ON_DISK = { storage: ['disk'] } as const;
const DURABLE = { ...ON_DISK, mode: ['write'], writes: ['durable'] } as const;

const GROUPS: Readonly<Record<string, readonly Axes[]>> = {
  summary: [
    { mode: ['read'], sectors: [1, 8, 16] },
    { mode: ['read'], depth: [16, 1] },
    { mode: ['write'], sectors: [8, 16] },
    { ...DURABLE, depth: [64, 16, 1] },
    { ...ON_DISK, direct: [true], mode: ['read', 'write'] },
    { ...ON_DISK, cold: [true] },
    { targets: [64], depth: [16] },
  ],
  cached: [
    { mode: ['read'], sectors: [1, 2], mtu: [1500, 9000], depth: DEPTHS },
    { mode: ['read'], sectors: [8, 16], depth: DEPTHS },
    { mode: ['write'], sectors: [2], mtu: [1500, 9000], depth: DEPTHS },
    { mode: ['write'], sectors: [8, 16], depth: DEPTHS },
  ],
  sequential: [
    { mode: ['read'], access: ['seq'], sectors: [1], depth: DEPTHS },
    { mode: ['read', 'write'], access: ['seq'], sectors: [2], mtu: [1500, 9000], depth: DEPTHS },
    { mode: ['read', 'write'], access: ['seq'], sectors: [8, 16], depth: DEPTHS },
  ],
  mixed: [
    { mode: ['mixed'], sectors: [2], mtu: [1500, 9000], depth: DEPTHS },
    { mode: ['mixed'], sectors: [8, 16], depth: DEPTHS },
    { mode: ['mixed'], access: ['seq'], depth: DEPTHS },
  ],
  targets: [{ mode: ['read', 'write'], targets: [1, 8, 64], depth: [16] }],
  initiators: [
    { mode: ['read', 'write'], initiators: [1, 4, 16], depth: [16] },
    // Together as many requests as a target takes: none may be dropped.
    { mode: ['read', 'write'], initiators: [4] },
    { ...DURABLE, initiators: [4] },
  ],
  disk: [
    { ...ON_DISK, mode: ['read'], sectors: [1, 2, 8, 16], depth: DEPTHS },
    { ...ON_DISK, mode: ['write'], sectors: [2, 8, 16], depth: DEPTHS },
    { ...ON_DISK, mode: ['mixed'], depth: DEPTHS },
  ],
  durable: [
    { ...DURABLE, sectors: [2], mtu: [1500], depth: DEPTHS },
    { ...DURABLE, sectors: [8, 16], depth: DEPTHS },
    { ...DURABLE, access: ['seq'] },
    { ...DURABLE, mode: ['mixed'] },
    { ...DURABLE, targets: [8, 64], depth: [16] },
  ],
  // What decides for a content-addressed store: `--servers aoe-server,vblade,cas`.
  content: [
    { ...DURABLE, content: CONTENTS, depth: DEPTHS },
    { ...DURABLE, content: CONTENTS, access: ['seq'], sectors: [16] },
    { ...ON_DISK, mode: ['write'], content: CONTENTS, access: ['seq'], sectors: [16] },
    { ...ON_DISK, mode: ['read'], depth: DEPTHS },
  ],
  direct: [{ ...ON_DISK, direct: [true], mode: ['read', 'write'], depth: DEPTHS }],
  cold: [
    { ...ON_DISK, cold: [true], sectors: [2], mtu: [1500], depth: [64] },
    { ...ON_DISK, cold: [true], sectors: [8], depth: DEPTHS },
    { ...ON_DISK, cold: [true], access: ['seq'], sectors: [16], depth: [1, 64] },
  ],
  verify: [
    { mode: ['verify'], sectors: [2], mtu: [1500] },
    { mode: ['verify'], initiators: [1, 4], depth: [16] },
    { mode: ['verify'], targets: [8], depth: [16] },
    { mode: ['verify'], writes: ['durable'], storage: ['disk'] },
  ],
};

/** A minute's worth, for development. */
const QUICK: readonly Axes[] = [
  { mode: ['read'], sectors: [1], mtu: [1500] },
  { mode: ['read'], depth: [1, 64] },
  { mode: ['write'] },
  { mode: ['mixed'], depth: [16] },
  { mode: ['write'], writes: ['durable'], storage: ['disk'] },
];

/** Targets that nobody asks anything: what they take is measured, not what they do. */
const IDLE: Axes = { ...DURABLE, targets: [1, 10, 100, 1000] };

export const GROUP_NAMES = Object.keys(GROUPS);

/** @throws {Error} for a name that is no group */
export function workloadsOf(groupNames: readonly string[]): Workload[] {
  return groupNames.flatMap((group) => {
    const axes = GROUPS[group];
    if (axes === undefined)
      throw new Error(`no group "${group}"; known: ${GROUP_NAMES.join(', ')}`);
    return axes.flatMap((product) => expand(group, product));
  });
}

export function quickWorkloads(): Workload[] {
  return QUICK.flatMap((product) => expand('quick', product));
}

export function idleWorkloads(): Workload[] {
  return expand('scale', IDLE);
}

/** Such as "read 8 rand, depth 64, MTU 9000, 4 initiators". */
export function describeWorkload(workload: Workload): string {
  const { mode, sectors, access, depth, mtu, targets, initiators } = workload;
  const extras = [
    targets > 1 && `${targets} targets`,
    initiators > 1 && `${initiators} initiators`,
    workload.content !== 'unique' && workload.content,
    workload.storage === 'disk' && 'disk',
    workload.writes === 'durable' && 'durable',
    workload.direct && 'direct',
    workload.cold && 'cold',
  ].filter((extra) => extra !== false);
  return [`${mode} ${sectors} ${access}`, `depth ${depth}`, `MTU ${mtu}`, ...extras].join(', ');
}

/** One workload for each combination; the last axis turns fastest. */
function expand(group: string, axes: Axes): Workload[] {
  let workloads: Workload[] = [{ group, ...DEFAULTS }];
  for (const [axis, values] of Object.entries(axes)) {
    workloads = workloads.flatMap((base) => values.map((value) => ({ ...base, [axis]: value })));
  }
  return workloads;
}
