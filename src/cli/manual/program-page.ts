/** aoe-server(8), made from the program's commands. */
import type { Command, Option } from 'commander';
import { commandsBelow, type HelpBlock, helpBlocks, pathOf, writeArgument } from './help-text.ts';
import {
  bold,
  escapeText,
  italic,
  item,
  literal,
  page,
  paragraph,
  type Release,
  section,
  subsection,
} from './roff.ts';

const DESCRIPTION = [
  'aoe-server exports disks over ATA over Ethernet (AoE): plain Ethernet frames, no IP, nothing to ' +
    'configure on the other side. A Linux host on the same segment finds them with the driver aoe, ' +
    'as /dev/etherd/e1.0 for shelf 1, slot 0.',
  'A write is acknowledged when it is on stable storage, unless write_cache is set for its target.',
  'AoE has no authentication and no encryption. Whoever can send frames on the segment can read ' +
    'and write every disk: keep it to a segment or VLAN that only trusted hosts reach.',
];

const SIGNALS = [
  [
    'SIGTERM, SIGINT',
    'Ends what is in flight, makes all of it durable and ends; a second at once.',
  ],
  ['SIGHUP', 'Reads the configuration anew, as the command reload does.'],
] as const;

const FILES = [
  ['/etc/aoe-server.toml', 'The configuration of the systemd unit; see aoe-server.toml(5).'],
  [
    '/var/lib/aoe-server',
    'State that must survive a restart: config strings, MAC mask lists and reserve lists.',
  ],
  ['/var/lib/aoe-server/control.sock', 'The control socket, which speaks HTTP.'],
  [
    '/var/lib/aoe-server/dashboard-token',
    'The token that changes on the dashboard need; made at the first start with a dashboard.',
  ],
] as const;

const ENVIRONMENT = [
  ['STATE_DIRECTORY', 'The directory for state where state_dir is not set; systemd sets it.'],
  ['NOTIFY_SOCKET', 'Where systemd is told that the server serves; systemd sets it.'],
  ['WATCHDOG_USEC', 'How often systemd wants to hear from the server; systemd sets it.'],
  [
    'AWS_*, AZURE_STORAGE_*',
    'Credentials for blob stores, as the tools of these services know them.',
  ],
] as const;

/** The page about `program` and all its commands. */
export function programPage(program: Command, release: Release): string {
  const blocks = helpBlocks(program);
  return page('aoe-server', 8, release, [
    section('Name'),
    'aoe\\-server \\- ATA over Ethernet block server',
    section('Synopsis'),
    `${bold('aoe-server')} ${italic('config')}`,
    '.br',
    `${bold('aoe-server')} ${italic('command')} ...`,
    section('Description'),
    ...DESCRIPTION.map((text) => paragraph(escapeText(text))),
    section('Options'),
    ...program.options.map(describeOption),
    item(bold('-h, --help'), 'Show help; behind a command, help about it.'),
    section('Commands'),
    ...[...commandsBelow(program)].flatMap(describeCommand),
    ...blocks.flatMap((block) =>
      block.kind === 'list' ? [section(block.title), literal(block.lines)] : writeBlock(block),
    ),
    section('Signals'),
    ...describeAll(SIGNALS),
    section('Files'),
    ...describeAll(FILES),
    section('Environment'),
    ...describeAll(ENVIRONMENT),
    section('See also'),
    `${bold('aoe-server.toml')}(5), ${bold('aoe-discover')}(8), ${bold('aoe-stat')}(8)`,
  ]);
}

function describeCommand(command: Command): string[] {
  const args = command.registeredArguments;
  const words = args.map((argument) => italic(writeArgument(argument)));
  const options = command.options.map(({ flags, mandatory }) =>
    mandatory ? bold(flags) : `[${bold(flags)}]`,
  );
  return [
    subsection(pathOf(command).replace(/^\S+ /, '')),
    [bold(pathOf(command)), ...words, ...options].join(' '),
    paragraph(escapeText(sentence(command.description()))),
    ...args
      .filter(({ description }) => description !== '')
      .map((argument) => item(italic(argument.name()), escapeText(sentence(argument.description)))),
    ...command.options.map(describeOption),
    ...helpBlocks(command).map(writeBlock),
  ];
}

function describeOption({ flags, description, defaultValue, argChoices }: Option): string {
  const notes = [
    ...(argChoices === undefined ? [] : [`One of ${argChoices.join(', ')}.`]),
    ...(defaultValue === undefined ? [] : [`Default: ${defaultValue}.`]),
  ];
  return item(bold(flags), escapeText([sentence(description), ...notes].join(' ')));
}

function describeAll(terms: readonly (readonly [term: string, text: string])[]): string[] {
  return terms.map(([term, text]) => item(bold(term), escapeText(text)));
}

function writeBlock(block: HelpBlock): string {
  if (block.kind === 'paragraph') return paragraph(escapeText(block.text));
  return `${paragraph(`${escapeText(block.title)}:`)}\n${literal(block.lines)}`;
}

/** What stands as a phrase in the help, as a sentence. */
function sentence(phrase: string): string {
  return `${phrase.charAt(0).toUpperCase()}${phrase.slice(1).replace(/\.$/, '')}.`;
}
