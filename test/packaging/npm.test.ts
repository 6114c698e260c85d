import { readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { SERVER, TARGET } from '../config/samples.ts';
import { describeWith, disposeAll, run, TempDirectory } from '../support/tools.ts';

// Installing compiles the addon.
vi.setConfig({ hookTimeout: 240_000 });

const REPOSITORY = join(import.meta.dirname, '../..');

/** What users are told to take from the package. */
const SHIPPED = [
  'config.example.toml',
  'dist/dashboard/index.html',
  'dist/dashboard/main.js',
  'dist/dashboard/style.css',
  'docs/CONTROL.md',
  'docs/guides/troubleshooting.md',
  'packaging/aoe-server.service',
  'packaging/aoe-server.sysusers',
  'packaging/aoe-server.tmpfiles',
  'packaging/alerts.yml',
  'packaging/grafana.json',
];

let directory: TempDirectory;

function installed(...names: string[]): string {
  return directory.join('prefix/lib/node_modules/aoe-server', ...names);
}

describeWith(['npm', 'g++', 'man'], 'the npm package', () => {
  beforeAll(async () => {
    directory = await TempDirectory.create();
    // What npm would do before, the build has done: the files are those that it left.
    const pack = ['pack', '--silent', '--ignore-scripts', '--pack-destination', directory.path];
    const archive = (await run('npm', ['--prefix', REPOSITORY, ...pack, REPOSITORY])).trim();
    const prefix = directory.join('prefix');
    const install = ['install', '--global', '--prefer-offline', '--prefix', prefix];
    const args = ['JOBS=max', 'npm', ...install, directory.join(archive)];
    await run('env', args, { timeoutMs: 200_000 });
  });
  afterAll(() => disposeAll(directory));

  it('installs a program that serves from what it has built', async () => {
    const program = directory.join('prefix/bin/aoe-server');
    expect(await run(program, ['--version'])).toMatch(/^\d+\.\d+\.\d+\n$/);
    await writeFile(directory.join('aoe.toml'), SERVER + TARGET);
    expect(await run(program, ['check', directory.join('aoe.toml')])).toContain('e1.0');
    const load = `await import(${JSON.stringify(installed('dist/native.js'))})`;
    await run(process.execPath, ['--input-type=module', '-e', load]);
  });

  it('installs the manual', async () => {
    const man = directory.join('prefix/share/man');
    expect(await readlink(join(man, 'man8/aoe-server.8'))).toContain('dist/man/aoe-server.8');
    const shown = await run('man', ['-M', man, '-P', 'cat', '5', 'aoe-server.toml']);
    expect(shown).toContain('[server]');
  });

  it.each(SHIPPED)('holds %s', async (name) => {
    await run('test', ['-s', installed(name)]);
  });
});
