import { collect } from '../../backends/cas/index.ts';
import { formatRoundSize } from '../round-size.ts';
import { withStore } from './with-store.ts';

/** Fuller segments are not worth moving. */
const LIVE_MAX = 0.8;

/** @throws when the store cannot be opened, is damaged, or is full */
export async function collectGarbage(
  path: string,
  { json }: { readonly json?: true },
): Promise<void> {
  await withStore(path, async (store) => {
    const report = await collect(store, { liveMax: LIVE_MAX });
    const freedBytes = report.freedSegments * store.segments.segmentBytes;
    if (json) {
      console.log(JSON.stringify({ ...report, freedBytes }, null, 2));
      return;
    }
    const examined = formatRoundSize(report.examinedBytes);
    const freed = `${formatRoundSize(freedBytes)} freed in ${report.freedSegments} segments`;
    console.log(`${examined} examined, ${freed}, ${formatRoundSize(report.movedBytes)} moved`);
  });
}
