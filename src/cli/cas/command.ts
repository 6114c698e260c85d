/** The `cas` commands. Each action loads what it needs: the native addon may be missing. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseSize } from '../../config/size.ts';
import { ExitCode } from '../exit-code.ts';
import { parseName } from './name.ts';

const AFTER_HELP = `
When a server has the store open, these commands ask it, and else open the store themselves; fsck
needs it for itself, as import and export do. Run them as the user that the server runs as, so that
it can write what they make. LBAs and sectors are of 512 bytes, as initiators count them.

Examples:
  aoe-server cas list /srv/aoe/blobs
  aoe-server cas snapshot /srv/aoe/blobs e1.0 monday
  aoe-server cas clone /srv/aoe/blobs monday e1.1      a new disk for shelf 1, slot 1
  aoe-server cas diff /srv/aoe/blobs monday e1.0       what has changed since
  aoe-server cas rollback /srv/aoe/blobs e1.0 monday   back to it
  aoe-server cas du /srv/aoe/blobs                     what deleting each would free
  aoe-server cas delete /srv/aoe/blobs monday
  aoe-server cas collect /srv/aoe/blobs                give back what that leaves unused
  aoe-server cas scrub /srv/aoe/blobs --rate 100MiB
  aoe-server cas fsck /srv/aoe/blobs`;

const AFTER_DU = `
LOGICAL counts the blocks that are not zero, REFERENCED what they take compressed, without regard
to what they share. EXCLUSIVE is what nothing else needs: what deleting this one would free.`;

const TRANSFER = 'tuesday --from monday | ssh backup aoe-server cas receive /srv/aoe/blobs tuesday';

const AFTER_HAVE = `
For two stores with much the same data but no snapshot in common: one has a copy of the other's disk,
or the snapshots that both had were deleted. The list has the hashes, 32 bytes each, of all blocks and
tree nodes that volumes and snapshots hold; without a store it is empty. If it is out of date, or of
another store, receive names what is missing, and makes nothing.

To a backup on another machine:
  ssh backup aoe-server cas have /srv/aoe/blobs |
    aoe-server cas send /srv/aoe/blobs tuesday --have - |
    ssh backup aoe-server cas receive /srv/aoe/blobs tuesday`;

const AFTER_SEND = `
A block that occurs several times is sent once. --from takes less room and time than --have, where
there is a common snapshot; both may be given. A running server sends 64 MiB a second at most, and
goes on with a snapshot that is deleted meanwhile.`;

const AFTER_RECEIVE = `
The snapshot appears when all of it has arrived and its root hash is the one that was sent. A stream
that was made with --from needs a snapshot with the same content here, under whatever name. Makes a new
store when there is none.

It waits for the end of its input, as nothing may follow a stream: through nc the sender has to
tell it (nc -N, or nc -q 0).

A receive that was killed leaves NAME.receiving, a volume, which the next one of that name replaces.`;

const AFTER_JOB = `
In a running server this goes on beside its clients, at 64 MiB a second if nothing else is said, and
one at a time. SIGINT cancels it, and so does aoe-server cas cancel.`;

const AFTER_SCRUB = `
Of a store in S3 or Azure, what is not on the local disk is fetched and verified. With --remote every
blob is, which costs whatever the service charges for reading that much. A blob that is damaged or gone
is stored anew, under another name, if the local disk has all that it should hold. If not, the lost
sectors are listed: write them anew, or delete what has them; then a collection removes the blob.`;

const AFTER_CANCEL = `
aoe-server status lists the jobs of a server's stores with their numbers. What a collection has
emptied by then is given back.`;

const AFTER_FSCK = `
Reads superblock, catalog, segments, log and trees with code of its own, trusts none of them, and
computes every hash anew. Changes nothing. Works on a store that a server cannot open.
Of a store in S3 or Azure, what is not on the local disk is only counted. With --remote the journal and
every part that counts are fetched and verified, too, and blobs that are missing or damaged are named.
That costs whatever the service charges for reading that much. Nothing is changed there, and nobody's
claim is touched.

A crash may leave a torn record at the end of the log, or copies of the superblock of two generations.
Both are noted, and are no inconsistencies. A torn copy of the superblock counts as one, though it
affects nothing. The next start puts all this right.

Exit codes:
  ${ExitCode.ok}  consistent
  ${ExitCode.failure}  could not be examined: it is in use, or cannot be read
  ${ExitCode.inconsistent}  not consistent, but every block of volumes and snapshots is there
  ${ExitCode.lost}  blocks of volumes or snapshots are lost, or perhaps what was written last`;

export function addCasCommand(program: Command): void {
  const cas = program
    .command('cas')
    .description('look after a content-addressed store')
    .addHelpText('after', AFTER_HELP);
  addViews(cas);
  addChanges(cas);
  addTransfers(cas);
  addCare(cas);
}

function addViews(cas: Command): void {
  storeCommand(cas, 'list', 'list volumes and snapshots')
    .option('--json', 'print a JSON object')
    .action(async (path, options) => (await import('./list.ts')).listRoots(path, options));
  storeCommand(cas, 'stats', 'show what is stored and what it takes')
    .option('--json', 'print a JSON object, with every segment')
    .action(async (path, options) => (await import('./stats.ts')).showStats(path, options));
  storeCommand(cas, 'du', 'show what each volume and snapshot takes')
    .option('--json', 'print a JSON array')
    .addHelpText('after', AFTER_DU)
    .action(async (path, options) => (await import('./du.ts')).showUsage(path, options));
  storeCommand(cas, 'diff', 'list the extents whose content differs', 'monday e1.0')
    .argument('<root1>', 'volume, snapshot, or root hash')
    .argument('<root2>', 'volume, snapshot, or root hash')
    .option('--json', 'print a JSON array')
    .action(async (path, before, after, options) =>
      (await import('./diff.ts')).listDifferences(path, before, after, options),
    );
}

function addChanges(cas: Command): void {
  storeCommand(cas, 'snapshot', 'keep the present state of a volume under a name', 'e1.0 monday')
    .argument('<volume>', 'its name; e1.0 for shelf 1, slot 0')
    .argument('<name>', 'name of the new snapshot', parseName)
    .action(async (path, volume, name) =>
      (await import('./change.ts')).takeSnapshot(path, volume, name),
    );
  storeCommand(cas, 'clone', 'make a new volume with the content of a snapshot', 'monday e1.1')
    .argument('<snapshot>', 'snapshot, volume, or root hash')
    .argument('<volume>', 'name of the new volume, such as e1.1 for shelf 1, slot 1', parseName)
    .action(async (path, snapshot, volume) =>
      (await import('./change.ts')).cloneSnapshot(path, snapshot, volume),
    );
  storeCommand(
    cas,
    'rollback',
    'give a volume the content of a snapshot; its own is lost',
    'e1.0 monday',
  )
    .argument('<volume>', 'its name; e1.0 for shelf 1, slot 0')
    .argument('<snapshot>', 'snapshot, volume, or root hash')
    .option('--force', 'also when initiators use the volume; damages what they have mounted')
    .action(async (path, volume, snapshot, options) =>
      (await import('./change.ts')).rollBack(path, volume, snapshot, options),
    );
  storeCommand(cas, 'delete', 'delete a volume or a snapshot', 'monday')
    .argument('<name>', 'of the volume or snapshot')
    .action(async (path, name) => (await import('./change.ts')).deleteRoot(path, name));
}

function addTransfers(cas: Command): void {
  storeCommand(cas, 'send', 'write a snapshot to standard output', TRANSFER)
    .argument('<snapshot>', 'snapshot, volume, or root hash')
    .option('--from <snapshot>', 'write only what has changed since this one')
    .option('--have <list>', 'refer to what is in this list of aoe-server cas have; - for stdin')
    .addHelpText('after', AFTER_SEND)
    .action(async (path, snapshot, options) =>
      (await import('./transfer.ts')).sendToOutput(path, snapshot, options),
    );
  storeCommand(cas, 'have', 'list what a store has, for send --have', '>blobs.have')
    .addHelpText('after', AFTER_HAVE)
    .action(async (path) => (await import('./transfer.ts')).listHashes(path));
  storeCommand(cas, 'receive', 'make a snapshot of what send wrote', 'monday <monday.stream')
    .argument('<name>', 'name of the new snapshot', parseName)
    .addHelpText('after', AFTER_RECEIVE)
    .action(async (path, name) => (await import('./transfer.ts')).receiveFromInput(path, name));
}

function addCare(cas: Command): void {
  storeCommand(
    cas,
    'scrub',
    'verify everything that is stored; exits with 1 when it finds damage',
    '--rate 100MiB',
  )
    .addOption(rateOption())
    .option('--remote', 'also fetch and verify everything that is in the blob store')
    .addHelpText('after', AFTER_SCRUB)
    .addHelpText('after', AFTER_JOB)
    .option('--json', 'print a JSON object')
    .action(async (path, options) => (await import('./scrub.ts')).scrubStore(path, options));
  storeCommand(cas, 'collect', 'give back the room of what no volume and no snapshot needs')
    .addOption(rateOption())
    .addHelpText('after', AFTER_JOB)
    .option('--json', 'print a JSON object')
    .action(async (path, options) => (await import('./collect.ts')).collectGarbage(path, options));
  storeCommand(cas, 'cancel', 'cancel a job that a running server does on the store', '7')
    .argument('<job>', 'its number', parseJob)
    .addHelpText('after', AFTER_CANCEL)
    .action(async (path, job) => (await import('./cancel.ts')).cancelStoreJob(path, job));
  storeCommand(
    cas,
    'fsck',
    'examine a store independently of the server and change nothing',
    '--json | jq .lost',
  )
    .option('--remote', 'also fetch and verify everything that is in the blob store')
    .option('--json', 'print a JSON object')
    .addHelpText('after', AFTER_FSCK)
    .action(async (path, options) => (await import('./fsck.ts')).examineStore(path, options));
}

/** @param example what follows the store in an example */
function storeCommand(cas: Command, name: string, description: string, example = ''): Command {
  const line = `aoe-server cas ${name} /srv/aoe/blobs ${example}`.trimEnd();
  return cas
    .command(name)
    .description(description)
    .argument('<store>', 'directory of the store')
    .addHelpText('after', `\nExample:\n  ${line}`);
}

function rateOption(): Option {
  const description = 'read and write so much a second at most, for example 100MiB';
  return new Option('--rate <size>', description).argParser(parseRate);
}

function parseJob(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Write the number of a job, for example 7.');
}

function parseRate(text: string): number {
  const bytesPerSecond = parseSize(text);
  if (bytesPerSecond !== undefined && bytesPerSecond > 0) return bytesPerSecond;
  throw new InvalidArgumentError('Write a size above 0, for example 100MiB.');
}
