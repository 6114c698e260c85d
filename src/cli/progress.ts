/**
 * Tells how far a long operation is: a bar that is redrawn on a terminal, a line now and then
 * elsewhere. It goes to standard error, so that results can be piped.
 */
import { formatRoundSize } from './round-size.ts';

const BAR_WIDTH = 24;
const REDRAW_MS = 200;
const PLAIN_LINE_MS = 10_000;
/** Share of the newest measurement in the rate that is shown. */
const SMOOTHING = 0.2;

/** Where progress is shown: a part of `process.stderr`. */
export interface ProgressOutput {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export class Progress {
  readonly #title: string;
  readonly #totalBytes: number;
  readonly #output: ProgressOutput;
  readonly #nowMs: () => number;
  readonly #intervalMs: number;
  #shownMs: number;
  #shownBytes = 0;
  #bytesPerSecond = 0;

  /** @param nowMs a clock, in milliseconds from any start */
  constructor(
    title: string,
    totalBytes: number,
    output: ProgressOutput = process.stderr,
    nowMs: () => number = () => performance.now(),
  ) {
    this.#title = title;
    this.#totalBytes = totalBytes;
    this.#output = output;
    this.#nowMs = nowMs;
    this.#intervalMs = output.isTTY ? REDRAW_MS : PLAIN_LINE_MS;
    this.#shownMs = nowMs();
  }

  /** Call as often as you like: it is shown when it is time. */
  update(doneBytes: number): void {
    const elapsedMs = this.#nowMs() - this.#shownMs;
    if (elapsedMs < this.#intervalMs) return;
    const rate = ((doneBytes - this.#shownBytes) / elapsedMs) * 1000;
    this.#bytesPerSecond =
      this.#bytesPerSecond === 0 ? rate : this.#bytesPerSecond * (1 - SMOOTHING) + rate * SMOOTHING;
    this.#shownMs += elapsedMs;
    this.#shownBytes = doneBytes;
    const line = `${this.#title} ${this.#bar(doneBytes)}${this.#describe(doneBytes)}`;
    this.#output.write(this.#output.isTTY ? `\r${line}\x1b[K` : `${line}\n`);
  }

  /** Removes the bar, so that what is printed next stands where it was. */
  end(): void {
    if (this.#output.isTTY) this.#output.write('\r\x1b[K');
  }

  #bar(doneBytes: number): string {
    if (!this.#output.isTTY) return '';
    const filled = Math.round(this.#share(doneBytes) * BAR_WIDTH);
    return `[${'#'.repeat(filled).padEnd(BAR_WIDTH, '-')}] `;
  }

  #describe(doneBytes: number): string {
    const percent = Math.floor(this.#share(doneBytes) * 100);
    const size = `${formatRoundSize(doneBytes)} of ${formatRoundSize(this.#totalBytes)}`;
    const rate = `${formatRoundSize(this.#bytesPerSecond)}/s`;
    const leftSeconds = (this.#totalBytes - doneBytes) / this.#bytesPerSecond;
    const left = Number.isFinite(leftSeconds) ? `, ${formatDuration(leftSeconds)} left` : '';
    return `${percent}%, ${size}, ${rate}${left}`;
  }

  #share(doneBytes: number): number {
    return this.#totalBytes === 0 ? 1 : Math.min(1, doneBytes / this.#totalBytes);
  }
}

function formatDuration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}
