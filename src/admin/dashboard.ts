/**
 * Shows the server in a browser: the files of the page, and those routes of the control socket
 * that the page needs.
 *
 * Invariants: nothing is changed for those who do not show the token. At an address that other
 * machines can reach, they are told nothing either, but what the page looks like. A page of
 * another site can ask for nothing through a browser on this machine.
 */
import { readdir, readFile } from 'node:fs/promises';
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { extname, join } from 'node:path';
import { isLocal, type ListenAddress } from '../net/listen-address.ts';
import { type Inquiry, type Reply, RequestError, type Responder } from './request.ts';
import { Token } from './token.ts';

const PAGE_DIRECTORY = join(import.meta.dirname, '../dashboard');
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** The routes that the page needs: none of those that tell or change what is on a disk. */
const ROUTES =
  /^\/v1\/(status|stores\/[^/]+(\/(snapshots|clones|rollback|roots\/[^/]+|jobs(\/[^/]+)?))?)$/;

/** The page takes scripts, styles and data from here alone, and is part of no other page. */
export const DASHBOARD_HEADERS: OutgoingHttpHeaders = {
  'content-security-policy': [
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'",
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
};

export interface DashboardOptions {
  readonly address: ListenAddress;
  readonly tokenPath: string;
  /** Answers as on the control socket. */
  readonly control: Responder;
}

export class Dashboard {
  readonly #files: ReadonlyMap<string, Reply>;
  readonly #token: Token;
  readonly #isLocal: boolean;
  readonly #control: Responder;

  private constructor(files: ReadonlyMap<string, Reply>, token: Token, options: DashboardOptions) {
    this.#files = files;
    this.#token = token;
    this.#isLocal = isLocal(options.address);
    this.#control = options.control;
  }

  /** @throws {StartupError} there is no token, and none can be made */
  static async load(options: DashboardOptions): Promise<Dashboard> {
    return new Dashboard(await loadFiles(), await Token.load(options.tokenPath), options);
  }

  readonly respond = async (inquiry: Inquiry): Promise<Reply> => {
    const { method, path, headers } = inquiry;
    if (this.#isLocal) refuseNames(headers);
    const file = this.#files.get(path);
    if (file !== undefined && method === 'GET') return file;
    if (!ROUTES.test(path)) throw new RequestError(404, `there is nothing at ${path}`);
    refuseOtherSites(headers);
    this.#requireToken(inquiry);
    return this.#control(inquiry);
  };

  #requireToken({ method, headers: { authorization } }: Inquiry): void {
    // A wrong one is refused where none is needed, too: the page finds out before it is used.
    if (authorization === undefined && method === 'GET' && this.#isLocal) return;
    if (authorization !== undefined && this.#token.isIn(authorization)) return;
    throw new RequestError(
      401,
      authorization === undefined ? 'this takes the token' : 'this is not the token',
      'it is in the file dashboard-token of the state directory',
    );
  }
}

/** Reads them once: a page and the server that it shows are of one version. */
async function loadFiles(): Promise<ReadonlyMap<string, Reply>> {
  const files = new Map<string, Reply>();
  for (const name of await readdir(PAGE_DIRECTORY)) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const content = await readFile(join(PAGE_DIRECTORY, name), 'utf8');
    files.set(name === 'index.html' ? '/' : `/${name}`, { status: 200, type, content });
  }
  return files;
}

/**
 * Refuses requests that were sent to a name: its owner could have made it mean this machine, to
 * let a page of his look around here (DNS rebinding). Addresses and localhost mean what they say.
 */
function refuseNames({ host = '' }: IncomingHttpHeaders): void {
  const url = `http://${host}`;
  const name = URL.canParse(url) ? new URL(url).hostname.replace(/^\[(.*)\]$/, '$1') : '';
  if (name === 'localhost' || isIP(name) !== 0) return;
  throw new RequestError(403, `this is not ${host}`, 'use the IP address, or localhost');
}

/** They could not read the answer, but make the server work. */
function refuseOtherSites(headers: IncomingHttpHeaders): void {
  const site = headers['sec-fetch-site'] ?? 'none';
  if (site === 'none' || site === 'same-origin') return;
  throw new RequestError(403, 'a page of another site asks', 'use the page of this server');
}
