import { type CasStore, type StoreSurvey, surveyStore } from '../../backends/cas/index.ts';
import { formatRoundSize } from '../round-size.ts';
import { formatTable } from '../table.ts';
import { withStore } from './with-store.ts';

/** What is told about a store; with `--json` as it stands here. */
interface Report extends StoreSurvey {
  readonly volumes: number;
  readonly snapshots: number;
  /** Bytes of segment files, spares included. */
  readonly physicalBytes: number;
  readonly spares: number;
  /** Null when nothing is stored. */
  readonly dedupRatio: number | null;
  readonly compressionRatio: number | null;
  /** Share of the records that is needed, 0 to 1. */
  readonly segmentUtilisation: number | null;
  readonly indexEntries: number;
  readonly indexBytes: number;
}

/** @throws when the store cannot be opened, or is damaged */
export async function showStats(path: string, { json }: { readonly json?: true }): Promise<void> {
  const report = await withStore(path, makeReport);
  console.log(json ? JSON.stringify(report, null, 2) : formatReport(report));
}

async function makeReport(store: CasStore): Promise<Report> {
  const survey = await surveyStore(store);
  const { physicalBytes, spareCount, indexCount, indexBytes } = store.stats();
  const { logicalBytes, uniqueBytes, compressedBytes, liveBytes, garbageBytes } = survey;
  return {
    volumes: [...store.volumes].length,
    snapshots: store.snapshots.length,
    ...survey,
    physicalBytes,
    spares: spareCount,
    dedupRatio: ratio(logicalBytes, uniqueBytes),
    compressionRatio: ratio(uniqueBytes, compressedBytes),
    segmentUtilisation: ratio(liveBytes, liveBytes + garbageBytes),
    indexEntries: indexCount,
    indexBytes,
  };
}

function ratio(amount: number, by: number): number | null {
  return by === 0 ? null : Number((amount / by).toFixed(4));
}

function formatReport(report: Report): string {
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
