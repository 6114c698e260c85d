import type { Collected } from '../../stores/contract.ts';
import { type PrintOptions, print } from '../print.ts';
import { formatRoundSize } from '../round-size.ts';
import { runJob } from './operate.ts';

interface CollectCommandOptions extends PrintOptions {
  readonly rate?: number;
}

/** @throws when the store cannot be opened, is damaged, or is full */
export async function collectGarbage(path: string, options: CollectCommandOptions): Promise<void> {
  const collected = await runJob(path, { kind: 'collect', bytesPerSecondMax: options.rate });
  print(collected, options, describeCollected);
}

function describeCollected(collected: Collected): string {
  const { examinedBytes, freedBytes, freedSegments, movedBytes } = collected;
  const freed = `${formatRoundSize(freedBytes)} freed in ${freedSegments} segments`;
  return `${formatRoundSize(examinedBytes)} examined, ${freed}, ${formatRoundSize(movedBytes)} moved`;
}
