/**
 * A terminal that shows one page, which is drawn anew in place. It has its alternate screen from
 * the start until it is closed, and is as it was before after that, however the program ends:
 * a signal closes it, and so does the end of the process.
 */

/** Alternate screen on, cursor off; and back. */
const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';
/** In raw mode the terminal makes no signal of it. */
const CONTROL_C = '\x03';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

export class Screen implements Disposable {
  readonly #onKey: (key: string) => void;
  #lines: readonly string[] = [];
  #isOpen = true;

  /** @param onKey gets each key; Ctrl-C is `q` */
  constructor(onKey: (key: string) => void) {
    this.#onKey = onKey;
    process.once('exit', this.#close);
    for (const signal of SIGNALS) process.once(signal, this.#end);
    process.stdout.on('resize', this.#draw);
    if (process.stdin.isTTY) {
      process.stdin.setRawMode(true);
      process.stdin.on('data', this.#read);
    }
    process.stdout.write(ENTER);
  }

  /** Shows as much of `lines` as there is room for. */
  show(lines: readonly string[]): void {
    this.#lines = lines;
    this.#draw();
  }

  [Symbol.dispose](): void {
    this.#close();
  }

  readonly #draw = (): void => {
    const { columns, rows } = process.stdout;
    const page = this.#lines.slice(0, rows).map((line) => line.slice(0, columns) + CLEAR_LINE);
    process.stdout.write(HOME + page.join('\r\n') + CLEAR_BELOW);
  };

  readonly #read = (keys: Buffer): void => {
    for (const key of keys.toString()) this.#onKey(key === CONTROL_C ? 'q' : key);
  };

  readonly #close = (): void => {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    process.off('exit', this.#close);
    for (const signal of SIGNALS) process.off(signal, this.#end);
    process.stdout.off('resize', this.#draw);
    if (process.stdin.isTTY) {
      process.stdin.off('data', this.#read).pause();
      process.stdin.setRawMode(false);
    }
    process.stdout.write(LEAVE);
  };

  /** Ends the process as the signal would have. */
  readonly #end = (signal: NodeJS.Signals): void => {
    this.#close();
    process.kill(process.pid, signal);
  };
}
