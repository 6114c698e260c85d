import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { configPage } from '../../src/cli/manual/config-page.ts';
import { commandsBelow, pathOf } from '../../src/cli/manual/help-text.ts';
import { programPage } from '../../src/cli/manual/program-page.ts';
import { escapeText, page } from '../../src/cli/manual/roff.ts';
import { createProgram } from '../../src/cli/program.ts';
import { CONFIG_KEYS } from '../../src/config/reference.ts';
import { describeWith, run, tryRun } from '../support/tools.ts';

const RELEASE = { version: '1.2.3', date: '2026-01-31' };
const BUILT = fileURLToPath(new URL('../../dist/man/', import.meta.url));
const PAGES = { 'aoe-server.8': 'AOE-SERVER(8)', 'aoe-server.toml.5': 'AOE-SERVER.TOML(5)' };

const program = createProgram();
const commands = [...commandsBelow(program)];
const programText = programPage(createProgram(), RELEASE);
const configText = configPage(RELEASE);

/** What stands below a heading of the page, up to the next one of its kind. */
function below(text: string, heading: string): string {
  const start = text.indexOf(`\n${heading}\n`);
  expect(start, heading).toBeGreaterThan(0);
  return text.slice(start).split(/\n\.S[HS] /)[1] ?? '';
}

describe('aoe-server(8)', () => {
  it.each(commands.map((command) => [pathOf(command), command] as const))(
    'tells all that the help of %s tells',
    (path, command) => {
      const text = below(programText, `.SS "${escapeText(path.replace('aoe-server ', ''))}"`);
      const flat = text.replaceAll('\n', ' ');
      expect(flat).toContain(escapeText(command.description().slice(1)));
      for (const { flags, description, mandatory } of command.options) {
        expect(text).toContain(`.TP\n\\fB${escapeText(flags)}\\fR\n`);
        expect(flat.includes(` [\\fB${escapeText(flags)}\\fR]`)).toBe(!mandatory);
        expect(flat).toContain(escapeText(description.slice(1)));
      }
      for (const argument of command.registeredArguments) {
        expect(flat).toContain(escapeText(argument.description.slice(1)));
      }
    },
  );

  it('lists every exit code of the program', () => {
    const text = below(programText, '.SH "EXIT CODES"');
    for (const code of [/^0 /m, /^1 /m, /^2 /m, /^3 /m, /^4, 5 /m, /^130, 143 /m]) {
      expect(text).toMatch(code);
    }
  });
});

describe('aoe-server.toml(5)', () => {
  it.each([...CONFIG_KEYS.values()].filter(({ kind }) => kind !== 'element'))(
    'describes $pattern',
    ({ kind, name, parent, example, description, form }) => {
      const table = CONFIG_KEYS.get(parent.replace(/\[\]$/, ''));
      const heading = kind === 'value' ? (table?.example ?? '') : example;
      const text = below(configText, `.SS "${escapeText(heading)}"`);
      const flat = text.replaceAll('\n', ' ').replaceAll('\\&', '');
      expect(flat).toContain(escapeText(description));
      if (kind !== 'value') return;
      expect(text).toContain(`.TP\n\\fB${name}\\fR\n`);
      expect(flat).toContain(escapeText(form));
      expect(flat).toContain(escapeText(example));
    },
  );
});

describe('roff', () => {
  it('shows text as it is, whatever is in it', async () => {
    const text = "\\fB 'quoted' --option .5 ^x~ a\\nb";
    const lines = [text, '.TH is text', "'so is this"];
    const written = page('x', 1, RELEASE, ['.SH X', ...lines.map(escapeText)]);
    const shown = await run('man', ['-E', 'ascii', '-l', '-'], { input: written });
    expect(shown.replace(/\s+/g, ' ')).toContain(lines.join(' '));
  });

  it('breaks long lines without making a request of a word', async () => {
    const words = Array.from({ length: 60 }, (_, index) => `${index % 2 ? '.' : "'"}w${index}`);
    const written = page('x', 1, RELEASE, ['.SH X', escapeText(words.join(' '))]);
    expect(Math.max(...written.split('\n').map((line) => line.length))).toBeLessThan(90);
    const shown = await run('man', ['-E', 'ascii', '-l', '-'], { input: written });
    expect(shown.replace(/\s+/g, ' ')).toContain(words.join(' '));
  });
});

describeWith(['man', 'mandoc'], 'the manual that is built', () => {
  it.each(Object.entries(PAGES))('%s pleases man and mandoc', async (name, title) => {
    const path = BUILT + name;
    const shown = await tryRun('man', ['--warnings', '-E', 'UTF-8', '-l', path]);
    expect(shown).toMatchObject({ status: 0, output: shown.stdout });
    expect(shown.stdout).toContain(title);
    const lint = await tryRun('mandoc', ['-T', 'lint', '-W', 'style', path]);
    expect(lint).toEqual({ status: 0, stdout: '', output: '' });
  });

  it('is what the package installs', () => {
    const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    const { man } = JSON.parse(manifest) as { man: string[] };
    expect(man).toEqual(Object.keys(PAGES).map((name) => `dist/man/${name}`));
  });
});
