/** What can be asked of the control socket: one table, which is its description as well. */
import { z } from 'zod';
import { LIST_LENGTH_MAX } from '../aoe/target-state.ts';
import { formatMacAddress, isUnicastMac, parseMacAddress } from '../net/ethernet.ts';
import {
  type Announced,
  announcedSchema,
  type Reloaded,
  reloadedSchema,
  serverStatusSchema,
  targetStatusSchema,
} from '../status.ts';
import { METRICS_TYPE, renderMetrics } from './metrics.ts';
import { describeRoutes } from './openapi.ts';
import type { Operations } from './operations.ts';
import {
  BYTES,
  BYTES_TYPE,
  type Bytes,
  type Inquiry,
  type Reply,
  RequestError,
  refusing,
} from './request.ts';
import { STORE_ROUTES } from './store-routes.ts';
import { STREAM_ROUTES } from './stream-routes.ts';

const JSON_TYPE = 'application/json';

/** What a path names, and what the request carries. */
export interface Asked<Body> {
  /** By what stands for it in the path of the route. */
  readonly named: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly body: Body;
  /** The client is gone. */
  readonly signal: AbortSignal;
}

/** One method of one path; `{target}` in it stands for a target's name, and so on. */
export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly summary: string;
  /** What may stand behind a question mark, described. */
  readonly query?: Readonly<Record<string, string>>;
  /** What must be sent, if anything. */
  readonly body?: z.ZodType | typeof BYTES;
  /** What is answered; without it the answer is text. */
  readonly answer?: z.ZodType | typeof BYTES;
  run(operations: Operations, asked: Asked<never>): Promise<unknown>;
}

const macSchema = z.string().transform((text, context) => {
  const mac = parseMacAddress(text);
  if (mac !== undefined && isUnicastMac(mac)) return mac;
  context.addIssue(`${JSON.stringify(text)} is not the MAC address of one station`);
  return z.NEVER;
});
const listSchema = z.array(macSchema).max(LIST_LENGTH_MAX);
const levelSchema = z.strictObject({ level: z.string() });

export const ROUTES: readonly Route[] = [
  {
    method: 'GET',
    path: '/v1/status',
    summary: 'Tell what the server does',
    answer: serverStatusSchema,
    run: (operations) => operations.status(),
  },
  {
    method: 'POST',
    path: '/v1/announce',
    summary: 'Tell all initiators about all targets',
    answer: announcedSchema,
    run: announce,
  },
  {
    method: 'POST',
    path: '/v1/reload',
    summary:
      'Read the configuration anew; add, change and remove targets; a wrong one changes nothing',
    answer: reloadedSchema,
    run: reload,
  },
  {
    method: 'PUT',
    path: '/v1/log-level',
    summary: 'Change what is logged, until the next start',
    body: levelSchema,
    answer: levelSchema,
    run: setLogLevel,
  },
  targetRoute('drain', 'Take no more requests for a target; when answered all writes are durable'),
  targetRoute('resume', 'Serve a drained target again'),
  targetRoute('readd', 'Drain a target, open its storage anew, and serve it'),
  ...listRoutes('mask-list', 'maskList', 'MAC mask list'),
  ...listRoutes('reserve-list', 'reserveList', 'reserve list'),
  ...STORE_ROUTES,
  ...STREAM_ROUTES,
  {
    method: 'GET',
    path: '/metrics',
    summary: 'Tell the metrics, in the text format of Prometheus',
    run: async (operations) => renderMetrics(await operations.status()),
  },
  {
    method: 'GET',
    path: '/v1/openapi.json',
    summary: 'Describe all this',
    answer: z.looseObject({}),
    run: async () => describeRoutes(ROUTES),
  },
];

export class Routes {
  readonly #operations: Operations;

  constructor(operations: Operations) {
    this.#operations = operations;
  }

