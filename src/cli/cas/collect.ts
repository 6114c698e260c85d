import { collect } from '../../backends/cas/index.ts';
import { formatRoundSize } from '../round-size.ts';
import { withStore } from './with-store.ts';

/** Fuller segments are not worth moving. */
const LIVE_MAX = 0.8;

/** @throws when the store cannot be opened, is damaged, or is full */
export async function collectGarbage(path: string): Promise<void> {
  await withStore(path, async (store) => {
    const { segmentBytes } = store.segments;
    const { examinedBytes, movedBytes, freedSegments } = await collect(store, {
      liveMax: LIVE_MAX,
    });
    const examined = formatRoundSize(examinedBytes);
    const freed = formatRoundSize(freedSegments * segmentBytes);
    const moved = formatRoundSize(movedBytes);
    console.log(
      `${examined} examined, ${freed} freed in ${freedSegments} segments, ${moved} moved`,
    );
  });
}
