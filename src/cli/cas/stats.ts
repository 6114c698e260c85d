import type { StoreReport } from '../../stores/contract.ts';
import { type PrintOptions, print } from '../print.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { runJob } from './operate.ts';

/** @throws when the store cannot be opened, or is damaged */
export async function showStats(path: string, options: PrintOptions): Promise<void> {
  print(await runJob(path, { kind: 'stats' }), options, formatReport);
}

function formatReport(report: StoreReport): string {
  const { segmentUtilisation: utilisation } = report;
  const factor = (value: number | null) => (value === null ? '-' : `${value.toFixed(2)}x`);
  return formatTable([
    ['volumes', `${report.volumes}`],
    ['snapshots', `${report.snapshots}`],
    ['logical', formatRoundSize(report.logicalBytes)],
    ['unique', formatRoundSize(report.uniqueBytes)],
    ['compressed', formatRoundSize(report.compressedBytes)],
    ['physical', formatRoundSize(report.physicalBytes)],
    ['deduplication', factor(report.dedupRatio)],
    ['compression', factor(report.compressionRatio)],
    ['garbage', formatRoundSize(report.garbageBytes)],
    ['segments', `${report.segments.length}, and ${report.spares} spare`],
    ['utilisation', utilisation === null ? '-' : `${Math.round(utilisation * 100)}%`],
    ['index', `${formatRoundSize(report.indexBytes)} for ${report.indexEntries} blocks and nodes`],
  ]);
}
