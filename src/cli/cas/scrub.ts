import { type CasStore, type ScrubReport, scrub } from '../../backends/cas/index.ts';
import { Progress } from '../progress.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { SECTORS_PER_BLOCK, withStore } from './with-store.ts';

/** @throws when there is damage; what it affects has been printed then */
export async function scrubStore(path: string, options: { readonly rate?: number }): Promise<void> {
  await withStore(path, async (store) => {
    const { damage, affected, doneBytes } = await verify(store, options.rate);
    if (damage.length > 0) console.log(formatDamage(damage));
    if (affected.length > 0) console.log(`\n${formatAffected(store, affected)}`);
    const count = damage.length + store.problems.length;
    if (count === 0) {
      console.log(`${formatRoundSize(doneBytes)} verified, no damage`);
      return;
    }
    const effect = affected.length > 0 ? 'see above' : 'no block of a volume or snapshot is lost';
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

function formatAffected(store: CasStore, affected: ScrubReport['affected']): string {
  const rows = affected.map(({ name, lba, count }) => [
    store.findVolume(name) === undefined ? 'snapshot' : 'volume',
    name,
    `${lba * SECTORS_PER_BLOCK}`,
    `${count * SECTORS_PER_BLOCK}`,
  ]);
  return formatTable([['LOST IN', 'NAME', 'LBA', 'SECTORS'], ...rows]);
}
