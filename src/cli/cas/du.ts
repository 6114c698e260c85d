import { formatSize } from '../../config/size.ts';
import type { JobResults } from '../../stores/contract.ts';
import { type PrintOptions, print } from '../print.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { runJob } from './operate.ts';

/** @throws when the store cannot be opened, or is damaged */
export async function showUsage(path: string, options: PrintOptions): Promise<void> {
  print(await runJob(path, { kind: 'usage' }), options, describeUsages);
}

function describeUsages(usages: JobResults['usage']): string {
  const rows = usages.map((usage) => [
    usage.kind,
    usage.name,
    formatSize(usage.sizeBytes),
    formatRoundSize(usage.logicalBytes),
    formatRoundSize(usage.referencedBytes),
    formatRoundSize(usage.exclusiveBytes),
  ]);
  const head = ['KIND', 'NAME', 'SIZE', 'LOGICAL', 'REFERENCED', 'EXCLUSIVE'];
  return formatTable([head, ...rows]);
}
