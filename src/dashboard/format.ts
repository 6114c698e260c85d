/** Figures as people read them. What there is no figure for is a dash. */

const DASH = '–';
const SIZE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Three digits that count: `1.50 GiB`. */
export function formatSize(bytes: number): string {
  const step = bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10);
  const unit = Math.min(step, SIZE_UNITS.length - 1);
  return `${formatDigits(bytes / 1024 ** unit)} ${SIZE_UNITS[unit]}`;
}

/** A number in as many digits as tell something; whole from 100 on. */
export function formatDigits(value: number): string {
  if (Number.isInteger(value) || value >= 99.95) return formatCount(value);
  return value.toFixed(value < 9.995 ? 2 : 1);
}

export function formatCount(value: number): string {
  return Math.round(value).toLocaleString('en');
}

/** Millions of bytes. @param bytes undefined for unknown */
export function formatMegabytes(bytes: number | undefined): string {
  return bytes === undefined ? DASH : formatDigits(bytes / 1e6);
}

/** @param us microseconds; undefined when there was nothing to measure */
export function formatLatency(us: number | undefined): string {
  if (us === undefined) return DASH;
  if (us < 999.5) return `${Math.round(us)} µs`;
  return us < 999_500 ? `${formatDigits(us / 1000)} ms` : `${formatDigits(us / 1e6)} s`;
}

/** The two largest units: `3 d 4 h`. */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

/** `${count} thing`, or things. */
export function formatNumberOf(count: number, thing: string): string {
  return `${formatCount(count)} ${thing}${count === 1 ? '' : 's'}`;
}
