/** What can be asked of the control socket: one table, which is its description as well. */
import { z } from 'zod';
import { LIST_LENGTH_MAX } from '../aoe/target-state.ts';
import { formatMacAddress, isUnicastMac, parseMacAddress } from '../net/ethernet.ts';
import { serverStatusSchema } from '../status.ts';
import { METRICS_TYPE, renderMetrics } from './metrics.ts';
import { describeRoutes } from './openapi.ts';
import type { Operations, Reloaded } from './operations.ts';
import { type Reply, RequestError } from './request.ts';

const JSON_TYPE = 'application/json';

/** The target that a path names, and what the request carries. */
interface Asked<Body> {
  readonly target: string;
  readonly body: Body;
}

/** One method of one path; `{target}` in it stands for a target's name. */
export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly summary: string;
  /** What must be sent, if anything. */
  readonly body?: z.ZodType;
  /** What is answered; without it the answer is text. */
  readonly answer?: z.ZodType;
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
const announcedSchema = z.strictObject({
  targets: z.array(z.string()),
  interfaces: z.array(z.string()),
});

const reloadedSchema = z.strictObject({
  added: z.array(z.string()),
  removed: z.array(z.string()),
});

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
    summary: 'Read the configuration anew, add and remove targets; a wrong one changes nothing',
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
  ...listRoutes('mask-list', 'maskList', 'MAC mask list'),
  ...listRoutes('reserve-list', 'reserveList', 'reserve list'),
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
  async handle(method: string, path: string, body: unknown): Promise<Reply> {
    const matching = ROUTES.filter((route) => targetIn(route, path) !== undefined);
    if (matching.length === 0) throw new RequestError(404, `there is nothing at ${path}`);
    const route = matching.find((one) => one.method === method);
    if (route === undefined) {
      const known = matching.map((one) => one.method).join(', ');
      throw new RequestError(405, `${path} knows ${known} only`);
    }
    const asked = { target: targetIn(route, path) ?? '', body: check(route, body) as never };
    const answer = await route.run(this.#operations, asked);
    return route.answer === undefined
      ? { status: 200, type: METRICS_TYPE, text: answer as string }
      : { status: 200, type: JSON_TYPE, text: `${JSON.stringify(answer)}\n` };
  }
}

/** The target that `path` names, '' for none; undefined when it is not the route's path. */
function targetIn(route: Route, path: string): string | undefined {
  const [before = '', after] = route.path.split('{target}');
  if (after === undefined) return path === route.path ? '' : undefined;
  if (!path.startsWith(before) || !path.endsWith(after)) return undefined;
  const target = path.slice(before.length, path.length - after.length);
  return target.includes('/') ? undefined : target;
}

function check(route: Route, body: unknown): unknown {
  if (route.body === undefined) return undefined;
  const { data, error } = route.body.safeParse(body);
  if (error === undefined) return data;
  throw new RequestError(400, error.issues.map(({ message }) => message).join('; '));
}

async function announce(operations: Operations): Promise<z.infer<typeof announcedSchema>> {
  await operations.announce();
  const { targets, links } = await operations.status();
  return {
    targets: targets.map(({ name }) => name),
    interfaces: links.filter(({ mac }) => mac !== null).map((link) => link.interface),
  };
}

async function reload(operations: Operations): Promise<Reloaded> {
  try {
    return await operations.reload();
  } catch (error) {
    const remedy = (error as { remedy?: string }).remedy ?? 'mend the file';
    throw new RequestError(409, (error as Error).message, `${remedy}; nothing has changed`);
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
      run: async (operations, { target }) => {
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
      run: (operations, { target, body }: Asked<readonly number[]>) =>
        set(operations, target, [...new Set(body)]),
    },
    {
      method: 'DELETE',
      path,
      summary: `Empty the ${words}, whoever holds the target; durable when answered`,
      answer,
      run: (operations, { target }) => set(operations, target, []),
    },
  ];
}

async function noTarget(operations: Operations, name: string): Promise<RequestError> {
  const { targets } = await operations.status();
  const names = targets.map((target) => target.name).join(', ');
  return new RequestError(404, `there is no target ${name}`, `the targets are ${names}`);
}
