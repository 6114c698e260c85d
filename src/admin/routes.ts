/** What can be asked of the control socket, by method and path. */
import { z } from 'zod';
import { LIST_LENGTH_MAX } from '../aoe/target-state.ts';
import { formatMacAddress, isUnicastMac, parseMacAddress } from '../net/ethernet.ts';
import type { TargetStatus } from '../status.ts';
import { METRICS_TYPE, renderMetrics } from './metrics.ts';
import type { Operations } from './operations.ts';

/** A request that is refused; the program shows `message` and `remedy` to people. */
export class RequestError extends Error {
  /** The HTTP status. */
  readonly status: number;
  readonly remedy: string;

  constructor(status: number, message: string, remedy = 'docs/CONTROL.md tells what can be asked') {
    super(message);
    this.status = status;
    this.remedy = remedy;
  }
}

export interface Reply {
  /** The HTTP status. */
  readonly status: number;
  /** The content type. */
  readonly type: string;
  readonly text: string;
}

/** The lists of a target: their last part in a path, and their name in its status. */
const LISTS = { 'mask-list': 'maskList', 'reserve-list': 'reserveList' } as const;
type ListPath = keyof typeof LISTS;

/** @returns what is sent back as JSON */
type Handler = (operations: Operations, body: unknown, target: string) => Promise<unknown>;
type Methods = Readonly<Record<string, Handler>>;

const macSchema = z.string().transform((text, context) => {
  const mac = parseMacAddress(text);
  if (mac !== undefined && isUnicastMac(mac)) return mac;
  context.addIssue(`${JSON.stringify(text)} is not the MAC address of one station`);
  return z.NEVER;
});
const listSchema = z.array(macSchema).max(LIST_LENGTH_MAX);
const levelSchema = z.strictObject({ level: z.string() });

const ROUTES: Readonly<Record<string, Methods>> = {
  '/v1/status': { GET: (operations) => operations.status() },
  '/v1/announce': { POST: announce },
  '/v1/log-level': { PUT: setLogLevel },
};
const LIST_PATH = /^\/v1\/targets\/([^/]+)\/(mask-list|reserve-list)$/;

export class Routes {
  readonly #operations: Operations;

  constructor(operations: Operations) {
    this.#operations = operations;
  }

  /** @throws {RequestError} it cannot be done; @throws the operation's error */
  async handle(method: string, path: string, body: unknown): Promise<Reply> {
    if (path === '/metrics' && method === 'GET') {
      const text = await renderMetrics(await this.#operations.status());
      return { status: 200, type: METRICS_TYPE, text };
    }
    const [, target = '', list] = LIST_PATH.exec(path) ?? [];
    const methods = list === undefined ? ROUTES[path] : listMethods(list as ListPath);
    if (methods === undefined) throw new RequestError(404, `there is nothing at ${path}`);
    const handler = methods[method];
    if (handler === undefined) {
      throw new RequestError(405, `${path} knows ${Object.keys(methods).join(', ')} only`);
    }
    const result = await handler(this.#operations, body, target);
    return { status: 200, type: 'application/json', text: `${JSON.stringify(result)}\n` };
  }
}

async function announce(operations: Operations): Promise<unknown> {
  await operations.announce();
  const { targets, links } = await operations.status();
  return {
    targets: targets.map(({ name }) => name),
    interfaces: links.filter(({ mac }) => mac !== null).map((link) => link.interface),
  };
}

async function setLogLevel(operations: Operations, body: unknown): Promise<unknown> {
  const { level } = check(levelSchema, body);
  if (!(await operations.setLogLevel(level))) {
    throw new RequestError(
      400,
      `there is no log level ${level}`,
      'the levels are those of log_level in the configuration file',
    );
  }
  return { level };
}

function listMethods(path: ListPath): Methods {
  const key = LISTS[path];
  const set = async (operations: Operations, target: string, list: readonly number[]) => {
    if (!(await operations.setLists(target, { [key]: list })))
      throw await noTarget(operations, target);
    return { target, [key]: list.map(formatMacAddress) };
  };
  return {
    GET: async (operations, _, target) => {
      const status = await findTarget(operations, target);
      return { target, [key]: status[key] };
    },
    PUT: (operations, body, target) =>
      set(operations, target, [...new Set(check(listSchema, body))]),
    DELETE: (operations, _, target) => set(operations, target, []),
  };
}

async function findTarget(operations: Operations, name: string): Promise<TargetStatus> {
  const { targets } = await operations.status();
  const found = targets.find((target) => target.name === name);
  if (found === undefined) throw await noTarget(operations, name);
  return found;
}

async function noTarget(operations: Operations, name: string): Promise<RequestError> {
  const { targets } = await operations.status();
  const names = targets.map((target) => target.name).join(', ');
  return new RequestError(404, `there is no target ${name}`, `the targets are ${names}`);
}

function check<T>(schema: z.ZodType<T>, body: unknown): T {
  const { data, error } = schema.safeParse(body);
  if (error === undefined) return data as T;
  throw new RequestError(400, error.issues.map(({ message }) => message).join('; '));
}
