/** Where our replies are not vblade's, and why. */
export interface Difference {
  /** A field of the reply, or `silence` where only one of us answers. */
  readonly field: string;
  /** Why ours is right. */
  readonly why: string;
  /** Names of frames in test/frames/differential, without their numbers. */
  readonly frames: readonly string[];
}

const list = (text: string): readonly string[] => text.trim().split(/\s+/);

const CONFIG_REPLIES = list(`
  config-read config-read-padded config-read-long config-read-length-only config-read-shelf
  config-read-slot error-flag tag-ones config-test-empty config-set config-set-again
  config-set-other config-set-empty config-test config-prefix config-prefix-empty config-force-set
  config-after-force config-command-5 config-clear config-reserved
`);
const IDENTIFY_REPLIES = list('identify identify-everywhere identify-trailing identify-reserved');
const WRITE_REPLIES = list('write write-28 write-0 write-long write-beyond write-async');
const READ_EXT_REPLIES = list(`
  read read-2 path-probe read-0 read-with-w read-beyond read-last-lba read-after-write-without-w
  read-after-no-write read-after-long-write read-after-write-beyond
`);
const LIST_REPLIES = list(`
  mask-read mask-add mask-read-2 mask-bad-directive mask-read-3 mask-count mask-command-2
  mask-remove reserve-read reserve-set reserve-hand-on reserve-refused reserve-command-3
  reserve-release reserve-cut
`);

const DISK_HAS_GEOMETRY = 'we describe the geometry of a fixed disk, vblade leaves it out';
const TRIM_IS_OFFERED = 'our disk can be trimmed, vblade has no TRIM';
const SMART_AND_POWER = 'our disk has SMART and power management, vblade has neither';
const REAL_FLUSH = 'our disk flushes, vblade only says that it can';
const ABORTED_NOT_IGNORED = 'registers that contradict each other are aborted, not passed over';
const VERSION_REFUSED = 'we refuse another version by error 5, vblade takes any for its own';
const REFUSED_CLEAN = 'an error reply is a header and zeroes, not the request over again';
const OTHER_ANSWER = 'follows from the refusal: no data are sent, and no error flag is set';
const WRITTEN_WITHOUT_W = 'vblade writes without the write flag; READ brings back what it wrote';
const LONG_FRAME_STRING = 'vblade took bytes beyond its frame for a config string and leaks them';

