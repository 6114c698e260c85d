/**
 * Tells how far a long operation is: a bar that is redrawn on a terminal, a line now and then
 * elsewhere. It goes to standard error, so that results can be piped.
 */
import { formatRoundSize } from './round-size.ts';

const BAR_WIDTH_MAX = 24;
/** Of a terminal that does not tell. */
const COLUMNS = 80;
const REDRAW_MS = 200;
const PLAIN_LINE_MS = 10_000;
/** Share of the newest measurement in the rate that is shown. */
const SMOOTHING = 0.2;

/** Where progress is shown: a part of `process.stderr`. */
export interface ProgressOutput {
  readonly isTTY?: boolean;
  /** Of the terminal. */
  readonly columns?: number;
  write(text: string): unknown;
}

export class Progress {
  readonly #title: string;
  #totalBytes: number;
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
    // More may turn up than was counted.
    this.#totalBytes = Math.max(this.#totalBytes, doneBytes);
    if (elapsedMs < this.#intervalMs) return;
    const rate = ((doneBytes - this.#shownBytes) / elapsedMs) * 1000;
    this.#bytesPerSecond =
      this.#bytesPerSecond === 0 ? rate : this.#bytesPerSecond * (1 - SMOOTHING) + rate * SMOOTHING;
    this.#shownMs += elapsedMs;
    this.#shownBytes = doneBytes;
    const text = this.#describe(doneBytes);
    this.#output.write(
      this.#output.isTTY ? `\r${this.#draw(doneBytes, text)}\x1b[K` : `${this.#title} ${text}\n`,
    );
  }

  /** Removes the bar, so that what is printed next stands where it was. */
  end(): void {
    if (this.#output.isTTY) this.#output.write('\r\x1b[K');
  }

  /** One line: a terminal that breaks it would keep all but the last piece of each. */
  #draw(doneBytes: number, text: string): string {
    const columns = (this.#output.columns || COLUMNS) - 1;
    const room = columns - `${this.#title} [] ${text}`.length;
    const width = Math.min(BAR_WIDTH_MAX, room);
    if (width <= 0) return `${this.#title} ${text}`.slice(0, columns);
    const filled = Math.round(this.#share(doneBytes) * width);
    return `${this.#title} [${'#'.repeat(filled).padEnd(width, '-')}] ${text}`;
  }

  #describe(doneBytes: number): string {
    const percent = Math.floor(this.#share(doneBytes) * 100);
    const size = `${formatRoundSize(doneBytes)} of ${formatRoundSize(this.#totalBytes)}`;
    const rate = `${formatRoundSize(this.#bytesPerSecond)}/s`;
    // The rate fades while nothing moves, and with it what could be told.
    if (this.#bytesPerSecond < 1) return `${percent}%, ${size}, ${rate}`;
    const leftSeconds = (this.#totalBytes - doneBytes) / this.#bytesPerSecond;
    return `${percent}%, ${size}, ${rate}, ${formatDuration(leftSeconds)} left`;
  }

  #share(doneBytes: number): number {
    return this.#totalBytes === 0 ? 1 : doneBytes / this.#totalBytes;
  }
}

function formatDuration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}
