import { measureUsage } from '../../backends/cas/index.ts';
import { formatSize } from '../../config/size.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { withStore } from './with-store.ts';

/** @throws when the store cannot be opened, or is damaged */
export async function showUsage(path: string, { json }: { readonly json?: true }): Promise<void> {
  const usages = await withStore(path, measureUsage);
  if (json) {
    console.log(JSON.stringify(usages, null, 2));
    return;
  }
  const rows = usages.map((usage) => [
    usage.kind,
    usage.name,
    formatSize(usage.sizeBytes),
    formatRoundSize(usage.logicalBytes),
    formatRoundSize(usage.referencedBytes),
    formatRoundSize(usage.exclusiveBytes),
  ]);
  const head = ['KIND', 'NAME', 'SIZE', 'LOGICAL', 'REFERENCED', 'EXCLUSIVE'];
  console.log(formatTable([head, ...rows]));
}
