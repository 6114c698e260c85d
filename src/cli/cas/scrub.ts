import { type CasStore, type ScrubReport, scrub } from '../../backends/cas/index.ts';
import { Progress } from '../progress.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { formatLost } from './lost.ts';
import { SECTORS_PER_BLOCK, withStore } from './with-store.ts';

interface ScrubCommandOptions {
  readonly rate?: number;
  readonly json?: true;
}

/** @throws when there is damage; what it affects has been printed then */
export async function scrubStore(path: string, options: ScrubCommandOptions): Promise<void> {
  await withStore(path, async (store) => {
    const { damage, affected, doneBytes } = await verify(store, options.rate);
    const lost = affected.map(({ name, lba, count }) => ({
      kind: store.findVolume(name) === undefined ? 'snapshot' : 'volume',
      name,
      lba: lba * SECTORS_PER_BLOCK,
      sectors: count * SECTORS_PER_BLOCK,
    }));
    const { problems } = store;
    const count = damage.length + problems.length;
    if (options.json) {
      console.log(JSON.stringify({ verifiedBytes: doneBytes, problems, damage, lost }, null, 2));
    } else if (count === 0) {
      console.log(`${formatRoundSize(doneBytes)} verified, no damage`);
    } else {
      if (damage.length > 0) console.log(formatDamage(damage));
      if (lost.length > 0) console.log(`\n${formatLost(lost)}`);
    }
    if (count === 0) return;
    const effect = lost.length > 0 ? 'see above' : 'no block of a volume or snapshot is lost';
    throw new Error(`the store ${path} is damaged in ${count} places: ${effect}`);
  });
}

async function verify(store: CasStore, rate = Number.MAX_SAFE_INTEGER): Promise<ScrubReport> {
  let progress: Progress | undefined;
  try {
    return await scrub(store, {
      bytesPerSecondMax: rate,
      onProgress(doneBytes, totalBytes) {
        progress ??= new Progress('scrubbing', totalBytes);
        progress.update(doneBytes);
      },
    });
  } finally {
    progress?.end();
  }
}

function formatDamage(damage: ScrubReport['damage']): string {
  const rows = damage.map(({ segment, offset, hash }) => {
    return [`${segment}`, `${offset}`, hash ?? 'the record itself'];
  });
  return formatTable([['SEGMENT', 'RECORD AT', 'DAMAGED'], ...rows]);
}
