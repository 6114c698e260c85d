/** aoe-server.toml(5), made from the schema of the configuration. */
import { CONFIG_KEYS, type ConfigKey } from '../../config/reference.ts';
import {
  bold,
  escapeText,
  item,
  literal,
  page,
  paragraph,
  type Release,
  section,
  subsection,
} from './roff.ts';

const DESCRIPTION = [
  'The configuration of aoe-server(8) is a file in TOML. It says on which network interfaces the ' +
    'server serves, and which disks: one table [[target]] for each, with a table for its storage.',
  'aoe-server check tells what a file would serve, and everything that is wrong with it. A running ' +
    'server follows a changed file after aoe-server reload: targets are added, changed and ' +
    'removed. Changes in [server], except of log_level, and changes of disks in memory need a ' +
    'restart, for which initiators wait.',
];

const EXAMPLE = `[server]
interface = "eth0"

[[target]]
shelf = 1
slot = 0
backend = "file"

[target.file]
path = "/srv/aoe/disk1.img"
size = "20GiB"`;

/** The page about every key of a configuration file. */
export function configPage(release: Release): string {
  const tables = [...CONFIG_KEYS.values()].filter(({ kind }) => kind.startsWith('table'));
  return page('aoe-server.toml', 5, release, [
    section('Name'),
    'aoe\\-server.toml \\- configuration of aoe\\-server',
    section('Description'),
    ...DESCRIPTION.map((text) => paragraph(escapeText(text))),
    section('Example'),
    literal(EXAMPLE.split('\n')),
    section('Tables'),
    ...tables.flatMap(describeTable),
    section('See also'),
    `${bold('aoe-server')}(8)`,
  ]);
}

function describeTable({ pattern, example, description }: ConfigKey): string[] {
  const inside = pattern === 'target' ? 'target[]' : pattern;
  const values = [...CONFIG_KEYS.values()].filter(
    ({ kind, parent }) => kind === 'value' && parent === inside,
  );
  return [subsection(example), paragraph(escapeText(description)), ...values.map(describeKey)];
}

function describeKey({ name, form, example, description, required, default: unset }: ConfigKey) {
  const fallback = required ? 'Required.' : `Default: ${unset ?? 'none'}.`;
  return item(
    bold(name),
    ...[description, `Must be ${form}.`, fallback].map(escapeText),
    `Example: ${bold(example)}`,
  );
}
