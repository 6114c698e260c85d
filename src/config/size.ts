/** Sizes as people write them: a number of bytes, or text with a binary unit. */

const UNITS = ['', 'KiB', 'MiB', 'GiB', 'TiB'] as const;
const SIZE_TEXT = /^(\d+) ?(?:([KMGT])(?:iB)?)?$/i;

/**
 * Reads a size: `1073741824`, `"1073741824"`, `"1GiB"` or `"1G"`.
 *
 * K, M, G and T are powers of 1024, as in qemu-img, LVM and dd. KB, MB, GB and TB are refused:
 * half of the tools read them as powers of 1000, and a wrong guess shows only when a disk is full.
 *
 * @returns bytes, a safe integer; undefined for anything else
 */
export function parseSize(input: number | string): number | undefined {
  const sizeBytes = typeof input === 'number' ? input : parseSizeText(input);
  return Number.isSafeInteger(sizeBytes) && sizeBytes >= 0 ? sizeBytes : undefined;
}

function parseSizeText(text: string): number {
  const match = SIZE_TEXT.exec(text);
  if (match === null) return Number.NaN;
  const [, digits, letter = ''] = match;
  return Number(digits) * 1024 ** ' KMGT'.indexOf(letter.toUpperCase() || ' ');
}

/** Writes a size in the largest unit that divides it, so that parsing gives it back exactly. */
export function formatSize(sizeBytes: number): string {
  let amount = sizeBytes;
  let unit = 0;
  while (amount >= 1024 && amount % 1024 === 0 && unit < UNITS.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${amount}${UNITS[unit]}`;
}