export const DIFFERENCES: readonly Difference[] = [
  {
    field: 'size',
    why: 'we pad to 60 bytes, as Ethernet demands and aoetools need; vblade leaves that to the card',
    frames: [
      ...CONFIG_REPLIES,
      ...LIST_REPLIES,
      ...list('version-0 version-2 read-beyond read-last-lba read-dma verify'),
    ],
  },
  {
    field: 'firmware version',
    why: 'it is each program’s own',
    frames: [...CONFIG_REPLIES, 'version-0', 'version-2'],
  },

  // The common header.
  { field: 'version and flags', why: VERSION_REFUSED, frames: list('version-0 version-2') },
  { field: 'error', why: VERSION_REFUSED, frames: list('version-0 version-2') },
  { field: 'buffer count', why: VERSION_REFUSED, frames: list('version-0 version-2') },
  { field: 'sectors per frame', why: VERSION_REFUSED, frames: list('version-0 version-2') },
  { field: 'ccmd', why: VERSION_REFUSED, frames: list('version-0 version-2') },
  {
    field: 'version and flags',
    why: 'vblade echoes the error flag of a request, and Linux drops such a reply',
    frames: ['error-flag'],
  },
  { field: 'error', why: 'vblade echoes the error of a request', frames: ['error-flag'] },
  {
    field: 'silence',
    why: 'a frame for another host, or from an address that no host has, is not for us to answer',
    frames: list('foreign-destination broadcast-source'),
  },

  // IDENTIFY.
  {
    field: 'LBA',
    why: 'we zero what a reply does not define, vblade echoes the request',
    frames: ['identify'],
  },
  ...['word 0', 'word 1', 'word 3', 'word 6'].map((field) => {
    return { field, why: DISK_HAS_GEOMETRY, frames: IDENTIFY_REPLIES };
  }),
  ...['serial number', 'firmware revision', 'model number'].map((field) => {
    return { field, why: 'it is each disk’s own', frames: IDENTIFY_REPLIES };
  }),
  ...['word 53', 'word 69', 'word 105', 'word 169'].map((field) => {
    return { field, why: TRIM_IS_OFFERED, frames: IDENTIFY_REPLIES };
  }),
  ...['word 82', 'word 85'].map((field) => {
    return { field, why: SMART_AND_POWER, frames: IDENTIFY_REPLIES };
  }),
  ...['word 83', 'word 86'].map((field) => {
    return { field, why: REAL_FLUSH, frames: IDENTIFY_REPLIES };
  }),
  { field: 'word 80', why: 'we say which ATA standards hold', frames: IDENTIFY_REPLIES },
  { field: 'word 255', why: 'our data carry a checksum', frames: IDENTIFY_REPLIES },
  ...['size', 'version and flags', 'error', 'status', 'rest'].map((field) => {
    const why = 'the sector count of IDENTIFY means nothing: we answer whatever it is';
    return { field, why, frames: list('identify-0 identify-2') };
  }),
  { field: 'sector count', why: OTHER_ANSWER, frames: ['identify-2'] },

  // READ and WRITE.
  {
    field: 'aflags',
    why: 'we zero what a reply does not define, vblade echoes the request',
    frames: [
      ...WRITE_REPLIES,
      ...READ_EXT_REPLIES,
      ...list('read-3 write-without-w flush-ext read-reserved'),
    ],
  },
  {
    field: 'LBA',
    why: 'we zero what a reply does not define, vblade echoes the request',
    frames: [
      ...WRITE_REPLIES,
      ...READ_EXT_REPLIES,
      ...list('read-28 read-3 write-without-w verify read-reserved'),
    ],
  },
  {
    field: 'sector count',
    why: 'we zero what a reply does not define, vblade echoes the request',
    frames: list('read-beyond read-last-lba write-beyond read-dma verify read-reserved read-3'),
  },
  {
    field: 'rest',
    why: 'vblade answers out of the buffer of the request: 24 bytes of its data come along',
    frames: WRITE_REPLIES,
  },
  ...['version and flags', 'error', 'ATA error', 'status'].map((field) => {
    const why = 'too many sectors is an ATA error: Linux ignores an AoE error and resends';
    return { field, why, frames: ['read-3'] };
  }),
  ...['ATA error', 'status'].map((field) => {
    const frames = list('read-0 read-with-w write-0 write-without-w');
    return { field, why: ABORTED_NOT_IGNORED, frames };
  }),
  { field: 'rest', why: 'vblade sends a part of an earlier frame', frames: ['read-with-w'] },
  { field: 'size', why: OTHER_ANSWER, frames: ['write-without-w'] },
  { field: 'rest', why: OTHER_ANSWER, frames: ['write-without-w'] },
  { field: 'rest', why: WRITTEN_WITHOUT_W, frames: ['read-after-write-without-w'] },
  {
    field: 'silence',
    why: 'data that were lost on the way may arrive when they are resent',
    frames: ['write-short'],
  },
  {
    field: 'silence',
    why: 'no command is executed on every disk there is; only questions are answered by all',
    frames: ['read-everywhere'],
  },

  // Other ATA commands.
  { field: 'status', why: 'vblade answers a flush that it did not do', frames: ['flush'] },
  ...['ATA error', 'status'].map((field) => {
    return { field, why: REAL_FLUSH, frames: ['flush-ext'] };
  }),
  ...['ATA error', 'status'].map((field) => {
    return { field, why: SMART_AND_POWER, frames: list('smart standby') };
  }),
  ...['size', 'rest'].map((field) => {
    return { field, why: 'aoeping insists on data after a SMART command', frames: ['smart'] };
  }),
  ...['ATA error', 'status'].map((field) => {
    return { field, why: 'our disk verifies sectors', frames: ['verify'] };
  }),

  // Config strings.
  {
    field: 'silence',
    why: 'a string must lie inside its frame; vblade takes what follows it in memory',
    frames: ['config-force-short'],
  },
  ...['string length', 'rest'].map((field) => {
    return { field, why: LONG_FRAME_STRING, frames: list('config-after-force config-command-5') };
  }),

  // MAC masks and reservations.
  {
    field: 'rest',
    why: 'vblade executed directives that were not in the frame, and lost an address by it',
    frames: ['mask-read-3'],
  },
  ...['version and flags', 'error', 'mask error'].map((field) => {
    return {
      field,
      why: 'directives must lie inside their frame; vblade takes what follows it in memory',
      frames: ['mask-count'],
    };
  }),
  { field: 'directive count', why: 'follows from the list it lost', frames: ['mask-remove'] },
  { field: 'status', why: REFUSED_CLEAN, frames: list('read-reserved flush-reserved') },
];

/** Fields that vblade fills from memory that it did not initialise. */
export const UNSTABLE: readonly Difference[] = [
  {
    field: 'ATA error',
    why: 'vblade leaves the error of FLUSH CACHE as it finds it',
    frames: ['flush', 'flush-reserved'],
  },
];
