import { noBlobStore } from '../../backends/cas/blob-store.ts';
import { type Examination, examine } from '../../backends/cas/fsck/index.ts';
import { openOwnBlobs } from '../../backends/cas/remote/owner-file.ts';
import { PersistentBlobs } from '../../backends/cas/remote/persistent-blobs.ts';
import { SECTORS_PER_BLOCK } from '../../stores/sectors.ts';
import { ExitCode } from '../exit-code.ts';
import type { PrintOptions } from '../print.ts';
import { Progress } from '../progress.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatLost, type LostSectors } from './lost.ts';

interface FsckCommandOptions extends PrintOptions {
  readonly remote?: true;
}

/** A store is not as it should be; what is wrong has been printed. */
class InconsistencyError extends Error {
  readonly exitCode: ExitCode;

  constructor(message: string, exitCode: ExitCode) {
    super(message);
    this.name = 'InconsistencyError';
    this.exitCode = exitCode;
  }
}

/** @throws when the store is not consistent, or cannot be examined */
export async function examineStore(
  path: string,
  { remote, json }: FsckCommandOptions,
): Promise<void> {
  const examination = await examineWithProgress(path, remote ?? false);
  const { findings, notes, unreadable, outdated, ...counts } = examination;
  const found = findings.map(({ place, message, hash, lost }) => {
    return { place, message, hash, lost: lost.map(toSectors) };
  });
  const lost = found.flatMap((finding) => finding.lost);
  if (json) {
    const damage = { unreadable, outdated, notes, findings: found, lost };
    console.log(JSON.stringify({ ...counts, ...damage }, null, 2));
  } else {
    for (const finding of found) {
      console.log(`${finding.place}: ${finding.message}`);
      if (finding.lost.length > 0) console.log(indent(formatLost(finding.lost)));
    }
    for (const note of notes) console.log(`note: ${note}`);
    const { generation, segments, logRecords, blocks, nodes, absent, blobStore } = counts;
    console.log(
      `generation ${generation}: ${segments} segments, ${logRecords} records of log, ` +
        `${blocks} blocks and ${nodes} nodes are intact`,
    );
    if (blobStore !== null) {
      const { journalEntries, parts, verifiedBytes } = blobStore;
      console.log(
        `blob store: ${journalEntries} entries of the journal and ${parts} parts ` +
          `(${formatRoundSize(verifiedBytes)}) were fetched`,
      );
    }
    if (absent > 0) {
      console.log(
        `${absent} blocks and nodes are in the blob store only: --remote examines them, too`,
      );
    }
  }
  if (findings.length > 0) throw judge(path, examination);
}

/** @throws {StartupError} there is no blob store, or no way to it */
async function openBlobsOf(path: string): Promise<PersistentBlobs> {
  const own = await openOwnBlobs(path);
  if (own !== undefined) return new PersistentBlobs(own.blobs);
  throw noBlobStore(path);
}

async function examineWithProgress(path: string, remote: boolean): Promise<Examination> {
  let progress: Progress | undefined;
  try {
    return await examine(path, {
      openBlobs: remote ? () => openBlobsOf(path) : undefined,
      onProgress: (doneBytes, totalBytes) => {
        progress ??= new Progress('examining', totalBytes);
        progress.update(doneBytes);
      },
    });
  } finally {
    progress?.end();
  }
}

type LostBlocks = Examination['findings'][number]['lost'][number];

function toSectors({ kind, name, firstLba, count }: LostBlocks): LostSectors {
  const [lba, sectors] = [firstLba * SECTORS_PER_BLOCK, count * SECTORS_PER_BLOCK];
  return { kind, name, lba, sectors };
}

function judge(path: string, { findings, unreadable, outdated, generation }: Examination) {
  const refuse = (effect: string, exitCode: ExitCode = ExitCode.lost) =>
    new InconsistencyError(
      `the store ${path} is inconsistent in ${findings.length} places: ${effect}`,
      exitCode,
    );
  if (unreadable) return refuse('nothing can be read');
  if (outdated) {
    return refuse(`what was written or changed after generation ${generation} may be lost`);
  }
  if (findings.some(({ lost }) => lost.length > 0)) return refuse('blocks are lost, see above');
  return refuse('no block is lost', ExitCode.inconsistent);
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, '    ');
}
