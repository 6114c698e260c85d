import { SECTOR_SIZE } from '../../core/block-device.ts';
import type { JobResults } from '../../stores/contract.ts';
import { type PrintOptions, print } from '../print.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { runJob } from './operate.ts';

/** @throws when the store is damaged, or one of the two does not exist */
export async function listDifferences(
  path: string,
  before: string,
  after: string,
  options: PrintOptions,
): Promise<void> {
  print(await runJob(path, { kind: 'diff', before, after }), options, describeExtents);
}

function describeExtents(extents: JobResults['diff']): string {
  if (extents.length === 0) return 'no difference';
  const rows = extents.map(({ lba, sectors }) => {
    return [`${lba}`, `${sectors}`, formatRoundSize(sectors * SECTOR_SIZE)];
  });
  return formatTable([['LBA', 'SECTORS', 'SIZE'], ...rows]);
}
