import { SECTOR_SIZE } from '../../core/block-device.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { runJob } from './operate.ts';

/** @throws when the store is damaged, or one of the two does not exist */
export async function listDifferences(
  path: string,
  before: string,
  after: string,
  { json }: { readonly json?: true },
): Promise<void> {
  const extents = await runJob(path, { kind: 'diff', before, after });
  if (json) {
    console.log(JSON.stringify(extents, null, 2));
    return;
  }
  const rows = extents.map(({ lba, sectors }) => {
    return [`${lba}`, `${sectors}`, formatRoundSize(sectors * SECTOR_SIZE)];
  });
  if (rows.length > 0) console.log(formatTable([['LBA', 'SECTORS', 'SIZE'], ...rows]));
  else console.log('no difference');
}
