import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { TempDirectory } from './support/tools.ts';

const LOG_MODULE = new URL('../dist/log.js', import.meta.url).href;
const SCRIPT = `
  import { createLogger } from '${LOG_MODULE}';
  const log = createLogger('info').child({ target: 'e1.0' });
  log.debug('hidden');
  log.warn({ count: 3 }, 'shown');
  process.exit(0);
`;
const IN_THREAD = `
  import { Worker } from 'node:worker_threads';
  new Worker(new URL(${JSON.stringify(`data:text/javascript,${encodeURIComponent(SCRIPT)}`)}));
`;
const NODE = [process.execPath, '--input-type=module', '--eval', SCRIPT] as const;

describe('createLogger', () => {
  it('writes JSON, one object a line, to standard error that is no terminal', () => {
    const [command, ...args] = NODE;
    const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    expect(stdout).toBe('');
    expect(stderr.split('\n')).toHaveLength(2);
    expect(JSON.parse(stderr)).toEqual({
      level: 'warn',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      target: 'e1.0',
      count: 3,
      msg: 'shown',
    });
  });

  it.each([
    ['', SCRIPT],
    [', in a thread of its own too', IN_THREAD],
  ])('writes lines to read on a terminal%s', (_, program) => {
    const command = [process.execPath, '--input-type=module', '--eval', program].map(quote);
    const shell = ['-qec', command.join(' '), '/dev/null'];
    const { stdout } = spawnSync('script', shell, { encoding: 'utf8' });
    expect(stdout).toMatch(/WARN.*: .*shown/);
    expect(stdout).toMatch(/target.*: "e1\.0"/);
    expect(stdout).not.toContain('hidden');
  });
});

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

describe('a reader of the log that is slow', () => {
  // Much more than a pipe holds.
  const script = `
    import { createLogger } from '${LOG_MODULE}';
    const log = createLogger('info');
    for (let count = 0; count < 3000; count++) log.info({ count }, 'a line of some length');
    console.log('done');
  `;
  /** @param reader of the log; the file "$2" is there when the writer has ended */
  const pipe = async (reader: string) => {
    await using directory = await TempDirectory.create();
    const writer = '"$0" --input-type=module --eval "$1" 2>&1 >&3; : >"$2"';
    const command = `{ { ${writer}; } | { ${reader}; }; } 3>&1`;
    const args = ['-c', command, process.execPath, script, directory.join('ended')];
    return spawnSync('bash', args, { encoding: 'utf8', timeout: 30_000 }).stdout;
  };

  it('misses nothing', async () => {
    expect(await pipe('sleep 0.3; wc -l')).toBe('done\n3000\n');
  }, 40_000);

  it('does not halt who writes it when it takes nothing', async () => {
    expect(await pipe('until [ -e "$2" ]; do sleep 0.1; done; echo end')).toBe('done\nend\n');
  }, 40_000);
});

describe('setLogLevel', () => {
  it('reaches every logger that is in use, and keeps none that is not', () => {
    const script = `
      import { createLogger, setLogLevel } from '${LOG_MODULE}';
      const log = createLogger('info');
      const kept = log.child({ target: 'e1.0' }).child({ part: 1 });
      const dropped = Array.from({ length: 100 }, () => new WeakRef(log.child({ target: 'e1.1' })));
      await new Promise((resolve) => setTimeout(resolve, 10));
      gc();
      console.log(dropped.filter((logger) => logger.deref() !== undefined).length);
      setLogLevel(kept, 'debug');
      log.debug('of all');
      kept.debug('of one');
    `;
    const args = ['--expose-gc', '--input-type=module', '--eval', script];
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect(stdout).toBe('0\n');
    const messages = stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).msg);
    expect(messages).toEqual(['of all', 'of one']);
  });
});
