import type { Scrubbed } from '../../stores/contract.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { formatLost } from './lost.ts';
import { runJob } from './operate.ts';

interface ScrubCommandOptions {
  readonly rate?: number;
  readonly json?: true;
}

/** @throws when there is damage; what it affects has been printed then */
export async function scrubStore(path: string, { rate, json }: ScrubCommandOptions): Promise<void> {
  const scrubbed = await runJob(path, { kind: 'scrub', bytesPerSecondMax: rate });
  const { verifiedBytes, problems, damage, lost } = scrubbed;
  const count = damage.length + problems.length;
  if (json) {
    console.log(JSON.stringify(scrubbed, null, 2));
  } else if (count === 0) {
    console.log(`${formatRoundSize(verifiedBytes)} verified, no damage`);
  } else {
    if (damage.length > 0) console.log(formatDamage(damage));
    if (lost.length > 0) console.log(`\n${formatLost(lost)}`);
  }
  if (count === 0) return;
  const effect = lost.length > 0 ? 'see above' : 'no block of a volume or snapshot is lost';
  throw new Error(`the store ${path} is damaged in ${count} places: ${effect}`);
}

function formatDamage(damage: Scrubbed['damage']): string {
  const rows = damage.map(({ segment, offset, hash }) => {
    return [`${segment}`, `${offset}`, hash ?? 'the record itself'];
  });
  return formatTable([['SEGMENT', 'RECORD AT', 'DAMAGED'], ...rows]);
}
