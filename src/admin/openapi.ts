/** Describes routes in the OpenAPI format, version 3.1. */
import { z } from 'zod';
import { VERSION } from '../version.ts';
import { BYTES, BYTES_TYPE } from './request.ts';
import type { Route } from './routes.ts';

const ERROR = z.strictObject({
  error: z.string().describe('What is wrong.'),
  remedy: z.string().describe('What helps.'),
});
/** What stands for what in paths. */
const PARAMETERS: Readonly<Record<string, string>> = {
  target: 'The name of a target, such as e1.0.',
  store: 'The path of the store, as the status tells it; its slashes are written %2F.',
  name: 'The name of a volume or snapshot.',
  root: 'Snapshot, volume, or root hash.',
  job: 'The number of a job.',
};

export function describeRoutes(routes: readonly Route[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: describe(route) };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'aoe-server control socket', version: VERSION },
    paths,
  };
}

function describe({ path, summary, query = {}, body, answer }: Route): object {
  const content = answer === undefined ? { 'text/plain': {} } : contentOf(answer);
  const schema = { type: 'string' };
  const inPath = Object.entries(PARAMETERS)
    .filter(([name]) => path.includes(`{${name}}`))
    .map(([name, description]) => ({ name, in: 'path', required: true, description, schema }));
  const inQuery = Object.entries(query).map(([name, description]) => {
    return { name, in: 'query', description, schema };
  });
  const parameters = [...inPath, ...inQuery];
  return {
    summary,
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: { required: true, content: contentOf(body) } }),
    responses: {
      '200': { description: 'Done.', content },
      default: { description: 'Refused, or failed.', content: jsonContent(ERROR) },
    },
  };
}

function contentOf(what: z.ZodType | typeof BYTES): object {
  return what === BYTES ? { [BYTES_TYPE]: {} } : jsonContent(what);
}

function jsonContent(schema: z.ZodType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input' });
  return { 'application/json': { schema: rest } };
}
