import { formatSize } from '../../config/size.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { runJob } from './operate.ts';

/** @throws when the store cannot be opened, or is damaged */
export async function showUsage(path: string, { json }: { readonly json?: true }): Promise<void> {
  const usages = await runJob(path, { kind: 'usage' });
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
