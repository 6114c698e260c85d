/** The secret that whoever changes something over the network must show. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { replaceFile } from '../core/replace-file.ts';
import { StartupError } from '../core/startup-error.ts';

const TOKEN_BYTES = 32;
/** Shorter ones, which an operator may have written, could be guessed. */
const LENGTH_MIN = 32;
/** What a header can carry. */
const VISIBLE_ASCII = /^[!-~]*$/;

export class Token {
  readonly #digest: Buffer;

  private constructor(text: string) {
    this.#digest = digest(text);
  }

  /**
   * Reads the token that the file holds; when there is no such file, makes one, durably.
   *
   * @throws {StartupError} the file cannot be read or made, or holds no good token
   */
  static async load(path: string): Promise<Token> {
    const text = await read(path).catch((cause: Error) => {
      throw new StartupError(
        `cannot use the token file ${path}: ${cause.message}`,
        'let the user of the server read it, and write the directory that it is in',
        { cause },
      );
    });
    const fault = faultOf(text);
    if (fault === undefined) return new Token(text);
    throw new StartupError(
      `the token in ${path} ${fault}`,
      'write another one, or remove the file: the next start makes a new one',
    );
  }

  /** Is it this one? Takes as long whatever is wrong with it. @param header Authorization */
  isIn(header: string): boolean {
    const [, text = ''] = /^Bearer +(\S+)$/i.exec(header) ?? [];
    return timingSafeEqual(digest(text), this.#digest);
  }
}

async function read(path: string): Promise<string> {
  try {
    // Never through a link: the directory may belong to a user that the server is to become.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      return (await file.readFile('utf8')).trim();
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const text = randomBytes(TOKEN_BYTES).toString('base64url');
    await replaceFile(path, `${text}\n`, { mode: 0o600 });
    return text;
  }
}

function faultOf(text: string): string | undefined {
  if (text.length < LENGTH_MIN) return `is shorter than ${LENGTH_MIN} characters`;
  if (!VISIBLE_ASCII.test(text)) return 'has a space in it, or a character that is not ASCII';
  return undefined;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
