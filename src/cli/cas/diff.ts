import { type BlockExtent, diffRoots, findRoot } from '../../backends/cas/index.ts';
import { SECTOR_SIZE } from '../../core/block-device.ts';
import { StartupError } from '../../core/startup-error.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { SECTORS_PER_BLOCK, withStore } from './with-store.ts';

/** @throws when the store is damaged, or one of the two does not exist */
export async function listDifferences(
  path: string,
  before: string,
  after: string,
  { json }: { readonly json?: true },
): Promise<void> {
  const extents = await withStore(path, async (store) => {
    if (store.readOnly) {
      throw new StartupError(
        `the store ${path} is damaged, so what it has of its volumes may be out of date`,
        'see what is damaged: aoe-server cas scrub',
      );
    }
    const found: BlockExtent[] = [];
    const roots = [findRoot(store, before), findRoot(store, after)] as const;
    for await (const extent of diffRoots(store.reader, ...roots)) found.push(extent);
    return found.map(({ firstLba, count }) => {
      return { lba: firstLba * SECTORS_PER_BLOCK, sectors: count * SECTORS_PER_BLOCK };
    });
  });
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