  /** @throws {RequestError} it cannot be done; @throws the operation's error */
  async handle(inquiry: Inquiry): Promise<Reply> {
    const { method, path, query, signal } = inquiry;
    const matching = ROUTES.filter((route) => namesIn(route, path) !== undefined);
    if (matching.length === 0) throw new RequestError(404, `there is nothing at ${path}`);
    const route = matching.find((one) => one.method === method);
    if (route === undefined) {
      const known = matching.map((one) => one.method).join(', ');
      throw new RequestError(405, `${path} knows ${known} only`);
    }
    const named = namesIn(route, path) ?? {};
    const body = check(route, inquiry) as never;
    const answer = await route.run(this.#operations, { named, query, body, signal });
    if (route.answer === BYTES) return { status: 200, type: BYTES_TYPE, content: answer as Bytes };
    return route.answer === undefined
      ? { status: 200, type: METRICS_TYPE, content: answer as Bytes }
      : { status: 200, type: JSON_TYPE, content: `${JSON.stringify(answer)}\n` };
  }
}

/** What `path` names, decoded; undefined when it is not the route's path. */
function namesIn(route: Route, path: string): Asked<never>['named'] | undefined {
  const [parts, given] = [route.path.split('/'), path.split('/')];
  if (parts.length !== given.length) return undefined;
  const named: Record<string, string> = {};
  for (const [index, part] of parts.entries()) {
    const [, name] = /^\{(\w+)\}$/.exec(part) ?? [];
    const value = given[index] as string;
    if (name !== undefined) named[name] = decode(value);
    else if (part !== value) return undefined;
  }
  return named;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new RequestError(400, `${text} is no part of a path`);
  }
}

function check(route: Route, { body, bytes }: Inquiry): unknown {
  if ((route.body === BYTES) !== (bytes !== undefined)) {
    throw new RequestError(415, `a body of ${BYTES_TYPE} is for streams, and JSON for all else`);
  }
  if (route.body === BYTES) return bytes;
  if (route.body === undefined) return undefined;
  const { data, error } = route.body.safeParse(body);
  if (error === undefined) return data;
  throw new RequestError(400, error.issues.map(({ message }) => message).join('; '));
}

async function announce(operations: Operations): Promise<Announced> {
  await operations.announce();
  const { targets, links } = await operations.status();
  return {
    targets: targets.map(({ name }) => name),
    interfaces: links.filter(({ mac }) => mac !== null).map((link) => link.interface),
  };
}

interface Failure extends Error {
  readonly remedy?: string;
  readonly isUnrestored?: boolean;
}

async function reload(operations: Operations): Promise<Reloaded> {
  try {
    return await operations.reload();
  } catch (error) {
    const { message, remedy = 'mend the file', isUnrestored = false } = error as Failure;
    throw new RequestError(409, message, isUnrestored ? remedy : `${remedy}; nothing has changed`);
  }
}

async function setLogLevel(
  operations: Operations,
  { body: { level } }: Asked<z.infer<typeof levelSchema>>,
): Promise<z.infer<typeof levelSchema>> {
  if (await operations.setLogLevel(level)) return { level };
  throw new RequestError(
    400,
    `there is no log level ${level}`,
    'the levels are those of log_level in the configuration file',
  );
}

/** What is done to a target as a whole. */
function targetRoute(name: 'drain' | 'resume' | 'readd', summary: string): Route {
  return {
    method: 'POST',
    path: `/v1/targets/{target}/${name}`,
    summary,
    answer: targetStatusSchema,
    async run(operations, { named }) {
      const target = named['target'] as string;
      const status = await refusing(operations[name](target));
      if (status === undefined) throw await noTarget(operations, target);
      return status;
    },
  };
}

/** What can be done with a list of a target. */
function listRoutes(name: string, key: 'maskList' | 'reserveList', words: string): Route[] {
  const path = `/v1/targets/{target}/${name}`;
  const answer = z.strictObject({ target: z.string(), [key]: z.array(z.string()) });
  const set = async (operations: Operations, target: string, list: readonly number[]) => {
    const isSet = await operations.setLists(target, { [key]: list });
    if (!isSet) throw await noTarget(operations, target);
    return { target, [key]: list.map(formatMacAddress) };
  };
  return [
    {
      method: 'GET',
      path,
      summary: `Tell the ${words} of a target`,
      answer,
      run: async (operations, { named }) => {
        const target = named['target'] as string;
        const { targets } = await operations.status();
        const found = targets.find((one) => one.name === target);
        if (found === undefined) throw await noTarget(operations, target);
        return { target, [key]: found[key] };
      },
    },
    {
      method: 'PUT',
      path,
      summary: `Replace the ${words}, whoever holds the target; durable when answered`,
      body: listSchema,
      answer,
      run: (operations, { named, body }: Asked<readonly number[]>) =>
        set(operations, named['target'] as string, [...new Set(body)]),
    },
    {
      method: 'DELETE',
      path,
      summary: `Empty the ${words}, whoever holds the target; durable when answered`,
      answer,
      run: (operations, { named }) => set(operations, named['target'] as string, []),
    },
  ];
}

async function noTarget(operations: Operations, name: string): Promise<RequestError> {
  const { targets } = await operations.status();
  const names = targets.map((target) => target.name).join(', ');
  return new RequestError(404, `there is no target ${name}`, `the targets are ${names}`);
}
