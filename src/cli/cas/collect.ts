import { formatRoundSize } from '../round-size.ts';
import { runJob } from './operate.ts';

interface CollectCommandOptions {
  readonly rate?: number;
  readonly json?: true;
}

/** @throws when the store cannot be opened, is damaged, or is full */
export async function collectGarbage(
  path: string,
  { rate, json }: CollectCommandOptions,
): Promise<void> {
  const report = await runJob(path, { kind: 'collect', bytesPerSecondMax: rate });
  if (json) {
    console.log(JSON.stringify(report, null, 2));
    return;
  }
  const examined = formatRoundSize(report.examinedBytes);
  const freed = `${formatRoundSize(report.freedBytes)} freed in ${report.freedSegments} segments`;
  console.log(`${examined} examined, ${freed}, ${formatRoundSize(report.movedBytes)} moved`);
}
