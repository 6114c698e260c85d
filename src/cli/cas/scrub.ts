import type { Scrubbed } from '../../stores/contract.ts';
import type { PrintOptions } from '../print.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { formatLost } from './lost.ts';
import { runJob } from './operate.ts';

interface ScrubCommandOptions extends PrintOptions {
  readonly rate?: number;
  readonly remote?: true;
}

/** @throws when there is damage; what it affects has been printed then */
export async function scrubStore(
  path: string,
  { rate, remote, json }: ScrubCommandOptions,
): Promise<void> {
  const scrubbed = await runJob(path, { kind: 'scrub', bytesPerSecondMax: rate, remote });
  const { verifiedBytes, problems, superblockCopies, damage, blobStore, lost } = scrubbed;
  const blobs = blobStore?.damage ?? [];
  const count = problems.length + superblockCopies.length + damage.length + blobs.length;
  if (json) {
    console.log(JSON.stringify(scrubbed, null, 2));
  } else if (count === 0) {
    const there = blobStore && ` and ${formatRoundSize(blobStore.verifiedBytes)} of the blob store`;
    console.log(`${formatRoundSize(verifiedBytes)}${there ?? ''} verified, no damage`);
  } else {
    for (const problem of problems) console.log(problem);
    for (const copy of superblockCopies) console.log(`copy ${copy} of the superblock is damaged`);
    if (damage.length > 0) console.log(formatDamage(damage));
    if (blobs.length > 0) console.log(formatBlobs(blobs));
    if (lost.length > 0) console.log(`\n${formatLost(lost)}`);
  }
  if (count === 0) return;
  const isHarmless = problems.length + lost.length === 0;
  const effect = isHarmless ? 'no block of a volume or snapshot is lost' : 'see above';
  throw new Error(`the store ${path} is damaged in ${count} places: ${effect}`);
}

function formatBlobs(blobs: NonNullable<Scrubbed['blobStore']>['damage']): string {
  const rows = blobs.map(({ blob, missing, replaced }) => {
    return [blob, missing ? 'missing' : 'damaged', replaced ? 'yes' : 'no'];
  });
  return formatTable([['BLOB', 'STATE', 'STORED ANEW'], ...rows]);
}

function formatDamage(damage: Scrubbed['damage']): string {
  const rows = damage.map(({ segment, offset, hash }) => {
    return [`${segment}`, `${offset}`, hash ?? 'the record itself'];
  });
  return formatTable([['SEGMENT', 'RECORD AT', 'DAMAGED'], ...rows]);
}
