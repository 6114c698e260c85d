import { writeSync } from 'node:fs';
import { type Level, type Logger, pino } from 'pino';
import { build as prettyStream } from 'pino-pretty';

const STDERR_FD = 2;

/** What cannot be written is lost: a log that has no room must not end the server. */
const standardError = {
  write(line: string): void {
    try {
      writeSync(STDERR_FD, line);
    } catch {}
  },
};

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
  const stream = process.stderr.isTTY
    ? prettyStream({ destination: STDERR_FD, sync: true, translateTime: 'SYS:HH:MM:ss.l' })
    : standardError;
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
