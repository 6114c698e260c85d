/** Inputs as files of hexadecimal digits, with comments after `#`. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** All inputs in a folder and the folders in it. */
export function readInputs(folder: string): Buffer[] {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  return files
    .filter((file) => file.endsWith('.hex'))
    .map((file) => {
      const text = readFileSync(join(folder, file), 'utf8');
      return Buffer.from(text.replace(/#.*$/gm, '').replace(/\s/g, ''), 'hex');
    });
}

/** @returns the path of the new file, which is named after what is in it */
export function writeInput(folder: string, input: Buffer): string {
  const name = createHash('sha256').update(input).digest('hex').slice(0, 12);
  const path = join(folder, `${name}.hex`);
  const rows = input.toString('hex').match(/.{1,64}/g) ?? [];
  writeFileSync(path, `${rows.join('\n')}\n`);
  return path;
}
