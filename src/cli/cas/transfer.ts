import { addAbortSignal } from 'node:stream';
import { receiveSnapshot, sendSnapshot, TransferDecoder } from '../../backends/cas/index.ts';
import { StartupError } from '../../core/startup-error.ts';
import { Progress } from '../progress.ts';
import { formatRoundSize } from '../round-size.ts';
import { interruptible, openClient } from './chunks.ts';
import { withStore, withStoreOrNew } from './with-store.ts';

/** @throws when the store is damaged, there is no such snapshot, or nobody reads the stream */
export async function sendToOutput(
  path: string,
  name: string,
  { from }: { readonly from?: string },
): Promise<void> {
  if (process.stdout.isTTY) {
    throw new StartupError(
      'a terminal cannot take the stream',
      'redirect it to a file, or pipe it to aoe-server cas receive',
    );
  }
  // Also emitted, and then a crash if nobody listens.
  process.stdout.on('error', () => {});
  await interruptible((signal) =>
    withStore(path, async (store) => {
      const { header, bytes } = await sendSnapshot(store, name, from, openClient);
      const progress = new Progress('sending', header.changedBytes);
      let doneBytes = 0;
      try {
        for await (const chunk of bytes) {
          signal.throwIfAborted();
          await writeToOutput(chunk);
          doneBytes += chunk.length;
          progress.update(Math.min(doneBytes, header.changedBytes));
        }
      } finally {
        progress.end();
      }
    }),
  );
}

function writeToOutput(chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(chunk, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}

/** @throws when the stream is cut off or damaged, or does not fit the store; nothing stays then */
export async function receiveFromInput(path: string, name: string): Promise<void> {
  if (process.stdin.isTTY) {
    throw new StartupError(
      'a terminal cannot give the stream',
      'redirect it from a file, or pipe it from aoe-server cas send',
    );
  }
  await interruptible(async (signal) => {
    const decoder = new TransferDecoder(addAbortSignal(signal, process.stdin));
    let progress: Progress | undefined;
    try {
      const { volume, changedBytes } = await withStoreOrNew(path, (store) =>
        receiveSnapshot(store, name, decoder, openClient, (doneBytes, totalBytes) => {
          progress ??= new Progress('receiving', totalBytes);
          progress.update(doneBytes);
        }),
      );
      progress?.end();
      const size = formatRoundSize(changedBytes);
      console.log(`snapshot ${name} of ${volume}: ${size} received and verified`);
    } catch (error) {
      progress?.end();
      signal.throwIfAborted();
      throw error;
    }
  });
}
