import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';

const LOG_MODULE = new URL('../dist/log.js', import.meta.url).href;
const SCRIPT = `
  import { createLogger } from '${LOG_MODULE}';
  const log = createLogger('info').child({ target: 'e1.0' });
  log.debug('hidden');
  log.warn({ count: 3 }, 'shown');
  process.exit(0);
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

  it('writes lines to read on a terminal', () => {
    const command = NODE.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8' });
    expect(stdout).toMatch(/WARN.*: .*shown/);
    expect(stdout).toMatch(/target.*: "e1\.0"/);
    expect(stdout).not.toContain('hidden');
  });
});
