import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { completeWords } from '../../src/cli/completion.ts';
import { COMPLETION_SCRIPTS } from '../../src/cli/completion-scripts.ts';
import { commandsBelow, pathOf } from '../../src/cli/manual/help-text.ts';
import { createProgram } from '../../src/cli/program.ts';
import { SERVER, TARGET } from '../config/samples.ts';
import { describeWith, disposeAll, run as runTool, TempDirectory } from '../support/tools.ts';
import { PROGRAM, run } from './run.ts';

const program = createProgram();
let directory: TempDirectory;

beforeAll(async () => {
  directory = await TempDirectory.create();
  await mkdir(directory.join('bin'));
  await chmod(PROGRAM, 0o755);
  await symlink(PROGRAM, directory.join('bin/aoe-server'));
  await mkdir(directory.join('store'));
  await writeFile(directory.join('aoe.toml'), SERVER + TARGET);
  for (const shell of Object.keys(COMPLETION_SCRIPTS)) {
    await writeFile(directory.join(`_aoe-server.${shell}`), run('completion', shell).stdout);
  }
});
afterAll(() => disposeAll(directory));

function complete(...words: string[]): string[] {
  return completeWords(program, words).map((line) => line.split('\t')[0] ?? '');
}

describe('completeWords', () => {
  it.each([...commandsBelow(program)].map((command) => [pathOf(command), command] as const))(
    'knows %s and its options',
    (path, command) => {
      const words = path.split(' ').slice(1);
      expect(complete(...words)).toContain(command.name());
      const flags = command.options.map(({ long }) => long);
      expect(complete(...words, '--')).toEqual(expect.arrayContaining([...flags, '--help']));
    },
  );

  it.each([
    ['commands and files at first', [''], ['serve', 'cas', ':files']],
    ['a store behind a command for stores', ['cas', 'list', ''], [':directories']],
    ['a configuration', ['check', ''], [':files']],
    ['an image for a target', ['targets', 'add', 'e1.5', '--path', ''], [':files']],
    ['levels to log', ['log-level', 'x.toml', 'd'], ['debug']],
    ['shells', ['completion', ''], ['bash', 'zsh', 'fish']],
  ])('offers %s', (_, words, expected) => {
    expect(complete(...words)).toEqual(expect.arrayContaining(expected));
  });

  it.each([
    ['an argument too much', ['check', 'x.toml', '']],
    ['a word that nothing begins with', ['xyz']],
    ['the value of an option that can be anything', ['bench', '--seconds', '']],
    ['one of several values of an option', ['mask', 'x.toml', 'e1.0', '--set', 'a', 'b']],
    ['a target of a configuration that is not there', ['mask', '/nonexistent.toml', '']],
    ['what is hidden', ['compl', 'complete', '']],
  ])('offers nothing for %s', (_, words) => {
    expect(complete(...words).filter((word) => word !== ':files')).toEqual([]);
  });

  it('names the targets of the configuration', () => {
    expect(complete('mask', directory.join('aoe.toml'), '')).toEqual(['e1.0']);
    expect(complete('mask', '--json', directory.join('aoe.toml'), 'e2')).toEqual([]);
    expect(complete('drain', '--config', directory.join('aoe.toml'), 'e1.9', '')).toEqual(['e1.0']);
    expect(complete('targets', 'add', '--backend', 'm')).toEqual(['memory']);
  });

  it('does not offer the command that completes', () => {
    expect(complete('comp')).not.toContain('complete');
  });
});

describe('aoe-server completion', () => {
  it('refuses a shell that it does not know', () => {
    const { status, stderr } = run('completion', 'csh');
    expect(status).toBe(2);
    expect(stderr).toContain('bash, zsh, fish');
  });
});

/** Types `keys` into an interactive shell on a terminal; all that is to be seen then. */
function type(shell: string, keys: string): Promise<string> {
  const setUp = `PATH=${directory.join('bin')}:$PATH; cd ${directory.path}\n`;
  return runTool('script', ['-qec', shell, '/dev/null'], { input: `${setUp}${keys}\nexit 0\n` });
}

describeWith(['bash', 'script'], 'completion in bash', () => {
  const source = 'source _aoe-server.bash\n';

  it('completes commands, options and the names of files', async () => {
    const shown = await type(
      'bash --norc --noprofile -i',
      `${source}aoe-server chec\taoe\t\naoe-server disco\t--js\t --help\naoe-server cas lis\tst\t`,
    );
    expect(shown).toContain('e1.0    memory');
    expect(shown).toContain('Usage: aoe-server discover');
    expect(shown).toContain('aoe-server cas list store/');
  });
});

describeWith(['zsh', 'script'], 'completion in zsh', () => {
  it('completes commands and the names of files', async () => {
    const setUp = 'autoload -U compinit; compinit -D -u; source ./_aoe-server.zsh\n';
    const shown = await type('zsh -f -i', `${setUp}aoe-server chec\taoe\t\n`);
    expect(shown).toContain('e1.0    memory');
  });
});

describeWith(['fish'], 'completion in fish', () => {
  it('offers commands with what they do, and the names of files', async () => {
    const ask = (line: string) =>
      runTool('fish', [
        '--no-config',
        '-c',
        `set PATH ${directory.join('bin')} $PATH; cd ${directory.path}
         source _aoe-server.fish; complete -C '${line}'`,
      ]);
    expect(await ask('aoe-server cas sn')).toMatch(/^snapshot\tkeep the present state/);
    expect(await ask('aoe-server check ao')).toMatch(/^aoe\.toml/);
    expect(await ask('aoe-server cas list st')).toMatch(/^store\//);
  });
});
