import { writeSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { isatty } from 'node:tty';
import { type Level, type Logger, pino } from 'pino';
import { build as prettyStream } from 'pino-pretty';

const STDERR_FD = 2;

/** How long a reader that has no room may hold up the server, which has other things to do. */
const WAIT_MS_MAX = 1000;
const POLL_MS = 5;
const NEVER = new Int32Array(new SharedArrayBuffer(4));

/** What cannot be written is lost: a log that has no room must neither end the server nor halt it. */
class StandardError {
  /** The reader was waited for in vain, and has taken nothing since. */
  #isStuck = false;

  write(line: string): void {
    const bytes = Buffer.from(line);
    const endMs = performance.now() + WAIT_MS_MAX;
    for (let done = 0; done < bytes.length; ) {
      try {
        done += writeSync(STDERR_FD, bytes, done);
        this.#isStuck = false;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || this.#isStuck) return;
        this.#isStuck = performance.now() > endMs;
        Atomics.wait(NEVER, 0, 0, POLL_MS);
      }
    }
  }
}

/**
 * A logger, and the children that were made of it: pino's keep the level they were made with. Held
 * weakly, as those of targets come and go with each reload.
 */
const families = new WeakMap<Logger, readonly WeakRef<Logger>[]>();

/**
 * The program's logger. It writes to standard error: lines to read on a terminal, and JSON, one
 * object a line, anywhere else. Process id and host name are left to whoever collects the lines.
 *
 * Writing is synchronous, so that the last words before an exit are not lost.
 */
export function createLogger(level: Level): Logger {
  // Not process.stderr, which is no terminal in a thread of its own.
  const stream = isatty(STDERR_FD)
    ? prettyStream({ destination: STDERR_FD, sync: true, translateTime: 'SYS:HH:MM:ss.l' })
    : new StandardError();
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    onChild: join,
  };
  const logger = pino(options, stream);
  const family: WeakRef<Logger>[] = [];
  function join(member: Logger): void {
    const living = family.filter((known) => known.deref() !== undefined);
    family.splice(0, family.length, ...living, new WeakRef(member));
    families.set(member, family);
  }
  join(logger);
  return logger;
}

/** Changes the level of `logger`, of what it was made of, and of all that was made of it. */
export function setLogLevel(logger: Logger, level: Level): void {
  const family = families.get(logger) ?? [new WeakRef(logger)];
  for (const member of family) {
    const living = member.deref();
    if (living !== undefined) living.level = level;
  }
}
