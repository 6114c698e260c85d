import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROUTES } from '../../src/admin/routes.ts';
import { commandsBelow, pathOf } from '../../src/cli/manual/help-text.ts';
import { createProgram } from '../../src/cli/program.ts';

const ROOT = join(import.meta.dirname, '../..');

function read(name: string): string {
  return readFileSync(join(ROOT, name), 'utf8');
}

/** The cells of one column of all tables of a text; bars that are text stand behind a backslash. */
function column(text: string, index: number): string[] {
  const rows = text.split('\n').filter((line) => /^\| (?!-)/.test(line));
  return rows.map(
    (row) =>
      row
        .split(/(?<!\\)\|/)
        .at(index)
        ?.trim() ?? '',
  );
}

function section(text: string, title: string): string {
  const [, rest] = text.split(`\n## ${title}\n`);
  if (rest === undefined) throw new Error(`there is no section ${title}`);
  return rest.split('\n## ')[0] ?? '';
}

it('docs/CONTROL.md tells of every route, and of no other', () => {
  let path = '';
  const told = column(section(read('docs/CONTROL.md'), 'Requests'), 1)
    .slice(1)
    .flatMap((cell) => {
      path = /`[A-Z]+ ([^`?]+)/.exec(cell)?.[1] ?? path;
      const parts = path.split('/');
      const route = ROUTES.find((one) => {
        const known = one.path.split('/');
        const isLike = known.every((part, index) => part === parts[index] || part.startsWith('{'));
        return isLike && known.length === parts.length;
      });
      return [...cell.matchAll(/`([A-Z]+)/g)].map(
        ([, method]) => `${method} ${route?.path ?? path}`,
      );
    });
  expect(told.sort()).toEqual(ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
});

const program = createProgram();
const commands = [...commandsBelow(program)].filter(({ commands }) => commands.length === 0);

it.each(commands.map((command) => pathOf(command)).filter((path) => !path.endsWith(' serve')))(
  'the README tells of %s',
  (path) => {
    const cells = column(section(read('README.md'), 'Commands'), 1).map((cell) =>
      cell.split(/[^a-z-]+/),
    );
    const isTold = cells.some((words) => path.split(' ').every((word) => words.includes(word)));
    expect(isTold).toBe(true);
  },
);

/** What docs/RELIABILITY.md names: a file of tests, and a part of a title in it. */
function* namedTests(): Generator<[file: string, title: string]> {
  const text = read('docs/RELIABILITY.md');
  const seen = section(text, 'What went wrong in other servers, and what initiators insist on');
  for (const cell of column(seen, -2)) {
    for (const [, name = '', titles = ''] of cell.matchAll(/`([\w/-]+)`([^`]*)/g)) {
      const paths = [`test/protocol/${name}.test.ts`, `test/${name}.test.ts`];
      const file = paths.find((path) => existsSync(join(ROOT, path))) ?? name;
      for (const title of titles.split(';')) yield [file, title.trim().replace(/(?<!\d)\.$/, '')];
    }
  }
}

it.each([...namedTests()])(
  'docs/RELIABILITY.md names a test that there is: %s, %s',
  (file, title) => {
    expect(read(file)).toContain(title);
  },
);
