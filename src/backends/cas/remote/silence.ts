/** Gives up requests to a service that has fallen silent: whoever asked may try again. */

/** Longer than any service takes for anything. */
export const SILENCE_MS = 60_000;

/**
 * Does what a library would wait for without end.
 *
 * @param work must end when the signal says so; calls `heard` when it sees that something happens
 * @throws when that was not so for `silenceMs`
 */
export async function unlessSilent<T>(
  silenceMs: number,
  work: (signal: AbortSignal, heard: () => void) => Promise<T>,
): Promise<T> {
  const aborter = new AbortController();
  const { signal } = aborter;
  const silence = new Error(`the service has said nothing for ${silenceMs / 1000} s`);
  const timer = setTimeout(() => aborter.abort(silence), silenceMs);
  try {
    return await work(signal, () => timer.refresh());
  } catch (error) {
    throw signal.aborted ? silence : error;
  } finally {
    clearTimeout(timer);
  }
}
