import { CommanderError } from 'commander';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { reportError } from '../../src/cli/report-error.ts';
import { ConfigError } from '../../src/config/problem.ts';

describe('reportError', () => {
  const printed = vi.spyOn(console, 'error');
  beforeEach(() => {
    printed.mockReset().mockImplementation(() => {});
  });
  afterAll(() => printed.mockRestore());

  it('prints the message and the remedy of an operating error', () => {
    const error = Object.assign(new Error('eth7 is down'), { remedy: 'ip link set eth7 up' });
    expect(reportError(error)).toBe(1);
    expect(printed.mock.calls).toEqual([['aoe-server: eth7 is down'], ['    ip link set eth7 up']]);
  });

  it('prints the problems of a configuration as they are', () => {
    const problem = { line: 1, key: 'a', value: 2, message: 'is wrong', remedy: 'Fix it.' };
    expect(reportError(new ConfigError('f', [problem]))).toBe(3);
    expect(printed.mock.calls).toEqual([['f:1: a = 2 is wrong\n    Fix it.']]);
  });

  it('prints a bug with its stack trace', () => {
    const bug = new TypeError('x is not a function');
    expect(reportError(bug)).toBe(1);
    expect(printed.mock.calls).toEqual([[bug]]);
  });

  it('leaves messages about usage to the command line parser', () => {
    expect(reportError(new CommanderError(1, 'commander.unknownOption', ''))).toBe(2);
    expect(reportError(new CommanderError(0, 'commander.helpDisplayed', ''))).toBe(0);
    expect(printed).not.toHaveBeenCalled();
  });
});
